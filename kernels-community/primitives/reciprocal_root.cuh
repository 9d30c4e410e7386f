// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

namespace kernelhub::primitives {

/// 1 / sqrt(square) to about half a unit in the last place: the approximate unit and one Newton
/// step, where square root and division take ten times as many instructions.
__device__ __forceinline__ float reciprocal_root(float square) {
  const float guess = rsqrtf(square);
  if (!(square > 0.0f) || square == INFINITY) return guess;
  return fmaf(0.5f * guess, fmaf(-square * guess, guess, 1.0f), guess);
}

}  // namespace kernelhub::primitives
