// SPDX-License-Identifier: Apache-2.0
// Argument checks that the bindings of all packages share. Every failure is a std::runtime_error
// "<package>.<op>: <argument> <what>: expected <...>, got <...>".
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "primitives/dtype.h"

namespace kernelhub::primitives {

/// One tensor argument as a binding received it; strides count elements.
struct TensorArg {
  const char* name;
  void* data;
  DTypeCode dtype;
  std::int32_t device_type;  // DLPack: 1 = CPU, 2 = CUDA
  std::int32_t device_index;
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;

  std::int64_t numel() const;
};

/// As checks take an argument that a call may lack: null.
inline const TensorArg* pointer(const std::optional<TensorArg>& argument) {
  return argument.has_value() ? &*argument : nullptr;
}

/// A tensor seen as rows of unit-stride elements: row r starts at r * row_stride.
struct RowLayout {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t row_stride;
};

/// The checks of one call of one op.
class ArgumentCheck {
 public:
  ArgumentCheck(const char* package, const char* op) : package_(package), op_(op) {}

  /// Raises the error text described at the top of this file.
  [[noreturn]] void fail(const std::string& argument, const std::string& what,
                         const std::string& expected, const std::string& got) const;

  /// `argument` has one of the dtypes that the backend supports; fp64 is CPU only.
  DType supported_dtype(const TensorArg& argument) const;
  /// `argument` lies on the only device type that this build has kernels for.
  void on_backend(const TensorArg& argument, std::int32_t device_type, const char* backend) const;
  void same_dtype(const TensorArg& argument, const TensorArg& reference) const;
  void same_device(const TensorArg& argument, const TensorArg& reference) const;
  void shape(const TensorArg& argument, const std::vector<std::int64_t>& expected) const;

  /// Collapses the leading dimensions to one row stride, or fails: the last stride must be 1.
  RowLayout rows(const TensorArg& argument) const;

  /// As `rows`; also no two elements may share memory.
  RowLayout writable_rows(const TensorArg& argument) const;

  /// `out` and `input` share no element, or are exactly the same elements (`may_alias`).
  enum class Alias { kForbidden, kExact };
  void overlap(const TensorArg& out, const RowLayout& out_rows, const TensorArg& input,
               const RowLayout& input_rows, Alias alias) const;

 private:
  std::string package_;
  std::string op_;
};

/// "[2, 3]"
std::string list_text(const std::vector<std::int64_t>& values);
/// "cpu", "cuda:1"
std::string device_text(const TensorArg& argument);

}  // namespace kernelhub::primitives
