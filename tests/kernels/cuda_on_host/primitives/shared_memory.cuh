// SPDX-License-Identifier: Apache-2.0
// Stands in for primitives/shared_memory.cuh.
#pragma once

#include <cuda_runtime_api.h>

namespace kernelhub::primitives {

inline float* dynamic_shared() { return cuda_on_host::block->dynamic_shared.data(); }

}  // namespace kernelhub::primitives
