// SPDX-License-Identifier: Apache-2.0
#include "primitives/strided_region.h"

#include <algorithm>

namespace kernelhub::primitives {
namespace {

/// A step that occurs in one of two regions or both, and how far apart two indices along it can be.
struct Difference {
  std::int64_t step;
  std::int64_t least;
  std::int64_t most;
};

/// Whether `distance` is a sum of steps. Every step is wider than all that the later ones add up
/// to, so that only the two multiples around the distance can lead there.
bool is_reachable(const Difference* differences, int count, std::int64_t distance) {
  if (count == 0) return distance == 0;
  const Difference& widest = differences[0];
  std::int64_t multiple = distance / widest.step;
  if (distance % widest.step < 0) --multiple;
  for (const std::int64_t i : {multiple, multiple + 1}) {
    if (i < widest.least || i > widest.most) continue;
    if (is_reachable(differences + 1, count - 1, distance - i * widest.step)) return true;
  }
  return false;
}

}  // namespace

StridedRegion::StridedRegion(const TensorArg& tensor)
    : begin_(reinterpret_cast<std::uintptr_t>(tensor.data)), is_empty_(tensor.numel() == 0) {
  const std::int64_t element = tensor.dtype.bits / 8;
  const auto add = [this](std::int64_t step, std::int64_t count) {
    if (count <= 1) return;
    if (step == 0) {
      has_repeats_ = true;
      return;
    }
    span_ += (count - 1) * step;
    // Inside out, as most tensors lie: a dimension that continues the one before it is none.
    if (rank_ > 0 && step == dims_[0].step * dims_[0].count) {
      dims_[0].count *= count;
      return;
    }
    int at = rank_++;
    for (; at > 0 && dims_[at - 1].step < step; --at) dims_[at] = dims_[at - 1];
    dims_[at] = {step, count};
  };
  add(1, element);
  for (std::size_t i = tensor.sizes.size(); i-- > 0;) {
    add(tensor.strides[i] * element, tensor.sizes[i]);
  }
}

bool StridedRegion::is_injective() const {
  if (is_empty_) return true;
  std::int64_t reach = 1;
  for (int i = rank_ - 1; i >= 0; --i) {
    if (dims_[i].step < reach) return false;
    reach += (dims_[i].count - 1) * dims_[i].step;
  }
  return !has_repeats_;
}

bool StridedRegion::intersects(const StridedRegion& other) const {
  if (is_empty_ || other.is_empty_) return false;
  if (end() <= other.begin_ || other.end() <= begin_) return false;
  Difference differences[2 * (kMaxRank + 1)];
  int count = 0;
  for (int i = 0, j = 0; i < rank_ || j < other.rank_;) {
    const std::int64_t mine = i < rank_ ? dims_[i].step : 0;
    const std::int64_t others = j < other.rank_ ? other.dims_[j].step : 0;
    Difference& next = differences[count++];
    next = {std::max(mine, others), 0, 0};
    if (mine >= others) next.most = dims_[i++].count - 1;
    if (others >= mine) next.least = 1 - other.dims_[j++].count;
  }
  std::int64_t reach = 0;
  for (int i = count - 1; i >= 0; --i) {
    if (differences[i].step <= reach) return true;
    reach += std::max(differences[i].most, -differences[i].least) * differences[i].step;
  }
  // Index i of this region and j of the other meet where begin + i == other.begin + j.
  return is_reachable(differences, count, static_cast<std::int64_t>(other.begin_ - begin_));
}

bool StridedRegion::is_same(const StridedRegion& other) const {
  if (is_empty_ || other.is_empty_) return is_empty_ && other.is_empty_;
  if (begin_ != other.begin_ || rank_ != other.rank_ || has_repeats_ || other.has_repeats_) {
    return false;
  }
  return std::equal(dims_, dims_ + rank_, other.dims_, [](const Dim& a, const Dim& b) {
    return a.step == b.step && a.count == b.count;
  });
}

}  // namespace kernelhub::primitives
