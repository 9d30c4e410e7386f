// SPDX-License-Identifier: Apache-2.0
// The C calls of every attention package, on DLPack tensors.
#include <kernelhub/abi/kernel.hpp>
#include <optional>

#include "flash_attention/checks.h"
#include "flash_attention_cpu/attention_cpu.h"
#include "primitives/abi_args.h"

namespace kernelhub::flash_attention {
namespace {

using primitives::tensor_arg;
using OptionalTensor = std::optional<const DLTensor*>;

constexpr std::uint64_t kPackageFlags = KH_THREAD_SAFE | KH_UNLOADABLE | KH_NO_GLOBAL_STATE;

OptionalArg optional_arg(const char* name, const OptionalTensor& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return tensor_arg(name, **tensor);
}

primitives::TensorArg backend_arg(const char* op, const char* name, const DLTensor& tensor) {
  const primitives::TensorArg argument = tensor_arg(name, tensor);
  primitives::ArgumentCheck(KERNELHUB_CHECKS_PACKAGE, op)
      .on_backend(argument, kDLCPU, KERNELHUB_PACKAGE_BACKEND);
  return argument;
}

void attention_forward(DLTensor* out, DLTensor* lse, const DLTensor* q, const DLTensor* k,
                       const DLTensor* v, OptionalTensor cu_seqlens_q, OptionalTensor cu_seqlens_k,
                       OptionalTensor seqused_q, OptionalTensor seqused_k, OptionalTensor leftpad_k,
                       OptionalTensor block_table, OptionalTensor cache_batch_idx,
                       OptionalTensor alibi_slopes, OptionalTensor s_aux, OptionalTensor rotary_cos,
                       OptionalTensor rotary_sin, OptionalTensor rotary_seqlens,
                       double softmax_scale, bool causal, std::int64_t window_left,
                       std::int64_t window_right, double softcap, bool rotary_interleaved,
                       std::int64_t num_splits) {
  const Params params = checked_forward({tensor_arg("out", *out),
                                         tensor_arg("lse", *lse),
                                         backend_arg("attention_forward", "q", *q),
                                         tensor_arg("k", *k),
                                         tensor_arg("v", *v),
                                         optional_arg("cu_seqlens_q", cu_seqlens_q),
                                         optional_arg("cu_seqlens_k", cu_seqlens_k),
                                         optional_arg("seqused_q", seqused_q),
                                         optional_arg("seqused_k", seqused_k),
                                         optional_arg("leftpad_k", leftpad_k),
                                         optional_arg("block_table", block_table),
                                         optional_arg("cache_batch_idx", cache_batch_idx),
                                         optional_arg("alibi_slopes", alibi_slopes),
                                         optional_arg("s_aux", s_aux),
                                         optional_arg("rotary_cos", rotary_cos),
                                         optional_arg("rotary_sin", rotary_sin),
                                         optional_arg("rotary_seqlens", rotary_seqlens),
                                         softmax_scale,
                                         causal,
                                         window_left,
                                         window_right,
                                         softcap,
                                         rotary_interleaved,
                                         num_splits});
  cpu::run(params, primitives::host_parallel_for());
}

void append_kv(DLTensor* k_cache, DLTensor* v_cache, const DLTensor* k, const DLTensor* v,
               const DLTensor* cache_seqlens, OptionalTensor cu_seqlens_k_new,
               OptionalTensor block_table, OptionalTensor cache_batch_idx,
               OptionalTensor rotary_cos, OptionalTensor rotary_sin, OptionalTensor rotary_seqlens,
               bool rotary_interleaved) {
  const AppendParams params = checked_append(
      {backend_arg("append_kv", "k_cache", *k_cache), tensor_arg("v_cache", *v_cache),
       tensor_arg("k", *k), tensor_arg("v", *v), tensor_arg("cache_seqlens", *cache_seqlens),
       optional_arg("cu_seqlens_k_new", cu_seqlens_k_new), optional_arg("block_table", block_table),
       optional_arg("cache_batch_idx", cache_batch_idx), optional_arg("rotary_cos", rotary_cos),
       optional_arg("rotary_sin", rotary_sin), optional_arg("rotary_seqlens", rotary_seqlens),
       rotary_interleaved});
  cpu::append(params, primitives::host_parallel_for());
}

}  // namespace
}  // namespace kernelhub::flash_attention

KERNELHUB_FUNCTION(
    attention_forward, &kernelhub::flash_attention::attention_forward,
    "attention_forward(Tensor! out, Tensor! lse, Tensor q, Tensor k, Tensor v, "
    "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? seqused_q, Tensor? seqused_k, "
    "Tensor? leftpad_k, Tensor? block_table, Tensor? cache_batch_idx, Tensor? alibi_slopes, "
    "Tensor? s_aux, Tensor? rotary_cos, Tensor? rotary_sin, Tensor? rotary_seqlens, "
    "float softmax_scale, bool causal, int window_left, int window_right, float softcap, "
    "bool rotary_interleaved, int num_splits) -> ()")
KERNELHUB_FUNCTION(
    append_kv, &kernelhub::flash_attention::append_kv,
    "append_kv(Tensor! k_cache, Tensor! v_cache, Tensor k, Tensor v, Tensor cache_seqlens, "
    "Tensor? cu_seqlens_k_new, Tensor? block_table, Tensor? cache_batch_idx, "
    "Tensor? rotary_cos, Tensor? rotary_sin, Tensor? rotary_seqlens, bool rotary_interleaved) "
    "-> ()")

KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), KERNELHUB_PACKAGE_NAME,
                  KERNELHUB_PACKAGE_VERSION, KERNELHUB_PACKAGE_BACKEND,
                  kernelhub::flash_attention::kPackageFlags, KERNELHUB_ROW(attention_forward),
                  KERNELHUB_ROW(append_kv))
