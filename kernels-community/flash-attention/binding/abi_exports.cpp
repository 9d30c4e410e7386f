// SPDX-License-Identifier: Apache-2.0
// The C calls of every attention package, on DLPack tensors.
#include <kernelhub/abi/kernel.hpp>
#include <optional>

#include "binding/call_arguments.h"
#include "primitives/abi_args.h"

#if defined(CPU_KERNEL)
#include "flash_attention_cpu/attention_cpu.h"
#elif defined(CUDA_KERNEL)
#include <memory>

#include "flash_attention_cuda/attention_cuda.h"
#include "flash_attention_cuda/check_status.h"
#include "primitives/abi_cuda.h"
#endif

namespace kernelhub::flash_attention {
namespace {

using OptionalTensor = std::optional<const DLTensor*>;

struct Describe {
  primitives::TensorArg operator()(const char* name, const DLTensor& tensor) const {
    return primitives::tensor_arg(name, tensor);
  }
  OptionalArg operator()(const char* name, const OptionalTensor& tensor) const {
    return primitives::optional_arg(name, tensor);
  }
};
constexpr Describe describe;

#if defined(CPU_KERNEL)
void compute(const Params& params, const DLTensor&) {
  cpu::run(params, primitives::host_parallel_for());
}

void compute(const AppendParams& params, const DLTensor&) {
  cpu::append(params, primitives::host_parallel_for());
}

void compute(const CacheParams& params, const DLTensor& q) {
  compute(params.append, q);
  compute(params.forward, q);
}
#elif defined(CUDA_KERNEL)
struct TensorDeleter {
  void operator()(DLManagedTensorVersioned* tensor) const noexcept {
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  }
};
using ManagedTensor = std::unique_ptr<DLManagedTensorVersioned, TensorDeleter>;

/// fp32 memory of the host's allocator, for work on the current stream; null where it has none.
ManagedTensor allocate_floats(std::int64_t count, const DLDevice& device) {
  const kh_host* host = abi::host();
  if (host == nullptr || !KH_HAS(host, alloc) || host->alloc == nullptr) return nullptr;
  DLTensor like{};
  like.device = device;
  like.ndim = 1;
  like.dtype = {kDLFloat, 32, 1};
  like.shape = &count;
  DLManagedTensorVersioned* tensor = nullptr;
  if (host->alloc(&like, &tensor) != 0) return nullptr;
  return ManagedTensor(tensor);
}

/// A planned call and its workspace.
struct Prepared {
  cuda::Forward forward;
  ManagedTensor workspace;  // may be null
};

/// Where the host allocates no memory, keys are not split and works are dealt out.
Prepared prepare(const char* op, Params params, const DLTensor& q) {
  Prepared prepared{cuda::plan(params), nullptr};
  const std::int64_t size_bytes = cuda::workspace_bytes(prepared.forward);
  if (size_bytes == 0) return prepared;
  prepared.workspace =
      allocate_floats(size_bytes / static_cast<std::int64_t>(sizeof(float)), q.device);
  if (prepared.workspace != nullptr) return prepared;
  if (params.num_splits > 1) {
    primitives::ArgumentCheck(KERNELHUB_CHECKS_PACKAGE, op)
        .fail("num_splits", "value", "0 or 1 where the host allocates no memory",
              std::to_string(params.num_splits));
  }
  params.num_splits = 1;
  prepared.forward = cuda::plan(params);
  return prepared;
}

void launch(const Prepared& prepared, const DLTensor& q) {
  void* memory = prepared.workspace == nullptr ? nullptr : prepared.workspace->dl_tensor.data;
  cuda::check_status(KERNELHUB_CHECKS_PACKAGE, "attention_forward", q.shape[0], q.shape[q.ndim - 1],
                     cuda::launch(prepared.forward, memory, primitives::current_stream(q.device)));
}

void launch(const AppendParams& params, const DLTensor& k_cache) {
  cuda::check_status(KERNELHUB_CHECKS_PACKAGE, "append_kv", params.batch, params.head_dim,
                     cuda::launch_append(params, primitives::current_stream(k_cache.device)));
}

void compute(const Params& params, const DLTensor& q) {
  const primitives::DeviceGuard guard(q.device.device_id);
  launch(prepare("attention_forward", params, q), q);
}

void compute(const AppendParams& params, const DLTensor& k_cache) {
  const primitives::DeviceGuard guard(k_cache.device.device_id);
  launch(params, k_cache);
}

void compute(const CacheParams& params, const DLTensor& q) {
  const primitives::DeviceGuard guard(q.device.device_id);
  const Prepared prepared = prepare("attention_with_cache", params.forward, q);
  launch(params.append, q);
  launch(prepared, q);
}
#endif

void require_backend(const char* op, const primitives::TensorArg& argument) {
  primitives::ArgumentCheck(KERNELHUB_CHECKS_PACKAGE, op)
      .on_backend(argument, primitives::kDeviceType, KERNELHUB_PACKAGE_BACKEND);
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
  const ForwardArguments arguments = forward_arguments(
      describe, *out, *lse, *q, *k, *v, cu_seqlens_q, cu_seqlens_k, seqused_q, seqused_k, leftpad_k,
      block_table, cache_batch_idx, alibi_slopes, s_aux, rotary_cos, rotary_sin, rotary_seqlens,
      {softmax_scale, causal, window_left, window_right, softcap, rotary_interleaved, num_splits});
  require_backend("attention_forward", arguments.q);
  compute(checked_forward(arguments), *q);
}

void append_kv(DLTensor* k_cache, DLTensor* v_cache, const DLTensor* k, const DLTensor* v,
               const DLTensor* cache_seqlens, OptionalTensor cu_seqlens_k_new,
               OptionalTensor block_table, OptionalTensor cache_batch_idx,
               OptionalTensor rotary_cos, OptionalTensor rotary_sin, OptionalTensor rotary_seqlens,
               bool rotary_interleaved) {
  const AppendArguments arguments = append_arguments(
      describe, *k_cache, *v_cache, *k, *v, *cache_seqlens, cu_seqlens_k_new, block_table,
      cache_batch_idx, rotary_cos, rotary_sin, rotary_seqlens, rotary_interleaved);
  require_backend("append_kv", arguments.k_cache);
  compute(checked_append(arguments), *k_cache);
}

void attention_with_cache(DLTensor* out, DLTensor* lse, DLTensor* k_cache, DLTensor* v_cache,
                          const DLTensor* q, const DLTensor* k, const DLTensor* v,
                          const DLTensor* cache_seqlens, OptionalTensor cu_seqlens_k_new,
                          OptionalTensor cu_seqlens_q, const DLTensor* seqused_k,
                          OptionalTensor leftpad_k, OptionalTensor block_table,
                          OptionalTensor cache_batch_idx, OptionalTensor alibi_slopes,
                          OptionalTensor s_aux, OptionalTensor rotary_cos,
                          OptionalTensor rotary_sin, OptionalTensor rotary_seqlens,
                          double softmax_scale, bool causal, std::int64_t window_left,
                          std::int64_t window_right, double softcap, bool rotary_interleaved,
                          std::int64_t num_splits) {
  const AppendArguments append = append_arguments(
      describe, *k_cache, *v_cache, *k, *v, *cache_seqlens, cu_seqlens_k_new, block_table,
      cache_batch_idx, rotary_cos, rotary_sin, rotary_seqlens, rotary_interleaved);
  const ForwardArguments forward = forward_arguments(
      describe, *out, *lse, *q, *k_cache, *v_cache, cu_seqlens_q, OptionalTensor(),
      OptionalTensor(), OptionalTensor(seqused_k), leftpad_k, block_table, cache_batch_idx,
      alibi_slopes, s_aux, rotary_cos, rotary_sin, rotary_seqlens,
      {softmax_scale, causal, window_left, window_right, softcap, rotary_interleaved, num_splits});
  require_backend("attention_with_cache", forward.q);
  compute(checked_cache(append, forward), *q);
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
KERNELHUB_FUNCTION(
    attention_with_cache, &kernelhub::flash_attention::attention_with_cache,
    "attention_with_cache(Tensor! out, Tensor! lse, Tensor! k_cache, Tensor! v_cache, Tensor q, "
    "Tensor k, Tensor v, Tensor cache_seqlens, Tensor? cu_seqlens_k_new, Tensor? cu_seqlens_q, "
    "Tensor seqused_k, Tensor? leftpad_k, Tensor? block_table, Tensor? cache_batch_idx, "
    "Tensor? alibi_slopes, Tensor? s_aux, Tensor? rotary_cos, Tensor? rotary_sin, "
    "Tensor? rotary_seqlens, float softmax_scale, bool causal, int window_left, "
    "int window_right, float softcap, bool rotary_interleaved, int num_splits) -> ()")

KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), KERNELHUB_PACKAGE_NAME,
                  KERNELHUB_PACKAGE_VERSION, KERNELHUB_PACKAGE_BACKEND,
                  kernelhub::primitives::kPackageFlags, KERNELHUB_ROW(attention_forward),
                  KERNELHUB_ROW(append_kv), KERNELHUB_ROW(attention_with_cache))
