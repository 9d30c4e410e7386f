// SPDX-License-Identifier: Apache-2.0
// A BERT encoder in C++, without Python in the process: its GELU and LayerNorm layers are replaced
// by kernels fetched from a hub, and put back.
#include "arguments.h"
#include "compare.h"
#include "hub_kernels.h"
#include "results.h"
#include "sentence_encoder.h"
#include "terminal.h"

#include "kernelhub/core/error.h"
#include "kernelhub/layers/kernelize.h"
#include "kernelhub/safetensors.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <fstream>

namespace {

using bert::BertModel;
using bert::TokenizedTexts;

/// Texts of one kind with the reference embeddings of prepare.py.
struct Texts {
  std::vector<std::string> lines;
  TokenizedTexts tokens;
  at::Tensor reference;  // float32 [texts, hidden]
};

Texts read_texts(const kernelhub::SafetensorsFile& file, const std::string& kind,
                 const std::filesystem::path& lines) {
  Texts texts{{},
              {file.tensor(kind + "_ids"), file.tensor(kind + "_lengths")},
              file.tensor(kind + "_reference")};
  std::ifstream stream(lines);
  for (std::string line; std::getline(stream, line);) texts.lines.push_back(line);
  if (static_cast<std::int64_t>(texts.lines.size()) != texts.tokens.ids.size(0)) {
    throw kernelhub::Error(
        kernelhub::ErrorCode::kInvalidArgument,
        fmt::format("{} has {} lines, {} has {} rows of {}", lines.string(), texts.lines.size(),
                    file.path().string(), texts.tokens.ids.size(0), kind),
        "run prepare.py again");
  }
  return texts;
}

at::Tensor embed(BertModel& model, const Texts& texts, std::int64_t batch_size, const char* title) {
  demo::ProgressLine line;
  const at::Tensor embeddings =
      bert::embed(model, texts.tokens, batch_size, [&](std::int64_t done) {
        line.show(fmt::format("{}: {} of {} sentences", title, done, texts.lines.size()));
      });
  line.clear();
  return embeddings;
}

double max_abs(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

void print_layers(const std::vector<kernelhub::LayerOutcome>& layers) {
  std::map<std::string, int> swapped;
  for (const kernelhub::LayerOutcome& layer : layers) {
    if (layer.swapped) {
      ++swapped[fmt::format("{:<10} {}", layer.layer_name, layer.source)];
    } else {
      fmt::print("  kept     {} ({}): {}\n", layer.path, layer.layer_name, layer.reason);
    }
  }
  for (const auto& [what, count] : swapped) fmt::print("  swapped  {:>2} x {}\n", count, what);
}

void print_timings(const std::vector<demo::Timing>& timings) {
  for (const demo::Timing& timing : timings) {
    const double plain = demo::median(timing.plain_ms);
    const double kernelized = demo::median(timing.kernelized_ms);
    fmt::print(
        "  {:<26} {:9.4f} ms -> {:9.4f} ms per {}, ratio {:.3f} (spread {:.0f} % and {:.0f} %)\n",
        timing.what, plain, kernelized, timing.unit, kernelized / plain,
        100 * demo::spread(timing.plain_ms), 100 * demo::spread(timing.kernelized_ms));
  }
}

void print_neighbours(const std::vector<demo::Neighbour>& neighbours) {
  for (const demo::Neighbour& neighbour : neighbours) {
    fmt::print("  \"{}\"\n", neighbour.query);
    for (std::size_t rank = 0; rank < neighbour.sentences.size(); ++rank) {
      fmt::print("    {:.3f}  {}\n", neighbour.cosines[rank], neighbour.sentences[rank]);
    }
  }
}

/// Plain, kernelized, restored: embeddings of one model and how far they are from the reference.
void swap_and_compare(BertModel& model, const Texts& sentences, const Texts& queries,
                      const demo::Arguments& arguments, demo::Results& results) {
  const std::int64_t batch = arguments.batch_size;
  const at::Tensor plain = embed(model, sentences, batch, "plain");
  fmt::print("\nkernelize\n");
  results.layers = kernelhub::kernelize(model, kernelhub::Mode::kInference);
  print_layers(results.layers);
  const at::Tensor kernelized = embed(model, sentences, batch, "kernelized");
  results.neighbours = demo::nearest(bert::embed(model, queries.tokens, batch), kernelized,
                                     queries.lines, sentences.lines, 3);
  kernelhub::unkernelize(model);
  const at::Tensor restored = embed(model, sentences, batch, "un-kernelized");

  demo::Agreement& agreement = results.agreement;
  agreement.plain_to_reference = max_abs(plain, sentences.reference);
  agreement.kernelized_to_reference = max_abs(kernelized, sentences.reference);
  agreement.kernelized_to_plain = max_abs(kernelized, plain);
  agreement.restored_bit_equal = restored.equal(plain);
  fmt::print("\nembeddings against the Python reference, max abs difference\n");
  fmt::print(
      "  plain       {:.2e}\n  kernelized  {:.2e} ({:.2e} to plain)\n  un-kernelized is {}\n",
      agreement.plain_to_reference, agreement.kernelized_to_reference,
      agreement.kernelized_to_plain,
      agreement.restored_bit_equal ? "bit-equal to plain" : "DIFFERENT from plain");
}

void run(const demo::Arguments& arguments) {
  if (arguments.threads > 0) at::set_num_threads(arguments.threads);
  const auto inputs = kernelhub::SafetensorsFile::open(arguments.inputs / "inputs.safetensors");
  const Texts sentences = read_texts(inputs, "sentence", arguments.inputs / "sentences.txt");
  const Texts queries = read_texts(inputs, "query", arguments.inputs / "queries.txt");
  const auto model = BertModel::from_pretrained(arguments.model);
  demo::Results results;
  results.sentences = sentences.tokens.ids.size(0);
  results.batch_size = arguments.batch_size;
  results.threads = at::get_num_threads();
  results.torch_version = TORCH_VERSION;
  fmt::print("all-MiniLM-L6-v2, {} sentences, torch {}, {} thread(s), no Python here\n\n",
             results.sentences, results.torch_version, results.threads);

  results.packages = demo::load_and_compare(arguments.packages);
  kernelhub::register_kernel_mapping(demo::mapping_of(arguments.packages));
  swap_and_compare(*model, sentences, queries, arguments, results);

  // A second model on the same mapped weights, so that the two can be timed by turns.
  const auto kernelized = BertModel::from_pretrained(arguments.model);
  kernelhub::kernelize(*kernelized, kernelhub::Mode::kInference);
  results.timings = demo::time_models(*model, *kernelized, sentences.tokens, arguments.batch_size,
                                      arguments.rounds);
  fmt::print("\ntime, plain -> kernelized, medians of {} rounds by turns\n", arguments.rounds);
  print_timings(results.timings);
  fmt::print("\nnearest sentences\n");
  print_neighbours(results.neighbours);
  demo::write_results(results, arguments.results);
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // whoever reads a pipe waits, too
  int exit_status = 0;
  const auto arguments = demo::parse_arguments(argc, argv, exit_status);
  if (!arguments) return exit_status;
  try {
    run(*arguments);
  } catch (const kernelhub::Error& error) {
    fmt::print(stderr, "sentence_embeddings: {}\n{}\n", error.what(), error.hint());
    return 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "sentence_embeddings: {}\n", error.what());
    return 1;
  }
  return 0;
}
