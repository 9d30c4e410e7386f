// SPDX-License-Identifier: Apache-2.0
// Device and stream of a call that came through the C ABI.
#pragma once

#include <cuda_runtime_api.h>
#include <kernelhub/abi/kernel.hpp>
#include <optional>

#include "primitives/check_cuda.h"

/// Stream that a tvm-ffi process works on. Weak: null where libtvm_ffi is not loaded.
extern "C" void* TVMFFIEnvGetStream(std::int32_t device_type, std::int32_t device_id)
    __attribute__((weak));

namespace kernelhub::primitives {

/// Makes a device current for a scope and restores the one before. Sets none that is current
/// already: a thread's first setting creates the device's context, which takes memory and time.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    int current = 0;
    check(cudaGetDevice(&current));
    if (current == device) return;
    check(cudaSetDevice(device));
    previous_ = current;
  }
  ~DeviceGuard() {
    if (previous_.has_value()) cudaSetDevice(*previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  static void check(cudaError_t status) {
    if (status != cudaSuccess) {
      throw std::runtime_error(std::string("device: expected a usable CUDA device, got ") +
                               cudaGetErrorString(status));
    }
  }

  std::optional<int> previous_;
};

/// Device memory for the work that is launched on a stream before this ends; null for no bytes.
/// Stream-ordered: no synchronisation, and a graph that captures the stream holds it too.
class StreamMemory {
 public:
  StreamMemory(std::int64_t bytes, cudaStream_t stream) : stream_(stream) {
    if (bytes == 0) return;
    const cudaError_t status = cudaMallocAsync(&data_, static_cast<std::size_t>(bytes), stream);
    if (status != cudaSuccess) {
      throw std::runtime_error("device: expected " + std::to_string(bytes) +
                               " bytes of workspace, got " + cudaGetErrorString(status));
    }
  }
  ~StreamMemory() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
  cudaStream_t stream_;
};

/// The host's current stream, else tvm-ffi's, else the default stream.
inline cudaStream_t current_stream(const DLDevice& device) {
  const kh_host* host = abi::host();
  if (host != nullptr && KH_HAS(host, current_stream) && host->current_stream != nullptr) {
    return static_cast<cudaStream_t>(host->current_stream(device.device_type, device.device_id));
  }
  if (TVMFFIEnvGetStream == nullptr) return nullptr;
  return static_cast<cudaStream_t>(TVMFFIEnvGetStream(device.device_type, device.device_id));
}

}  // namespace kernelhub::primitives
