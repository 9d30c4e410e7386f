// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/mode.h"

#include "layers_errors.h"

#include <utility>

namespace kernelhub {
namespace {

constexpr std::pair<Mode, std::string_view> kNames[] = {
    {Mode::kFallback, "FALLBACK"},
    {Mode::kTraining, "TRAINING"},
    {Mode::kInference, "INFERENCE"},
    {Mode::kTorchCompile, "TORCH_COMPILE"},
};

constexpr Mode unite(Mode a, Mode b) noexcept {
  return static_cast<Mode>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}

}  // namespace

Mode operator|(Mode a, Mode b) {
  const Mode both = unite(a, b);
  const bool mixed_fallback = contains(both, Mode::kFallback) && both != Mode::kFallback;
  if (mixed_fallback || contains(both, unite(Mode::kInference, Mode::kTraining))) {
    throw layers::layers_errors::modes_exclude(a, b);
  }
  return both;
}

std::string mode_name(Mode mode) {
  std::string text;
  for (const auto& [value, name] : kNames) {
    if (!contains(mode, value)) continue;
    if (!text.empty()) text += '|';
    text += name;
  }
  return text;
}

Mode parse_mode(std::string_view name) {
  for (const auto& [value, known] : kNames) {
    if (known == name) return value;
  }
  throw layers::layers_errors::unknown_mode(name);
}

void require_kernelize_mode(Mode mode) {
  if (contains(mode, Mode::kInference) || contains(mode, Mode::kTraining)) return;
  throw layers::layers_errors::mode_not_runnable(mode);
}

const std::vector<Mode>& mode_chain(Mode requested) {
  constexpr Mode kInferenceCompile = unite(Mode::kInference, Mode::kTorchCompile);
  constexpr Mode kTrainingCompile = unite(Mode::kTraining, Mode::kTorchCompile);
  // Table "requested, tried in order" of the Python client.
  static const std::vector<Mode> inference = {Mode::kInference, kInferenceCompile, Mode::kTraining,
                                              kTrainingCompile, Mode::kFallback};
  static const std::vector<Mode> training = {Mode::kTraining, kTrainingCompile, Mode::kFallback};
  static const std::vector<Mode> inference_compile = {kInferenceCompile, kTrainingCompile,
                                                      Mode::kFallback};
  static const std::vector<Mode> training_compile = {kTrainingCompile, Mode::kFallback};
  require_kernelize_mode(requested);
  const bool compile = contains(requested, Mode::kTorchCompile);
  if (contains(requested, Mode::kInference)) return compile ? inference_compile : inference;
  return compile ? training_compile : training;
}

ModeVerdict judge_mode(Mode entry, Mode requested, LayerAbilities abilities) noexcept {
  const auto lacks = [&](Mode mode) {
    return (contains(mode, Mode::kTorchCompile) && !abilities.can_torch_compile) ||
           (contains(mode, Mode::kTraining) && !abilities.has_backward);
  };
  if (entry != Mode::kFallback)
    return lacks(entry) ? ModeVerdict::kBrokenPromise : ModeVerdict::kUse;
  return lacks(requested) ? ModeVerdict::kKeepOriginal : ModeVerdict::kUse;
}

}  // namespace kernelhub
