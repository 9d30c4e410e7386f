// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "primitives/tensor_check.h"
#include "rotary/params.h"

namespace kernelhub::rotary {

/// Checks a call `apply_rotary(x1, x2, cos, sin, out1, out2, conj)` and describes it to compute
/// code. Throws std::runtime_error "rotary.apply_rotary: ..." on bad arguments. `count` of the
/// result is 0 when there is nothing to compute.
Params checked_halves(const primitives::TensorArg& x1, const primitives::TensorArg& x2,
                      const primitives::TensorArg& cos, const primitives::TensorArg& sin,
                      const primitives::TensorArg& out1, const primitives::TensorArg& out2,
                      bool conj);

/// What an op on whole tensors is called with. Optional tensors are null where they are absent.
struct Embedding {
  const char* op;
  const primitives::TensorArg* q_out;  // the same object as q in place
  const primitives::TensorArg* k_out;
  const primitives::TensorArg* q;
  const primitives::TensorArg* k;
  const primitives::TensorArg* cos;
  const primitives::TensorArg* sin;
  const primitives::TensorArg* positions;
  std::optional<std::int64_t> rotary_dim;  // none: the last dimension of q, which k must share
  bool interleaved;
  bool conj;
  std::int64_t unsqueeze_dim;
};

/// As checked_halves. Positions in host memory are compared with the table's rows.
Params checked_embedding(const Embedding& call);

}  // namespace kernelhub::rotary
