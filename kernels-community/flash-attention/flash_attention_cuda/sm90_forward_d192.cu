// SPDX-License-Identifier: Apache-2.0
#include "flash_attention_cuda/sm90_kernels.cuh"

namespace kernelhub::flash_attention::cuda {

const ForwardKernel kSm90Bf16Dim192 = sm90_forward_kernel_of<__nv_bfloat16, Sm90Tile::kDim192>();
const ForwardKernel kSm90Fp16Dim192 = sm90_forward_kernel_of<__half, Sm90Tile::kDim192>();
const ForwardKernel kSm90Bf16Dim192V128 =
    sm90_forward_kernel_of<__nv_bfloat16, Sm90Tile::kDim192V128>();
const ForwardKernel kSm90Fp16Dim192V128 = sm90_forward_kernel_of<__half, Sm90Tile::kDim192V128>();

}  // namespace kernelhub::flash_attention::cuda
