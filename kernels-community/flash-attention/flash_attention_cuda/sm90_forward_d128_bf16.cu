// SPDX-License-Identifier: Apache-2.0
#include "flash_attention_cuda/sm90_kernels.cuh"

namespace kernelhub::flash_attention::cuda {

const ForwardKernel kSm90Bf16Dim128 = sm90_forward_kernel_of<__nv_bfloat16, 128>();

}  // namespace kernelhub::flash_attention::cuda
