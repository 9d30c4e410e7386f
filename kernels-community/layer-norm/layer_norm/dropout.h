// SPDX-License-Identifier: Apache-2.0
// Which elements dropout keeps: Philox4x32-10 (J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw,
// "Parallel random numbers: as easy as 1, 2, 3", SC11) with the seed as key and the element's place
// as counter. Four neighbours of a row share a counter. A seed gives one mask, on every device,
// whatever the strides, the threads and the batch behind the row.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define KERNELHUB_DEVICE __host__ __device__ __forceinline__
#else
#define KERNELHUB_DEVICE inline
#endif

namespace kernelhub::layer_norm {

struct Random4 {
  std::uint32_t word[4];
};

/// Words for elements 4 * group ... 4 * group + 3 of `row`; `stream` is 0 for x0, 1 for x1.
KERNELHUB_DEVICE Random4 random_words(std::uint64_t seed, std::uint32_t stream, std::uint64_t row,
                                      std::uint32_t group) {
  std::uint32_t a = group;
  std::uint32_t b = stream;
  std::uint32_t c = static_cast<std::uint32_t>(row);
  std::uint32_t d = static_cast<std::uint32_t>(row >> 32);
  std::uint32_t key0 = static_cast<std::uint32_t>(seed);
  std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53u} * a;
    const std::uint64_t second = std::uint64_t{0xCD9E8D57u} * c;
    a = static_cast<std::uint32_t>(second >> 32) ^ b ^ key0;
    b = static_cast<std::uint32_t>(second);
    c = static_cast<std::uint32_t>(first >> 32) ^ d ^ key1;
    d = static_cast<std::uint32_t>(first);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{a, b, c, d}};
}

/// An element is kept where its word is below this.
KERNELHUB_DEVICE std::uint64_t keep_below(double dropout_p) {
  return static_cast<std::uint64_t>((1.0 - dropout_p) * 4294967296.0);
}

}  // namespace kernelhub::layer_norm
