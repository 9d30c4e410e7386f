// SPDX-License-Identifier: Apache-2.0
// torch::stable::Tensor -> TensorArg, and torch's thread pool and streams for compute code.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

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
  const auto strides = tensor.strides();
  const std::int32_t device_type = tensor.is_cpu() ? 1 : tensor.is_cuda() ? 2 : -1;
  return {name,
          tensor.data_ptr(),
          dtype_code(tensor.scalar_type()),
          device_type,
          tensor.get_device_index(),
          {sizes.begin(), sizes.end()},
          {strides.begin(), strides.end()}};
}

inline std::optional<TensorArg> optional_arg(const char* name,
                                             const std::optional<torch::stable::Tensor>& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return tensor_arg(name, *tensor);
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
