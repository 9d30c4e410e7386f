// SPDX-License-Identifier: Apache-2.0
// Which memory a strided tensor touches, for ops whose tensors are no plain rows. No allocation.
#pragma once

#include <cstdint>
#include <optional>

#include "primitives/tensor_check.h"

namespace kernelhub::primitives {

/// The bytes that a tensor's elements occupy: every sum of multiples `i * step`, 0 <= i < count.
class StridedRegion {
 public:
  /// Largest rank of a tensor that has a region.
  static constexpr int kMaxRank = 8;

  /// `tensor` has at most kMaxRank dimensions and no negative stride.
  explicit StridedRegion(const TensorArg& tensor);

  bool is_empty() const { return is_empty_; }

  /// True where every element has bytes of its own. Exact, but where steps are so irregular that
  /// the search for a byte of two elements is given up: then false.
  bool is_injective() const;

  /// True where the two share a byte. Exact for rows of unit-stride elements, one pitch each; of
  /// more dimensions as exact as above: true where the search is given up.
  bool intersects(const StridedRegion& other) const {
    if (is_empty_ || other.is_empty_) return false;
    if (end() <= other.begin_ || other.end() <= begin_) return false;
    return intersects_in_one_range(other);
  }

 private:
  struct Dim {
    std::int64_t step;   // bytes, > 0
    std::int64_t count;  // > 1
  };

  bool intersects_in_one_range(const StridedRegion& other) const;
  /// The region as rows, where it is such.
  std::optional<ByteRows> rows() const;
  std::uintptr_t end() const { return begin_ + static_cast<std::uintptr_t>(span_); }

  std::uintptr_t begin_;
  std::int64_t span_ = 1;   // bytes from the first to behind the last
  Dim dims_[kMaxRank + 1];  // rank_ of them, widest step first, merged where one continues another
  int rank_ = 0;
  bool is_empty_ = false;
  bool has_repeats_ = false;  // a dimension of stride 0
};

}  // namespace kernelhub::primitives
