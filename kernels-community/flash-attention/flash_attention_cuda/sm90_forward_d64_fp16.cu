// SPDX-License-Identifier: Apache-2.0
#include "flash_attention_cuda/sm90_kernels.cuh"

namespace kernelhub::flash_attention::cuda {

const ForwardKernel kSm90Fp16Dim64 = sm90_forward_kernel_of<__half, 64>();

}  // namespace kernelhub::flash_attention::cuda
