// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/variant.h"
#include "kernelhub/layers/kernelize.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

/// What the program measured, as it goes into results.json for the report.
namespace demo {

struct LoadedPackage {
  std::string repo;
  std::string version;
  std::string commit;
  std::string variant;
  std::string op_namespace;
  std::vector<std::string> ops;
  std::vector<kernelhub::VariantDecision> trace;
};

/// Largest absolute differences between embeddings; the reference is transformers in Python.
struct Agreement {
  double plain_to_reference = 0;
  double kernelized_to_reference = 0;
  double kernelized_to_plain = 0;
  bool restored_bit_equal = false;
};

/// Repeated times of the same work without and with kernels, by turns.
struct Timing {
  std::string what;
  std::string unit;  // what one value is the time of
  std::vector<double> plain_ms;
  std::vector<double> kernelized_ms;
};

struct Neighbour {
  std::string query;
  std::vector<std::string> sentences;
  std::vector<double> cosines;
};

struct Results {
  std::int64_t sentences = 0;
  std::int64_t batch_size = 0;
  std::int64_t threads = 0;
  std::string torch_version;
  std::vector<LoadedPackage> packages;
  std::vector<kernelhub::LayerOutcome> layers;
  Agreement agreement;
  std::vector<Timing> timings;
  std::vector<Neighbour> neighbours;
};

/// Median of a list of times.
double median(std::vector<double> values);
/// (largest - smallest) / median.
double spread(const std::vector<double>& values);

/// Throws kernelhub::Error kIo.
void write_results(const Results& results, const std::filesystem::path& path);

}  // namespace demo
