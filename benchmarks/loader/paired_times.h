// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace kernelhub::benchmarks {

/// Prints what Google Benchmark prints, and keeps the median CPU time of each benchmark.
class MedianReporter : public benchmark::ConsoleReporter {
 public:
  MedianReporter() : ConsoleReporter(OO_None) {}  // programs read the output: no colour
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Iteration) {
        times_[run.run_name.function_name].push_back(run.GetAdjustedCPUTime());
      }
    }
  }
  /// Nanoseconds per call.
  double median(const std::string& name) const {
    std::vector<double> times = times_.at(name);
    std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
    return times[times.size() / 2];
  }

 private:
  std::map<std::string, std::vector<double>> times_;
};

/// Repetitions of all benchmarks are interleaved, so that a slow moment hits every one of them.
inline void run_interleaved(int argc, char** argv, MedianReporter& reporter) {
  std::vector<char*> arguments(argv, argv + argc);
  std::string repetitions = "--benchmark_repetitions=15";
  std::string interleave = "--benchmark_enable_random_interleaving=true";
  std::string shortly = "--benchmark_min_time=0.05";
  for (std::string* flag : {&repetitions, &interleave, &shortly}) arguments.push_back(flag->data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  benchmark::RunSpecifiedBenchmarks(&reporter);
}

/// A benchmark of one call.
template <class Call>
void run(benchmark::State& state) {
  Call call;
  for (auto _ : state) call();
}

/// How a call of one thing compares with a call of another.
struct Comparison {
  double difference;  // ns
  double ratio;
};

/// Medians over rounds of a batch of each, in turns, so that what slows the machine for longer than
/// a round hits both.
template <class One, class Other>
Comparison compare(One&& one, Other&& other) {
  constexpr std::size_t kRounds = 8000;
  constexpr int kBatch = 32;
  const auto batch = [](auto& call) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kBatch; ++i) call();
    const auto time = std::chrono::steady_clock::now() - start;
    return std::chrono::duration<double, std::nano>(time).count() / kBatch;
  };
  const auto median = [](std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + kRounds / 2, values.end());
    return values[kRounds / 2];
  };
  std::vector<double> differences, ratios;
  for (std::size_t round = 0; round < kRounds; ++round) {
    const bool one_first = round % 2 == 0;
    const double first = one_first ? batch(one) : batch(other);
    const double second = one_first ? batch(other) : batch(one);
    const double of_one = one_first ? first : second;
    const double of_other = one_first ? second : first;
    differences.push_back(of_one - of_other);
    ratios.push_back(of_one / of_other);
  }
  return {median(differences), median(ratios)};
}

/// One line of the result: `value` against its floor.
inline bool print_floor(const std::string& what, double value, double floor, const char* unit) {
  const bool met = value <= floor;
  std::printf("%-52s %7.2f %s  (at most %.2f) %s\n", what.c_str(), value, unit, floor,
              met ? "ok" : "MISSED");
  return met;
}

}  // namespace kernelhub::benchmarks
