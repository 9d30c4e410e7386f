// SPDX-License-Identifier: Apache-2.0
// The torch ops of every attention package; the Python functions of each are written over them.
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include <optional>

#include "binding/call_arguments.h"
#include "primitives/torch_args.h"

#if defined(CPU_KERNEL)
#include "flash_attention_cpu/attention_cpu.h"
#elif defined(CUDA_KERNEL)
#include <torch/csrc/stable/ops.h>

#include "flash_attention_cuda/attention_cuda.h"
#include "flash_attention_cuda/check_status.h"
#include "primitives/torch_cuda.h"
#endif

namespace kernelhub::flash_attention {
namespace {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

struct Describe {
  primitives::TensorArg operator()(const char* name, const Tensor& tensor) const {
    return primitives::tensor_arg(name, tensor);
  }
  OptionalArg operator()(const char* name, const OptionalTensor& tensor) const {
    return primitives::optional_arg(name, tensor);
  }
};
constexpr Describe describe;

#if defined(CPU_KERNEL)
void compute(const Params& params, const Tensor&) {
  cpu::run(params, primitives::torch_parallel_for());
}

void compute(const AppendParams& params, const Tensor&) {
  cpu::append(params, primitives::torch_parallel_for());
}

void compute(const CacheParams& params, const Tensor& q) {
  compute(params.append, q);
  compute(params.forward, q);
}
#elif defined(CUDA_KERNEL)
std::optional<Tensor> allocate(std::int64_t size_bytes, const Tensor& like) {
  if (size_bytes == 0) return std::nullopt;
  return torch::stable::new_empty(like, {size_bytes / std::int64_t{sizeof(float)}},
                                  torch::headeronly::ScalarType::Float);
}

void launch(const cuda::Forward& forward, const std::optional<Tensor>& workspace, const Tensor& q) {
  cuda::check_status(KERNELHUB_CHECKS_PACKAGE, "attention_forward", q.size(0), q.size(-1),
                     cuda::launch(forward, workspace ? workspace->data_ptr() : nullptr,
                                  primitives::current_stream(q)));
}

void launch(const AppendParams& params, const Tensor& k_cache) {
  cuda::check_status(KERNELHUB_CHECKS_PACKAGE, "append_kv", params.batch, params.head_dim,
                     cuda::launch_append(params, primitives::current_stream(k_cache)));
}

void compute(const Params& params, const Tensor& q) {
  const torch::stable::accelerator::DeviceGuard guard(q.get_device_index());
  const cuda::Forward forward = cuda::plan(params);
  launch(forward, allocate(cuda::workspace_bytes(forward), q), q);
}

void compute(const AppendParams& params, const Tensor& k_cache) {
  const torch::stable::accelerator::DeviceGuard guard(k_cache.get_device_index());
  launch(params, k_cache);
}

void compute(const CacheParams& params, const Tensor& q) {
  const torch::stable::accelerator::DeviceGuard guard(q.get_device_index());
  const cuda::Forward forward = cuda::plan(params.forward);
  const std::optional<Tensor> workspace = allocate(cuda::workspace_bytes(forward), q);
  launch(params.append, q);
  launch(forward, workspace, q);
}
#endif

void attention_forward(Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                       OptionalTensor cu_seqlens_q, OptionalTensor cu_seqlens_k,
                       OptionalTensor seqused_q, OptionalTensor seqused_k, OptionalTensor leftpad_k,
                       OptionalTensor block_table, OptionalTensor cache_batch_idx,
                       OptionalTensor alibi_slopes, OptionalTensor s_aux, OptionalTensor rotary_cos,
                       OptionalTensor rotary_sin, OptionalTensor rotary_seqlens,
                       double softmax_scale, bool causal, std::int64_t window_left,
                       std::int64_t window_right, double softcap, bool rotary_interleaved,
                       std::int64_t num_splits) {
  compute(
      checked_forward(forward_arguments(
          describe, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, seqused_q, seqused_k, leftpad_k,
          block_table, cache_batch_idx, alibi_slopes, s_aux, rotary_cos, rotary_sin, rotary_seqlens,
          {softmax_scale, causal, window_left, window_right, softcap, rotary_interleaved,
           num_splits})),
      q);
}

void append_kv(Tensor k_cache, Tensor v_cache, Tensor k, Tensor v, Tensor cache_seqlens,
               OptionalTensor cu_seqlens_k_new, OptionalTensor block_table,
               OptionalTensor cache_batch_idx, OptionalTensor rotary_cos, OptionalTensor rotary_sin,
               OptionalTensor rotary_seqlens, bool rotary_interleaved) {
  compute(checked_append(append_arguments(
              describe, k_cache, v_cache, k, v, cache_seqlens, cu_seqlens_k_new, block_table,
              cache_batch_idx, rotary_cos, rotary_sin, rotary_seqlens, rotary_interleaved)),
          k_cache);
}

void attention_with_cache(Tensor out, Tensor lse, Tensor k_cache, Tensor v_cache, Tensor q,
                          Tensor k, Tensor v, Tensor cache_seqlens, OptionalTensor cu_seqlens_k_new,
                          OptionalTensor cu_seqlens_q, Tensor seqused_k, OptionalTensor leftpad_k,
                          OptionalTensor block_table, OptionalTensor cache_batch_idx,
                          OptionalTensor alibi_slopes, OptionalTensor s_aux,
                          OptionalTensor rotary_cos, OptionalTensor rotary_sin,
                          OptionalTensor rotary_seqlens, double softmax_scale, bool causal,
                          std::int64_t window_left, std::int64_t window_right, double softcap,
                          bool rotary_interleaved, std::int64_t num_splits) {
  const AppendArguments append = append_arguments(
      describe, k_cache, v_cache, k, v, cache_seqlens, cu_seqlens_k_new, block_table,
      cache_batch_idx, rotary_cos, rotary_sin, rotary_seqlens, rotary_interleaved);
  const ForwardArguments forward = forward_arguments(
      describe, out, lse, q, k_cache, v_cache, cu_seqlens_q, OptionalTensor(), OptionalTensor(),
      OptionalTensor(seqused_k), leftpad_k, block_table, cache_batch_idx, alibi_slopes, s_aux,
      rotary_cos, rotary_sin, rotary_seqlens,
      {softmax_scale, causal, window_left, window_right, softcap, rotary_interleaved, num_splits});
  compute(checked_cache(append, forward), q);
}

}  // namespace
}  // namespace kernelhub::flash_attention

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, m) {
  m.def(
      "attention_forward(Tensor! out, Tensor! lse, Tensor q, Tensor k, Tensor v, "
      "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? seqused_q, Tensor? seqused_k, "
      "Tensor? leftpad_k, Tensor? block_table, Tensor? cache_batch_idx, Tensor? alibi_slopes, "
      "Tensor? s_aux, Tensor? rotary_cos, Tensor? rotary_sin, Tensor? rotary_seqlens, "
      "float softmax_scale, bool causal, int window_left, int window_right, float softcap, "
      "bool rotary_interleaved, int num_splits) -> ()");
  m.def(
      "append_kv(Tensor! k_cache, Tensor! v_cache, Tensor k, Tensor v, Tensor cache_seqlens, "
      "Tensor? cu_seqlens_k_new, Tensor? block_table, Tensor? cache_batch_idx, "
      "Tensor? rotary_cos, Tensor? rotary_sin, Tensor? rotary_seqlens, bool rotary_interleaved) "
      "-> ()");
  m.def(
      "attention_with_cache(Tensor! out, Tensor! lse, Tensor! k_cache, Tensor! v_cache, Tensor q, "
      "Tensor k, Tensor v, Tensor cache_seqlens, Tensor? cu_seqlens_k_new, Tensor? cu_seqlens_q, "
      "Tensor seqused_k, Tensor? leftpad_k, Tensor? block_table, Tensor? cache_batch_idx, "
      "Tensor? alibi_slopes, Tensor? s_aux, Tensor? rotary_cos, Tensor? rotary_sin, "
      "Tensor? rotary_seqlens, float softmax_scale, bool causal, int window_left, "
      "int window_right, float softcap, bool rotary_interleaved, int num_splits) -> ()");
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("attention_forward", TORCH_BOX(&kernelhub::flash_attention::attention_forward));
  m.impl("append_kv", TORCH_BOX(&kernelhub::flash_attention::append_kv));
  m.impl("attention_with_cache", TORCH_BOX(&kernelhub::flash_attention::attention_with_cache));
}
#elif defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, m) {
  m.impl("attention_forward", TORCH_BOX(&kernelhub::flash_attention::attention_forward));
  m.impl("append_kv", TORCH_BOX(&kernelhub::flash_attention::append_kv));
  m.impl("attention_with_cache", TORCH_BOX(&kernelhub::flash_attention::attention_with_cache));
}
#endif

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
