// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// Reader of safetensors files: one read-only mapping, tensors are views into it.
///
///   auto weights = kernelhub::SafetensorsFile::open("model.safetensors");
///   at::Tensor query = weights.tensor("encoder.layer.0.attention.self.query.weight");
namespace kernelhub {

/// One entry of the header, checked.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;                // as written: "F32", "BF16", "F8_E4M3", ...
  std::vector<std::int64_t> shape;  // as written; empty for a scalar
  std::uint64_t begin = 0;          // bytes from the start of the data
  std::uint64_t end = 0;
};

struct SafetensorsOptions {
  /// Accept bytes after the last tensor; some old public checkpoints carry four.
  bool allow_trailing = false;
};

/// An open file. Copies share the mapping; tensors taken from it keep the mapping alive after the
/// last copy is gone. All members may be called from any thread.
class KERNELHUB_API SafetensorsFile {
 public:
  /// Maps `path` and checks the whole header (models spec 7): sizes, offsets without hole or
  /// overlap, dtypes, shapes. Reads no tensor data. Blocks on disk.
  /// Throws LayerError kInvalidSafetensors naming file, tensor and reason; Error kIo.
  static SafetensorsFile open(const std::filesystem::path& path,
                              const SafetensorsOptions& options = {});

  /// Entries in the order of their bytes in the file.
  const std::vector<SafetensorsEntry>& entries() const noexcept;
  /// The `__metadata__` strings; empty when there are none.
  const std::map<std::string, std::string>& metadata() const noexcept;
  bool has(std::string_view name) const noexcept;
  /// CPU tensor of the entry: a view of the mapping, which is read-only (writing into it ends the
  /// process; clone() first), or a copy where the offset is not aligned to the dtype. F4 has half
  /// the last dim (two values per element), F6 is raw bytes `[size]`.
  /// Throws LayerError kInvalidArgument with near names when there is no such tensor.
  at::Tensor tensor(std::string_view name) const;
  const std::filesystem::path& path() const noexcept;

 private:
  struct State;
  explicit SafetensorsFile(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace kernelhub
