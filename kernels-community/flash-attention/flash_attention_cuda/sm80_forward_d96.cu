// SPDX-License-Identifier: Apache-2.0
#include "flash_attention_cuda/sm80_kernels.cuh"

namespace kernelhub::flash_attention::cuda {

const ForwardKernels kSm80Bf16Dim96 = sm80_forward_kernels<__nv_bfloat16, 96>();
const ForwardKernels kSm80Fp16Dim96 = sm80_forward_kernels<__half, 96>();

}  // namespace kernelhub::flash_attention::cuda
