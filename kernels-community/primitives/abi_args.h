// SPDX-License-Identifier: Apache-2.0
// DLTensor -> TensorArg, the host's thread pool for compute code, and what every package of a
// backend says of itself.
#pragma once

#include <kernelhub/abi/kernel.hpp>

#include "primitives/parallel_for.h"
#include "primitives/tensor_check.h"

namespace kernelhub::primitives {

#if defined(CPU_KERNEL)
constexpr std::int32_t kDeviceType = kDLCPU;
constexpr std::uint64_t kPackageFlags = KH_THREAD_SAFE | KH_UNLOADABLE | KH_NO_GLOBAL_STATE;
#elif defined(CUDA_KERNEL)
constexpr std::int32_t kDeviceType = kDLCUDA;
constexpr std::uint64_t kPackageFlags =
    KH_THREAD_SAFE | KH_STREAM_AWARE | KH_GRAPH_SAFE | KH_NO_GLOBAL_STATE;
#endif

/// Borrows the tensor's memory; the result must not outlive the call.
inline TensorArg tensor_arg(const char* name, const DLTensor& tensor) {
  const auto rank = static_cast<std::size_t>(tensor.ndim);
  TensorArg arg{name,
                static_cast<char*>(tensor.data) + tensor.byte_offset,
                {tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes},
                static_cast<std::int32_t>(tensor.device.device_type),
                tensor.device.device_id,
                {tensor.shape, rank},
                {tensor.strides, rank},
                {}};
  if (tensor.strides != nullptr || rank == 0) return arg;
  const std::shared_ptr<std::int64_t[]> strides(new std::int64_t[rank]);
  std::int64_t stride = 1;
  for (std::size_t i = rank; i-- > 0;) {
    strides[i] = stride;
    stride *= arg.sizes[i];
  }
  arg.strides = {strides.get(), rank};
  arg.dense_strides = strides;
  return arg;
}

template <class Tensor>
std::optional<TensorArg> optional_arg(const char* name, const std::optional<Tensor*>& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return tensor_arg(name, **tensor);
}

/// The pool of the process that loaded the package; the calling thread where it offers none.
inline ParallelFor host_parallel_for() {
  const kh_host* host = abi::host();
  const bool has_pool = host != nullptr && KH_HAS(host, parallel_for);
  return {has_pool ? host->parallel_for : nullptr};
}

}  // namespace kernelhub::primitives
