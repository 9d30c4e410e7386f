// SPDX-License-Identifier: Apache-2.0
#include "registration.h"

#include <torch/csrc/stable/library.h>

#include <optional>

#include "primitives/torch_args.h"
#include "rotary/checks.h"

#if defined(CPU_KERNEL)
#include "rotary_cpu/rotary_cpu.h"
#elif defined(CUDA_KERNEL)
#include "primitives/torch_cuda.h"
#include "rotary_cuda/rotary_cuda.h"
#endif

namespace kernelhub::rotary {
namespace {

using primitives::optional_arg;
using primitives::pointer;
using primitives::tensor_arg;
using primitives::TensorArg;
using primitives::TensorHandle;

void compute([[maybe_unused]] const char* op, const Params& params,
             [[maybe_unused]] const TensorArg& x) {
  if (params.count == 0) return;
#if defined(CPU_KERNEL)
  cpu::run(params, primitives::torch_parallel_for());
#elif defined(CUDA_KERNEL)
  const torch::stable::accelerator::DeviceGuard guard(x.device_index);
  primitives::check_launch("rotary", op, params.parts[0].rows(), 2 * params.half,
                           cuda::launch(params, primitives::current_stream(x.device_index)));
#endif
}

void apply_rotary(const TensorHandle& x1, const TensorHandle& x2, const TensorHandle& cos,
                  const TensorHandle& sin, const TensorHandle& out1, const TensorHandle& out2,
                  bool conj) {
  const TensorArg x1_arg = tensor_arg("x1", x1);
  const Params params =
      checked_halves(x1_arg, tensor_arg("x2", x2), tensor_arg("cos", cos), tensor_arg("sin", sin),
                     tensor_arg("out1", out1), tensor_arg("out2", out2), conj);
  compute("apply_rotary", params, x1_arg);
}

void rotary_embedding(const TensorHandle& q, const std::optional<TensorHandle>& k,
                      const TensorHandle& cos, const TensorHandle& sin,
                      const std::optional<TensorHandle>& positions, std::int64_t rotary_dim,
                      bool interleaved, bool conj, std::int64_t unsqueeze_dim) {
  constexpr const char* kOp = "rotary_embedding";
  const TensorArg q_arg = tensor_arg("q", q);
  const std::optional<TensorArg> k_arg = optional_arg("k", k);
  const TensorArg cos_arg = tensor_arg("cos", cos);
  const TensorArg sin_arg = tensor_arg("sin", sin);
  const std::optional<TensorArg> positions_arg = optional_arg("positions", positions);
  compute(
      kOp,
      checked_embedding({kOp, &q_arg, pointer(k_arg), &q_arg, pointer(k_arg), &cos_arg, &sin_arg,
                         pointer(positions_arg), rotary_dim, interleaved, conj, unsqueeze_dim}),
      q_arg);
}

void rotary_embedding_out(const TensorHandle& q_out, const std::optional<TensorHandle>& k_out,
                          const TensorHandle& q, const std::optional<TensorHandle>& k,
                          const TensorHandle& cos, const TensorHandle& sin,
                          const std::optional<TensorHandle>& positions, std::int64_t rotary_dim,
                          bool interleaved, bool conj, std::int64_t unsqueeze_dim) {
  constexpr const char* kOp = "rotary_embedding_out";
  const TensorArg q_out_arg = tensor_arg("q_out", q_out);
  const std::optional<TensorArg> k_out_arg = optional_arg("k_out", k_out);
  const TensorArg q_arg = tensor_arg("q", q);
  const std::optional<TensorArg> k_arg = optional_arg("k", k);
  const TensorArg cos_arg = tensor_arg("cos", cos);
  const TensorArg sin_arg = tensor_arg("sin", sin);
  const std::optional<TensorArg> positions_arg = optional_arg("positions", positions);
  compute(kOp,
          checked_embedding({kOp, &q_out_arg, pointer(k_out_arg), &q_arg, pointer(k_arg), &cos_arg,
                             &sin_arg, pointer(positions_arg), rotary_dim, interleaved, conj,
                             unsqueeze_dim}),
          q_arg);
}

void apply_rotary_transformers(const TensorHandle& q_out, const TensorHandle& k_out,
                               const TensorHandle& q, const TensorHandle& k,
                               const TensorHandle& cos, const TensorHandle& sin, bool conj,
                               std::int64_t unsqueeze_dim) {
  constexpr const char* kOp = "apply_rotary_transformers";
  const TensorArg q_out_arg = tensor_arg("q_out", q_out);
  const TensorArg k_out_arg = tensor_arg("k_out", k_out);
  const TensorArg q_arg = tensor_arg("q", q);
  const TensorArg k_arg = tensor_arg("k", k);
  const TensorArg cos_arg = tensor_arg("cos", cos);
  const TensorArg sin_arg = tensor_arg("sin", sin);
  compute(kOp,
          checked_embedding({kOp, &q_out_arg, &k_out_arg, &q_arg, &k_arg, &cos_arg, &sin_arg,
                             nullptr, std::nullopt, false, conj, unsqueeze_dim}),
          q_arg);
}

void register_kernels(torch::stable::detail::StableLibrary& m) {
  m.impl("apply_rotary", TORCH_BOX(&apply_rotary));
  m.impl("apply_rotary_transformers", TORCH_BOX(&apply_rotary_transformers));
  m.impl("rotary_embedding", TORCH_BOX(&rotary_embedding));
  m.impl("rotary_embedding_out", TORCH_BOX(&rotary_embedding_out));
}

}  // namespace
}  // namespace kernelhub::rotary

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, m) {
  m.def(
      "apply_rotary(Tensor x1, Tensor x2, Tensor cos, Tensor sin, Tensor! out1, Tensor! out2, bool "
      "conj) -> ()");
  m.def(
      "apply_rotary_transformers(Tensor! q_out, Tensor! k_out, Tensor q, Tensor k, Tensor cos, "
      "Tensor sin, bool conj, int unsqueeze_dim) -> ()");
  m.def(
      "rotary_embedding(Tensor! q, Tensor!? k, Tensor cos, Tensor sin, Tensor? positions, int "
      "rotary_dim, bool interleaved, bool conj, int unsqueeze_dim) -> ()");
  m.def(
      "rotary_embedding_out(Tensor! q_out, Tensor!? k_out, Tensor q, Tensor? k, Tensor cos, Tensor "
      "sin, Tensor? positions, int rotary_dim, bool interleaved, bool conj, int unsqueeze_dim) -> "
      "()");
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, m) {
  kernelhub::rotary::register_kernels(m);
}
#elif defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, m) {
  kernelhub::rotary::register_kernels(m);
}
#endif

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
