// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/kernel_mapping.h"

#include "expect_error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

namespace kernelhub {
namespace {

const Mode kI = Mode::kInference;
const Mode kT = Mode::kTraining;
const Mode kC = Mode::kTorchCompile;
const Mode kF = Mode::kFallback;

LayerRepository repository(std::int64_t version) {
  return LayerRepository::hub("org/name", "Layer", KernelSpec::of_version(version));
}

KernelMapping mapping(const std::string& layer, Device device, const std::vector<Mode>& modes,
                      std::int64_t version = 1) {
  std::map<Mode, LayerRepository> by_mode;
  for (const Mode mode : modes) by_mode.emplace(mode, repository(version));
  return {{layer, {{std::move(device), std::move(by_mode)}}}};
}

std::optional<Mode> chosen(std::string_view layer, std::string_view device, Mode requested,
                           std::optional<int> capability = {}) {
  const auto found = find_layer_repository(layer, device, capability, requested);
  if (const auto* choice = std::get_if<LayerChoice>(&found)) return choice->entry_mode;
  return {};
}

std::int64_t chosen_version(std::string_view device, std::optional<int> capability) {
  const auto found = find_layer_repository("L", device, capability, kI);
  const auto& source = std::get<LayerChoice>(found).repository.source();
  return *std::get<LayerRepository::Hub>(source).spec.version;
}

LookupMiss miss(std::string_view layer, std::string_view device, Mode requested,
                std::optional<int> capability = {}) {
  return std::get<LookupMiss>(find_layer_repository(layer, device, capability, requested));
}

/// What the layer of an entry does in one cell of the table: the entry, its own forward, an error.
struct Cell {
  enum Kind { kEntry, kOriginal, kThrows } kind;
  std::optional<Mode> entry;
  friend bool operator==(const Cell& a, const Cell& b) {
    return a.kind == b.kind && a.entry == b.entry;
  }
};
const Cell kOrig{Cell::kOriginal, {}};
const Cell kError{Cell::kThrows, {}};
Cell use(Mode mode) { return {Cell::kEntry, mode}; }

struct ModeRow {
  const char* title;
  std::vector<Mode> registered;
  LayerAbilities abilities;
  Cell cells[4];  // requested I, T, I|C, T|C
};
void PrintTo(const ModeRow& row, std::ostream* stream) { *stream << row.title; }

class ModeTable : public testing::TestWithParam<ModeRow> {};

TEST_P(ModeTable, ChoosesTheEntryOfTheTable) {
  const ModeRow& row = GetParam();
  const ScopedKernelMapping scope(mapping("L", Device("cpu"), row.registered), InheritMapping::kNo);
  const Mode requests[4] = {kI, kT, kI | kC, kT | kC};
  for (int column = 0; column < 4; ++column) {
    Cell found = kOrig;
    if (const auto entry = chosen("L", "cpu", requests[column])) {
      switch (judge_mode(*entry, requests[column], row.abilities)) {
        case ModeVerdict::kUse:
          found = use(*entry);
          break;
        case ModeVerdict::kKeepOriginal:
          break;
        case ModeVerdict::kBrokenPromise:
          found = kError;
          break;
      }
    }
    EXPECT_TRUE(found == row.cells[column])
        << row.title << ", requested " << mode_name(requests[column]);
  }
}

constexpr LayerAbilities kBoth{true, true};
INSTANTIATE_TEST_SUITE_P(
    WorkedExamples, ModeTable,
    testing::Values(
        ModeRow{"bare repository", {kF}, kBoth, {use(kF), use(kF), use(kF), use(kF)}},
        ModeRow{"I", {kI}, kBoth, {use(kI), kOrig, kOrig, kOrig}},
        ModeRow{"T", {kT}, kBoth, {use(kT), use(kT), kOrig, kOrig}},
        ModeRow{"I|C", {kI | kC}, kBoth, {use(kI | kC), kOrig, use(kI | kC), kOrig}},
        ModeRow{"T|C", {kT | kC}, kBoth, {use(kT | kC), use(kT | kC), use(kT | kC), use(kT | kC)}},
        ModeRow{"I, T", {kI, kT}, kBoth, {use(kI), use(kT), kOrig, kOrig}},
        ModeRow{
            "I, T|C", {kI, kT | kC}, kBoth, {use(kI), use(kT | kC), use(kT | kC), use(kT | kC)}},
        ModeRow{"I|C, T", {kI | kC, kT}, kBoth, {use(kI | kC), use(kT), use(kI | kC), kOrig}},
        ModeRow{"F, T", {kF, kT}, kBoth, {use(kT), use(kT), use(kF), use(kF)}},
        ModeRow{"F, I, T", {kF, kI, kT}, kBoth, {use(kI), use(kT), use(kF), use(kF)}},
        ModeRow{"all four",
                {kI, kT, kI | kC, kT | kC},
                kBoth,
                {use(kI), use(kT), use(kI | kC), use(kT | kC)}},
        ModeRow{"F, layer cannot compile", {kF}, {false, true}, {use(kF), use(kF), kOrig, kOrig}},
        ModeRow{"F, layer has no backward, compiles",
                {kF},
                {true, false},
                {use(kF), kOrig, use(kF), kOrig}},
        ModeRow{"F, layer has neither", {kF}, {false, false}, {use(kF), kOrig, kOrig, kOrig}},
        ModeRow{
            "I|C, layer cannot compile", {kI | kC}, {false, true}, {kError, kOrig, kError, kOrig}},
        ModeRow{"T, layer has no backward", {kT}, {true, false}, {kError, kError, kOrig, kOrig}}));

TEST(KernelMapping, ASecondEntryOfADeviceReplacesAllItsModes) {
  const ScopedKernelMapping scope(mapping("L", Device("cpu"), {kT}), InheritMapping::kNo);
  register_kernel_mapping(mapping("L", Device("cpu"), {kI}));
  EXPECT_EQ(chosen("L", "cpu", kI), kI);
  EXPECT_EQ(chosen("L", "cpu", kT), std::nullopt);
}

TEST(KernelMapping, OtherLayersAndDevicesStayWhenOneIsRegistered) {
  const ScopedKernelMapping scope(mapping("L", Device("cpu"), {kI}), InheritMapping::kNo);
  register_kernel_mapping(mapping("L", Device("xpu"), {kI}));
  register_kernel_mapping(mapping("M", Device("cpu"), {kI}));
  EXPECT_EQ(chosen("L", "cpu", kI), kI);
  EXPECT_EQ(chosen("L", "xpu", kI), kI);
  EXPECT_EQ(chosen("M", "cpu", kI), kI);
}

TEST(KernelMapping, SaysWhichStepOfTheLookupFailed) {
  const ScopedKernelMapping scope(mapping("L", Device("cuda", CapabilityRange{80, 89}), {kT}),
                                  InheritMapping::kNo);
  EXPECT_EQ(miss("M", "cuda", kI, 80), LookupMiss::kNoLayer);
  EXPECT_EQ(miss("L", "cpu", kI), LookupMiss::kNoDevice);
  EXPECT_EQ(miss("L", "cuda", kI, 90), LookupMiss::kNoCompatibleProperties);
  EXPECT_EQ(miss("L", "cuda", kI), LookupMiss::kNoCompatibleProperties);
  EXPECT_EQ(miss("L", "cuda", kI | kC, 80), LookupMiss::kNoCompatibleMode);
  EXPECT_EQ(code_of([] { find_layer_repository("L", "metal", {}, kI); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { find_layer_repository("L", "cpu", {}, kC); }), ErrorCode::kInvalidMode);
}

TEST(KernelMapping, TheSmallestMatchingCapabilityRangeWinsInAnyOrderOfRegistration) {
  struct Entry {
    CapabilityRange range;
    std::int64_t version;
  };
  std::vector<Entry> entries = {
      {{0, std::numeric_limits<int>::max()}, 1}, {{75, 90}, 2}, {{80, 89}, 3}, {{90, 90}, 4}};
  std::mt19937 random(7);
  for (int round = 0; round < 100; ++round) {
    std::shuffle(entries.begin(), entries.end(), random);
    const ScopedKernelMapping scope({}, InheritMapping::kNo);
    for (const Entry& entry : entries) {
      register_kernel_mapping(mapping("L", Device("cuda", entry.range), {kF}, entry.version));
    }
    EXPECT_EQ(chosen_version("cuda", 70), 1);
    EXPECT_EQ(chosen_version("cuda", 75), 2);
    EXPECT_EQ(chosen_version("cuda", 89), 3);
    EXPECT_EQ(chosen_version("cuda", 90), 4);
  }
}

TEST(KernelMapping, OfRangesOfOneSizeTheLastRegisteredWins) {
  const ScopedKernelMapping scope({}, InheritMapping::kNo);
  register_kernel_mapping(mapping("L", Device("cuda", CapabilityRange{80, 90}), {kF}, 1));
  register_kernel_mapping(mapping("L", Device("cuda", CapabilityRange{85, 95}), {kF}, 2));
  EXPECT_EQ(chosen_version("cuda", 88), 2);
  register_kernel_mapping(mapping("L", Device("cuda", CapabilityRange{80, 90}), {kF}, 3));
  EXPECT_EQ(chosen_version("cuda", 88), 3);
}

TEST(KernelMapping, AMappingThatNamesADeviceTwiceChangesNothing) {
  const ScopedKernelMapping scope({}, InheritMapping::kNo);
  KernelMapping twice = mapping("A", Device("cpu"), {kI});
  twice["L"] = {{Device("cpu"), repository(1)}, {Device("cpu"), repository(2)}};
  EXPECT_EQ(code_of([&] { register_kernel_mapping(twice); }), ErrorCode::kInvalidMapping);
  EXPECT_EQ(miss("A", "cpu", kI), LookupMiss::kNoLayer);
}

TEST(ScopedKernelMapping, AddsToTheOuterMappingAndRestoresIt) {
  const ScopedKernelMapping outer(mapping("A", Device("cpu"), {kI}), InheritMapping::kNo);
  {
    const ScopedKernelMapping inner(mapping("B", Device("cpu"), {kI}));
    EXPECT_EQ(chosen("A", "cpu", kI), kI);
    EXPECT_EQ(chosen("B", "cpu", kI), kI);
    const ScopedKernelMapping alone(mapping("C", Device("cpu"), {kI}), InheritMapping::kNo);
    EXPECT_EQ(miss("A", "cpu", kI), LookupMiss::kNoLayer);
    EXPECT_EQ(chosen("C", "cpu", kI), kI);
  }
  EXPECT_EQ(chosen("A", "cpu", kI), kI);
  EXPECT_EQ(miss("B", "cpu", kI), LookupMiss::kNoLayer);
}

TEST(ScopedKernelMapping, RegistrationInsideAScopeEndsWithIt) {
  const ScopedKernelMapping outer({}, InheritMapping::kNo);
  {
    const ScopedKernelMapping inner({});
    register_kernel_mapping(mapping("A", Device("cpu"), {kI}));
    EXPECT_EQ(chosen("A", "cpu", kI), kI);
  }
  EXPECT_EQ(miss("A", "cpu", kI), LookupMiss::kNoLayer);
}

TEST(ScopedKernelMapping, IsInvisibleToThreadsStartedInside) {
  const ScopedKernelMapping scope(mapping("OnlyHere", Device("cpu"), {kI}));
  std::optional<LookupMiss> seen;
  std::jthread([&] { seen = miss("OnlyHere", "cpu", kI); }).join();
  EXPECT_EQ(seen, LookupMiss::kNoLayer);
}

TEST(RegisterKernelMapping, OutsideAScopeReachesAllThreads) {
  std::jthread([] { register_kernel_mapping(mapping("FromThread", Device("cpu"), {kI})); }).join();
  EXPECT_EQ(chosen("FromThread", "cpu", kI), kI);
}

TEST(RegisterKernelMapping, WithoutInheritanceChangesOnlyTheCallingThread) {
  register_kernel_mapping(mapping("Shared", Device("cpu"), {kI}));
  std::jthread([] {
    register_kernel_mapping(mapping("Own", Device("cpu"), {kI}), InheritMapping::kNo);
    EXPECT_EQ(miss("Shared", "cpu", kI), LookupMiss::kNoLayer);
    EXPECT_EQ(chosen("Own", "cpu", kI), kI);
  }).join();
  EXPECT_EQ(chosen("Shared", "cpu", kI), kI);
  EXPECT_EQ(miss("Own", "cpu", kI), LookupMiss::kNoLayer);
}

TEST(RegisterKernelMapping, SurvivesConcurrentReadersAndWriters) {
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([thread] {
      for (int i = 0; i < 200; ++i) {
        const std::string layer = "Busy" + std::to_string(thread);
        register_kernel_mapping(mapping(layer, Device("cpu"), {kI}));
        EXPECT_EQ(chosen(layer, "cpu", kI), kI);
      }
    });
  }
}

}  // namespace
}  // namespace kernelhub
