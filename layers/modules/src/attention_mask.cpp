// SPDX-License-Identifier: Apache-2.0
#include "attention_mask.h"

#include "modules_errors.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>

namespace kernelhub::layers {
namespace {

std::string sizes_text(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
}

}  // namespace

std::optional<at::Tensor> visible_keys(const at::Tensor& query, const at::Tensor& key,
                                       const AttentionArguments& arguments) {
  const std::int64_t queries = query.size(2);
  const std::int64_t keys = key.size(2);
  const bool is_causal = arguments.is_causal && queries > 1;
  if (!is_causal && !arguments.sliding_window) return {};
  const at::TensorOptions options = at::TensorOptions(at::kLong).device(query.device());
  // Distance from the query's own position, which is bottom-right aligned, to the key's.
  const at::Tensor distance =
      at::arange(keys, options) - at::arange(keys - queries, keys, options).unsqueeze(-1);
  at::Tensor seen = is_causal ? distance <= 0 : distance <= keys;
  if (arguments.sliding_window) seen = seen & (distance.abs() < *arguments.sliding_window);
  return seen;
}

at::Tensor checked_mask(std::string_view function, const at::Tensor& mask, const at::Tensor& query,
                        const at::Tensor& key) {
  if (mask.scalar_type() != at::kBool && !mask.is_floating_point()) {
    throw modules_errors::bad_attention_call(function, "mask dtype", "bool or a floating one",
                                             std::string(c10::toString(mask.scalar_type())));
  }
  const std::int64_t wanted[] = {query.size(0), query.size(1), query.size(2), key.size(2)};
  if (mask.dim() == 2 && mask.size(0) == wanted[0] && mask.size(1) == wanted[3]) {
    return mask.unsqueeze(1).unsqueeze(1);
  }
  bool fits = mask.dim() == 4 && mask.size(3) == wanted[3];
  for (int i = 0; fits && i < 3; ++i) fits = mask.size(i) == 1 || mask.size(i) == wanted[i];
  if (fits) return mask;
  throw modules_errors::bad_attention_call(
      function, "mask",
      fmt::format("[{}, {}], or [{}, {}, {}, {}] with 1 in any but the last dim", wanted[0],
                  wanted[3], wanted[0], wanted[1], wanted[2], wanted[3]),
      sizes_text(mask));
}

std::optional<at::Tensor> whole_mask(std::string_view function,
                                     const std::optional<at::Tensor>& mask, const at::Tensor& query,
                                     const at::Tensor& key, const AttentionArguments& arguments) {
  if (!mask) return visible_keys(query, key, arguments);
  const at::Tensor given = checked_mask(function, *mask, query, key);
  if (given.size(2) == query.size(2) && query.size(2) > 1) return given;
  const std::optional<at::Tensor> seen = visible_keys(query, key, arguments);
  if (!seen) return given;
  if (given.scalar_type() == at::kBool) return given & *seen;
  return given.expand({-1, -1, query.size(2), -1})
      .masked_fill(seen->logical_not(), -std::numeric_limits<double>::infinity());
}

at::Tensor repeat_heads(const at::Tensor& heads, std::int64_t times) {
  if (times == 1) return heads;
  const std::int64_t batch = heads.size(0);
  const std::int64_t count = heads.size(1);
  const std::int64_t keys = heads.size(2);
  const std::int64_t dim = heads.size(3);
  return heads.unsqueeze(2)
      .expand({batch, count, times, keys, dim})
      .reshape({batch, count * times, keys, dim});
}

std::int64_t checked_group(std::string_view function, const at::Tensor& query,
                           const at::Tensor& key, const at::Tensor& value,
                           const AttentionArguments& arguments) {
  const auto fail = [function](std::string_view what, std::string_view expected,
                               const std::string& found) {
    throw modules_errors::bad_attention_call(function, what, expected, found);
  };
  if (query.dim() != 4) fail("query", "[batch, heads, queries, dim]", sizes_text(query));
  if (key.dim() != 4 || key.size(0) != query.size(0) || key.size(3) != query.size(3)) {
    fail("key",
         fmt::format("[{}, kv heads, keys, {}] beside query {}", query.size(0), query.size(3),
                     sizes_text(query)),
         sizes_text(key));
  }
  if (value.dim() != 4 || value.sizes().slice(0, 3) != key.sizes().slice(0, 3)) {
    fail("value", fmt::format("the batch, heads and keys of key {}", sizes_text(key)),
         sizes_text(value));
  }
  if (key.size(1) == 0 || query.size(1) % key.size(1) != 0) {
    fail("heads", "kv heads that divide the query heads",
         fmt::format("{} and {}", key.size(1), query.size(1)));
  }
  if (arguments.sliding_window && *arguments.sliding_window < 1) {
    fail("sliding_window", "at least 1", std::to_string(*arguments.sliding_window));
  }
  if (!(arguments.softcap >= 0.0)) {
    fail("softcap", "0 (none) or more", std::to_string(arguments.softcap));
  }
  if (!(arguments.dropout >= 0.0 && arguments.dropout < 1.0)) {
    fail("dropout", "a probability below 1", std::to_string(arguments.dropout));
  }
  if (arguments.sinks &&
      (arguments.sinks->dim() != 1 || arguments.sinks->size(0) != query.size(1))) {
    fail("sinks", fmt::format("[{}]", query.size(1)), sizes_text(*arguments.sinks));
  }
  return query.size(1) / key.size(1);
}

}  // namespace kernelhub::layers
