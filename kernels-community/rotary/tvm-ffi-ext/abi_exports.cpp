// SPDX-License-Identifier: Apache-2.0
#include <kernelhub/abi/kernel.hpp>
#include <optional>

#include "primitives/abi_args.h"
#include "rotary/checks.h"

#if defined(CPU_KERNEL)
#include "rotary_cpu/rotary_cpu.h"
#elif defined(CUDA_KERNEL)
#include "primitives/abi_cuda.h"
#include "rotary_cuda/rotary_cuda.h"
#endif

namespace kernelhub::rotary {
namespace {

using primitives::optional_arg;
using primitives::pointer;
using primitives::tensor_arg;
using primitives::TensorArg;
using OptionalTensor = std::optional<const DLTensor*>;
using OptionalResult = std::optional<DLTensor*>;

void on_backend(const char* op, const TensorArg& argument) {
  primitives::ArgumentCheck("rotary", op)
      .on_backend(argument, primitives::kDeviceType, KERNELHUB_PACKAGE_BACKEND);
}

void compute([[maybe_unused]] const char* op, const Params& params,
             [[maybe_unused]] const DLTensor& x) {
  if (params.count == 0) return;
#if defined(CPU_KERNEL)
  cpu::run(params, primitives::host_parallel_for());
#elif defined(CUDA_KERNEL)
  const primitives::DeviceGuard guard(x.device.device_id);
  primitives::check_launch("rotary", op, params.parts[0].rows(), 2 * params.half,
                           cuda::launch(params, primitives::current_stream(x.device)));
#endif
}

void apply_rotary(const DLTensor* x1, const DLTensor* x2, const DLTensor* cos, const DLTensor* sin,
                  DLTensor* out1, DLTensor* out2, bool conj) {
  const TensorArg x1_arg = tensor_arg("x1", *x1);
  on_backend("apply_rotary", x1_arg);
  const Params params = checked_halves(x1_arg, tensor_arg("x2", *x2), tensor_arg("cos", *cos),
                                       tensor_arg("sin", *sin), tensor_arg("out1", *out1),
                                       tensor_arg("out2", *out2), conj);
  compute("apply_rotary", params, *x1);
}

void rotary_embedding(DLTensor* q, OptionalResult k, const DLTensor* cos, const DLTensor* sin,
                      OptionalTensor positions, std::int64_t rotary_dim, bool interleaved,
                      bool conj, std::int64_t unsqueeze_dim) {
  constexpr const char* kOp = "rotary_embedding";
  const TensorArg q_arg = tensor_arg("q", *q);
  on_backend(kOp, q_arg);
  const std::optional<TensorArg> k_arg = optional_arg("k", k);
  const TensorArg cos_arg = tensor_arg("cos", *cos);
  const TensorArg sin_arg = tensor_arg("sin", *sin);
  const std::optional<TensorArg> positions_arg = optional_arg("positions", positions);
  compute(
      kOp,
      checked_embedding({kOp, &q_arg, pointer(k_arg), &q_arg, pointer(k_arg), &cos_arg, &sin_arg,
                         pointer(positions_arg), rotary_dim, interleaved, conj, unsqueeze_dim}),
      *q);
}

void rotary_embedding_out(DLTensor* q_out, OptionalResult k_out, const DLTensor* q,
                          OptionalTensor k, const DLTensor* cos, const DLTensor* sin,
                          OptionalTensor positions, std::int64_t rotary_dim, bool interleaved,
                          bool conj, std::int64_t unsqueeze_dim) {
  constexpr const char* kOp = "rotary_embedding_out";
  const TensorArg q_out_arg = tensor_arg("q_out", *q_out);
  const std::optional<TensorArg> k_out_arg = optional_arg("k_out", k_out);
  const TensorArg q_arg = tensor_arg("q", *q);
  on_backend(kOp, q_arg);
  const std::optional<TensorArg> k_arg = optional_arg("k", k);
  const TensorArg cos_arg = tensor_arg("cos", *cos);
  const TensorArg sin_arg = tensor_arg("sin", *sin);
  const std::optional<TensorArg> positions_arg = optional_arg("positions", positions);
  compute(kOp,
          checked_embedding({kOp, &q_out_arg, pointer(k_out_arg), &q_arg, pointer(k_arg), &cos_arg,
                             &sin_arg, pointer(positions_arg), rotary_dim, interleaved, conj,
                             unsqueeze_dim}),
          *q);
}

void apply_rotary_transformers(DLTensor* q_out, DLTensor* k_out, const DLTensor* q,
                               const DLTensor* k, const DLTensor* cos, const DLTensor* sin,
                               bool conj, std::int64_t unsqueeze_dim) {
  constexpr const char* kOp = "apply_rotary_transformers";
  const TensorArg q_out_arg = tensor_arg("q_out", *q_out);
  const TensorArg k_out_arg = tensor_arg("k_out", *k_out);
  const TensorArg q_arg = tensor_arg("q", *q);
  on_backend(kOp, q_arg);
  const TensorArg k_arg = tensor_arg("k", *k);
  const TensorArg cos_arg = tensor_arg("cos", *cos);
  const TensorArg sin_arg = tensor_arg("sin", *sin);
  compute(kOp,
          checked_embedding({kOp, &q_out_arg, &k_out_arg, &q_arg, &k_arg, &cos_arg, &sin_arg,
                             nullptr, std::nullopt, false, conj, unsqueeze_dim}),
          *q);
}

}  // namespace
}  // namespace kernelhub::rotary

KERNELHUB_FUNCTION(apply_rotary, &kernelhub::rotary::apply_rotary,
                   "apply_rotary(Tensor x1, Tensor x2, Tensor cos, Tensor sin, Tensor! out1, "
                   "Tensor! out2, bool conj) -> ()")
KERNELHUB_FUNCTION(apply_rotary_transformers, &kernelhub::rotary::apply_rotary_transformers,
                   "apply_rotary_transformers(Tensor! q_out, Tensor! k_out, Tensor q, Tensor k, "
                   "Tensor cos, Tensor sin, bool conj, int unsqueeze_dim) -> ()")
KERNELHUB_FUNCTION(rotary_embedding, &kernelhub::rotary::rotary_embedding,
                   "rotary_embedding(Tensor! q, Tensor!? k, Tensor cos, Tensor sin, Tensor? "
                   "positions, int rotary_dim, bool interleaved, bool conj, int unsqueeze_dim) -> "
                   "()")
KERNELHUB_FUNCTION(rotary_embedding_out, &kernelhub::rotary::rotary_embedding_out,
                   "rotary_embedding_out(Tensor! q_out, Tensor!? k_out, Tensor q, Tensor? k, "
                   "Tensor cos, Tensor sin, Tensor? positions, int rotary_dim, bool interleaved, "
                   "bool conj, int unsqueeze_dim) -> ()")

KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), KERNELHUB_PACKAGE_NAME,
                  KERNELHUB_PACKAGE_VERSION, KERNELHUB_PACKAGE_BACKEND,
                  kernelhub::primitives::kPackageFlags, KERNELHUB_ROW(apply_rotary),
                  KERNELHUB_ROW(apply_rotary_transformers), KERNELHUB_ROW(rotary_embedding),
                  KERNELHUB_ROW(rotary_embedding_out))
