// SPDX-License-Identifier: Apache-2.0
// torch::stable::Tensor -> TensorArg, and torch's thread pool and streams for compute code.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/stableivalue_conversions.h>
#include <torch/csrc/stable/tensor.h>

#include <memory>
#include <string_view>
#include <type_traits>
#include <vector>

#include "primitives/parallel_for.h"
#include "primitives/tensor_check.h"

namespace kernelhub::primitives {

inline DTypeCode dtype_code(torch::headeronly::ScalarType type) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Float:
      return {DTypeCode::kFloat, 32, 1};
    case ScalarType::Half:
      return {DTypeCode::kFloat, 16, 1};
    case ScalarType::BFloat16:
      return {DTypeCode::kBFloat, 16, 1};
    case ScalarType::Double:
      return {DTypeCode::kFloat, 64, 1};
    case ScalarType::Byte:
      return {DTypeCode::kUInt, 8, 1};
    case ScalarType::Char:
      return {DTypeCode::kInt, 8, 1};
    case ScalarType::Short:
      return {DTypeCode::kInt, 16, 1};
    case ScalarType::Int:
      return {DTypeCode::kInt, 32, 1};
    case ScalarType::Long:
      return {DTypeCode::kInt, 64, 1};
    case ScalarType::Bool:
      return {DTypeCode::kBool, 8, 1};
    case ScalarType::ComplexFloat:
      return {DTypeCode::kComplex, 64, 1};
    case ScalarType::ComplexDouble:
      return {DTypeCode::kComplex, 128, 1};
    default:
      return {DTypeCode::kOther, 0, 1};
  }
}

/// Borrows the tensor's memory; the result must not outlive the call. `data` may be written only
/// for arguments that the schema marks with `!`.
inline TensorArg tensor_arg(const char* name, const torch::stable::Tensor& tensor) {
  const auto sizes = tensor.sizes();
  const std::int32_t device_type = tensor.is_cpu() ? 1 : tensor.is_cuda() ? 2 : -1;
  return {name,
          tensor.data_ptr(),
          dtype_code(tensor.scalar_type()),
          device_type,
          tensor.get_device_index(),
          {sizes.data(), sizes.size()},
          {tensor.strides().data(), sizes.size()},
          {}};
}

inline std::optional<TensorArg> optional_arg(const char* name,
                                             const std::optional<torch::stable::Tensor>& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return tensor_arg(name, *tensor);
}

/// A str argument. What torch's headers make of one, a std::string, is a copy that nobody frees.
class Text {
 public:
  explicit Text(StringHandle handle) : handle_(handle, &release) {}

  std::string_view view() const {
    std::size_t length = 0;
    const char* data = nullptr;
    TORCH_ERROR_CODE_CHECK(torch_string_length(handle_.get(), &length));
    TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle_.get(), &data));
    return {data, length};
  }

 private:
  static void release(StringHandle handle) { torch_delete_string(handle); }

  std::unique_ptr<std::remove_pointer_t<StringHandle>, void (*)(StringHandle)> handle_;
};

/// A new contiguous tensor on the device of `like`. Of host memory it comes without a passage
/// through the dispatcher, which takes longer than a small call's work.
inline torch::stable::Tensor new_tensor(const torch::stable::Tensor& like, Extents sizes,
                                        torch::headeronly::ScalarType dtype) {
  constexpr std::size_t kUsualRank = 8;
  std::int64_t usual[kUsualRank];
  std::vector<std::int64_t> unusual(sizes.size() > kUsualRank ? sizes.size() : 0);
  std::int64_t* strides = unusual.empty() ? usual : unusual.data();
  std::int64_t stride = 1;
  for (std::size_t i = sizes.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= sizes[i] > 1 ? sizes[i] : 1;
  }
  std::int32_t device_type = 0;
  std::int32_t device_index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<std::int64_t>(sizes.size()), sizes.begin(), strides,
      torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(dtype)), device_type,
      device_index, &handle));
  return torch::stable::Tensor(handle);
}

inline Extents sizes_of(const torch::stable::Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return {sizes.data(), sizes.size()};
}

/// `tensor` itself where it is contiguous, else a copy that is.
inline torch::stable::Tensor as_contiguous(const torch::stable::Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}
inline std::optional<torch::stable::Tensor> as_contiguous(
    const std::optional<torch::stable::Tensor>& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return as_contiguous(*tensor);
}

/// torch's own intra-op pool: `torch.set_num_threads` holds for the kernels too.
inline ParallelFor torch_parallel_for() {
  return {[](std::int64_t begin, std::int64_t end, std::int64_t grain, ParallelFor::Body body,
             void* context) {
    torch::stable::parallel_for(
        begin, end, grain,
        [body, context](std::int64_t first, std::int64_t last) { body(context, first, last); });
  }};
}

}  // namespace kernelhub::primitives

/// So that ops may take primitives::Text.
template <>
struct torch::stable::detail::ToImpl<kernelhub::primitives::Text> {
  static kernelhub::primitives::Text call(StableIValue value, std::uint64_t, bool) {
    return kernelhub::primitives::Text(to<StringHandle>(value));
  }
};
