// SPDX-License-Identifier: Apache-2.0
#include "primitives/strided_region.h"

#include <algorithm>

namespace kernelhub::primitives {
namespace {

/// The numbers that multiples of some steps add up to.
class Sums {
 public:
  /// Adds the multiples from `least` to `most` of a step that is no wider than those before it.
  void add(std::int64_t step, std::int64_t least, std::int64_t most) {
    terms_[count_++] = {step, least, most, 0, 0};
  }

  /// Whether `number` is such a sum; true also after kMostTries.
  bool may_be(std::int64_t number) {
    terms_[count_] = {};
    for (int i = count_ - 1; i >= 0; --i) {
      Term& term = terms_[i];
      const Term& next = terms_[i + 1];
      term.low = next.low + term.least * term.step;
      term.high = next.high + term.most * term.step;
    }
    tries_ = 0;
    return is_reachable(0, number);
  }

 private:
  // Steps of which each is wider than all within it, as those of most tensors are, take two each.
  static constexpr int kMostTries = 4096;

  struct Term {
    std::int64_t step, least, most;
    std::int64_t low, high;  // bounds of what this term and those after it add up to
  };

  bool is_reachable(int index, std::int64_t number) {
    if (index == count_) return number == 0;
    const Term& term = terms_[index];
    const Term& rest = terms_[index + 1];
    const std::int64_t first = std::max(term.least, -floor_of(rest.high - number, term.step));
    const std::int64_t last = std::min(term.most, floor_of(number - rest.low, term.step));
    for (std::int64_t i = first; i <= last; ++i) {
      if (++tries_ > kMostTries) return true;
      if (is_reachable(index + 1, number - i * term.step)) return true;
    }
    return false;
  }

  Term terms_[2 * (StridedRegion::kMaxRank + 1) + 1];
  int count_ = 0;
  int tries_ = 0;
};

}  // namespace

StridedRegion::StridedRegion(const TensorArg& tensor)
    : begin_(reinterpret_cast<std::uintptr_t>(tensor.data)) {
  const std::int64_t element = tensor.dtype.bits / 8;
  const auto add = [this](std::int64_t step, std::int64_t count) {
    if (count <= 1) {
      is_empty_ = is_empty_ || count == 0;
      return;
    }
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
  if (has_repeats_) return false;
  // Two elements that share a byte are apart by multiples of steps that add up to nothing; `i` is
  // the widest step of which it is not the multiple 0.
  std::int64_t reach = 1;
  for (int i = rank_ - 1; i >= 0; --i) {
    if (dims_[i].step < reach) {
      Sums apart;
      apart.add(dims_[i].step, 1, dims_[i].count - 1);
      for (int j = i + 1; j < rank_; ++j) {
        apart.add(dims_[j].step, 1 - dims_[j].count, dims_[j].count - 1);
      }
      if (apart.may_be(0)) return false;
    }
    reach += (dims_[i].count - 1) * dims_[i].step;
  }
  return true;
}

std::optional<ByteRows> StridedRegion::rows() const {
  const bool has_width = rank_ > 0 && dims_[rank_ - 1].step == 1;
  const int outer = has_width ? rank_ - 1 : rank_;
  if (outer > 1) return std::nullopt;
  return ByteRows{static_cast<std::intptr_t>(begin_), outer == 1 ? dims_[0].step : 0,
                  outer == 1 ? dims_[0].count : 1, has_width ? dims_[rank_ - 1].count : 1};
}

bool StridedRegion::intersects_in_one_range(const StridedRegion& other) const {
  const std::optional<ByteRows> a = rows(), b = other.rows();
  if (a.has_value() && b.has_value()) return rows_meet(*a, *b);
  // Index i of this region and j of the other meet where begin + i == other.begin + j.
  Sums apart;
  for (int i = 0, j = 0; i < rank_ || j < other.rank_;) {
    const std::int64_t mine = i < rank_ ? dims_[i].step : 0;
    const std::int64_t others = j < other.rank_ ? other.dims_[j].step : 0;
    const std::int64_t most = mine >= others ? dims_[i++].count - 1 : 0;
    const std::int64_t least = others >= mine ? 1 - other.dims_[j++].count : 0;
    apart.add(std::max(mine, others), least, most);
  }
  return apart.may_be(static_cast<std::int64_t>(other.begin_ - begin_));
}

}  // namespace kernelhub::primitives
