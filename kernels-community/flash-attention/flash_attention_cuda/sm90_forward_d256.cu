// SPDX-License-Identifier: Apache-2.0
#include "flash_attention_cuda/sm90_kernels.cuh"

namespace kernelhub::flash_attention::cuda {

const ForwardKernel kSm90Bf16Dim256 = sm90_forward_kernel_of<__nv_bfloat16, Sm90Tile::kDim256>();
const ForwardKernel kSm90Fp16Dim256 = sm90_forward_kernel_of<__half, Sm90Tile::kDim256>();

}  // namespace kernelhub::flash_attention::cuda
