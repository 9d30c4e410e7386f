// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "primitives/parallel_for.h"
#include "relu/params.h"

namespace kernelhub::relu::cpu {

/// Computes one call on host memory, split over `parallel_for`. Thread-safe; allocates nothing.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

}  // namespace kernelhub::relu::cpu
