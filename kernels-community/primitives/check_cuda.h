// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>
#include <stdexcept>
#include <string>

namespace kernelhub::primitives {

/// Throws std::runtime_error when a launch failed, by what the launch itself returned; the text
/// names the op, its shape and the device's architecture. `rows` and `cols` are those of the
/// output. Does not synchronise. The runtime also keeps the last error of a thread until somebody
/// takes it: this takes the one that it throws, and leaves every other to whom it belongs.
inline void check_launch(const char* package, const char* op, std::int64_t rows, std::int64_t cols,
                         cudaError_t status) {
  if (status == cudaSuccess) return;
  if (cudaPeekAtLastError() == status) static_cast<void>(cudaGetLastError());
  int device = 0;
  int major = 0;
  int minor = 0;
  const bool is_known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess;
  throw std::runtime_error(
      std::string(package) + "." + op + ": launch of shape [" + std::to_string(rows) + ", " +
      std::to_string(cols) + "] on " +
      (is_known ? "sm_" + std::to_string(major * 10 + minor) : std::string("an unknown device")) +
      ": expected success, got " + cudaGetErrorString(status));
}

}  // namespace kernelhub::primitives
