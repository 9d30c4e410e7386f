// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/near_names.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace kernelhub::loader {
namespace {

/// Levenshtein distance by the two-row table (Wagner and Fischer, 1974).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, changed});
    }
  }
  return row.back();
}

bool overlap(std::string_view a, std::string_view b) {
  return !a.empty() && !b.empty() &&
         (a.find(b) != std::string_view::npos || b.find(a) != std::string_view::npos);
}

}  // namespace

std::vector<std::string> near_names(std::string_view name, const std::vector<OpInfo>& ops) {
  constexpr std::size_t kShown = 3, kLongName = 256;
  std::vector<std::pair<std::size_t, std::string>> ranked;
  if (name.size() > kLongName) return {};
  for (const OpInfo& op : ops) {
    const std::size_t distance = edit_distance(name, op.name);
    if (distance <= 2 || overlap(name, op.name)) ranked.emplace_back(distance, op.name);
  }
  std::sort(ranked.begin(), ranked.end());
  ranked.erase(std::unique(ranked.begin(), ranked.end()), ranked.end());
  std::vector<std::string> names;
  for (const auto& [distance, near] : ranked) {
    if (names.size() < kShown) names.push_back(near);
  }
  return names;
}

}  // namespace kernelhub::loader
