// SPDX-License-Identifier: Apache-2.0
#include "flash_attention_cuda/sm80_kernels.cuh"

namespace kernelhub::flash_attention::cuda {

const ForwardKernels kSm80Bf16Dim256 = sm80_forward_kernels<__nv_bfloat16, 256>();

}  // namespace kernelhub::flash_attention::cuda
