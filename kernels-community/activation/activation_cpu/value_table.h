// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "activation/params.h"

namespace kernelhub::activation::cpu {

/// T(op(x)) for each of the 65536 values x of fp16 or bf16, indexed by the bits of x, and one value
/// of padding: 128 KiB, of which N(0, 1) inputs touch some 5 KiB (bf16) to 40 KiB (fp16). `op` is
/// of one tensor. Filled once per process, when an op and dtype is used for the first time.
/// Thread-safe.
const std::uint16_t* value_table(Op op, primitives::DType dtype);

/// act'(x) of a smooth formula in fp32 for each value x of fp16 or bf16, indexed by its bits: 256
/// KiB. `op` is of one tensor and not stepwise. Filled as value_table.
const float* slope_table(Op op, primitives::DType dtype);

/// act'(x) and act(x).
struct Derivative {
  float slope, value;
};

/// Both in one table, 512 KiB, for gated ops.
const Derivative* derivative_table(Op op, primitives::DType dtype);

}  // namespace kernelhub::activation::cpu
