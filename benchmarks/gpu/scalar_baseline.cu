// SPDX-License-Identifier: Apache-2.0
// What a plain kernel costs: one block per row, one scalar load and store per element, fp32 libm.
// The baseline of the activation benchmarks; it ships in no package.
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

namespace {

enum Op : int { kSilu, kGelu, kGeluTanh, kGeluQuick, kCopy };

__device__ float activate(int op, float x) {
  switch (op) {
    case kSilu:
      return x / (1.0f + expf(-x));
    case kGelu:
      return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case kGeluQuick:
      return x / (1.0f + expf(-1.702f * x));
    default:
      return x;
  }
}

template <class T>
__global__ void scalar_kernel(int op, bool is_gated, T* out, const T* in, std::int64_t cols) {
  const T* row = in + std::int64_t{blockIdx.x} * cols * (is_gated ? 2 : 1);
  for (std::int64_t col = threadIdx.x; col < cols; col += blockDim.x) {
    const float act = activate(op, static_cast<float>(row[col]));
    out[std::int64_t{blockIdx.x} * cols + col] =
        static_cast<T>(is_gated ? act * static_cast<float>(row[cols + col]) : act);
  }
}

__global__ void empty_kernel() {}

template <class T>
void launch(int op, bool is_gated, void* out, const void* in, std::int64_t rows, std::int64_t cols,
            cudaStream_t stream) {
  const unsigned threads = cols < 1024 ? static_cast<unsigned>(cols) : 1024u;
  scalar_kernel<<<static_cast<unsigned>(rows), threads, 0, stream>>>(
      op, is_gated, static_cast<T*>(out), static_cast<const T*>(in), cols);
}

}  // namespace

/// dtype: 0 fp32, 1 fp16, 2 bf16. Returns the launch's status.
extern "C" int scalar_activation(int op, int is_gated, int dtype, void* out, const void* in,
                                 std::int64_t rows, std::int64_t cols, void* stream) {
  auto* on = static_cast<cudaStream_t>(stream);
  if (dtype == 0) launch<float>(op, is_gated != 0, out, in, rows, cols, on);
  if (dtype == 1) launch<__half>(op, is_gated != 0, out, in, rows, cols, on);
  if (dtype == 2) launch<__nv_bfloat16>(op, is_gated != 0, out, in, rows, cols, on);
  return cudaGetLastError();
}

extern "C" int empty_launch(void* stream) {
  empty_kernel<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>();
  return cudaGetLastError();
}
