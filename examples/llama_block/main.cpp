// SPDX-License-Identifier: Apache-2.0
// Runs the model that llama_block.py wrote: plain, then with hub kernels in its norms, activation
// and rotary positions, for inference and for training; compares logits and gradients with the
// plain model in Python and in C++. No Python in this process.
#include "llama.h"

#include "kernelhub/layers/kernel_mapping.h"
#include "kernelhub/layers/kernelize.h"
#include "kernelhub/safetensors.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <set>
#include <string_view>

namespace {

using kernelhub::Mode;
using kernelhub::SafetensorsFile;
using Tensors = std::map<std::string, at::Tensor>;

/// One dtype and what may differ, as norm of the difference over the norm: logits, gradients.
struct Case {
  const char* name;
  at::ScalarType dtype;
  double logits, gradients;
};
// fp32: a few roundings of 6e-8 over a dozen ops. bf16: one rounding is up to 4e-3, and a kernel
// rounds less often than the plain model, whose distance to the same model in fp64 is as large: the
// sharper test is that distance, below.
constexpr Case kCases[] = {{"float32", at::kFloat, 2e-6, 2e-6},
                           {"bfloat16", at::kBFloat16, 2e-2, 3e-2}};
// A kernelized model is not farther from fp64 than this many times the plain one.
constexpr double kFartherThanPlain = 1.25;

struct Outcome {
  at::Tensor logits;
  Tensors gradients;
};

Tensors all_of(const SafetensorsFile& file, const std::string& prefix = "") {
  Tensors tensors;
  for (const auto& entry : file.entries()) {
    if (entry.name.rfind(prefix, 0) == 0) {
      tensors[entry.name.substr(prefix.size())] = file.tensor(entry.name);
    }
  }
  return tensors;
}

at::Tensor infer(llama::LlamaForCausalLM& model, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  return model.forward(ids);
}

/// Cross entropy of the next token.
Outcome train(llama::LlamaForCausalLM& model, const at::Tensor& ids) {
  model.zero_grad();
  const at::Tensor logits = model.forward(ids);
  const std::int64_t tokens = ids.size(1) - 1;
  const at::Tensor ahead = logits.narrow(1, 0, tokens).reshape({-1, logits.size(2)});
  const bool is_double = logits.scalar_type() == at::kDouble;
  at::cross_entropy_loss(is_double ? ahead : ahead.to(at::kFloat),
                         ids.narrow(1, 1, tokens).reshape({-1}))
      .backward();
  Outcome outcome{logits.detach(), {}};
  for (const auto& item : model.named_parameters()) {
    outcome.gradients[item.key()] = item.value().grad().clone();
  }
  return outcome;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wanted = b.to(at::kDouble);
  return ((a.to(at::kDouble) - wanted).norm() / wanted.norm()).item<double>();
}

double distance(const Tensors& a, const Tensors& b) {
  double largest = 0;
  for (const auto& [name, wanted] : b) largest = std::max(largest, distance(a.at(name), wanted));
  return largest;
}

class Report {
 public:
  void check(const std::string& what, double found, double allowed) {
    const bool fits = found <= allowed;  // false for NaN
    fmt::print("  {:<60} {:9.2e} of {:.2g}{}\n", what, found, allowed, fits ? "" : "  TOO FAR");
    is_good_ = is_good_ && fits;
  }
  void require(const std::string& what, bool holds) {
    fmt::print("  {:<60} {}\n", what, holds ? "yes" : "NO");
    is_good_ = is_good_ && holds;
  }
  bool is_good() const { return is_good_; }

 private:
  bool is_good_ = true;
};

void swap(llama::LlamaForCausalLM& model, Mode mode, Report& report) {
  std::set<std::string> sources;
  bool all = true;
  for (const kernelhub::LayerOutcome& layer :
       kernelhub::kernelize(model, mode, "cpu", kernelhub::KernelizeFallback::kNone)) {
    all = all && layer.swapped;
    sources.insert(fmt::format("{:<14} {}", layer.layer_name, layer.source));
  }
  report.require(fmt::format("every marked layer has a kernel for {}", kernelhub::mode_name(mode)),
                 all);
  for (const std::string& source : sources) fmt::print("    {}\n", source);
}

void compare(const Case& c, const SafetensorsFile& weights, const SafetensorsFile& python,
             Report& report) {
  fmt::print("\n{}\n", c.name);
  llama::LlamaForCausalLM model(llama::Config::of(weights.metadata()));
  model.load(all_of(weights));
  model.to(c.dtype);
  llama::LlamaForCausalLM exact(llama::Config::of(weights.metadata()));
  exact.to(at::kDouble);
  Tensors rounded;
  for (const auto& item : model.named_parameters()) rounded[item.key()] = item.value();
  exact.load(rounded);
  const at::Tensor ids = python.tensor("ids");
  const Outcome wanted = train(exact, ids);

  const at::Tensor plain = infer(model, ids);
  const Outcome plain_training = train(model, ids);
  report.check("plain, C++ to Python: logits", distance(plain, python.tensor("plain.logits")),
               c.logits);
  report.check("plain, C++ to Python: gradients",
               distance(plain_training.gradients, all_of(python, "plain.grad.")), c.gradients);

  swap(model, Mode::kInference, report);
  const at::Tensor swapped = infer(model, ids);
  report.require("the kernels ran: some bits differ from the plain model", !swapped.equal(plain));
  report.check("kernels to plain, inference: logits", distance(swapped, plain), c.logits);
  report.check("kernels to fp64, in distances of the plain model: logits",
               distance(swapped, wanted.logits) / distance(plain, wanted.logits),
               kFartherThanPlain);

  swap(model, Mode::kTraining, report);
  const Outcome training = train(model, ids);
  report.check("kernels to plain, training: logits", distance(training.logits, plain), c.logits);
  report.check("kernels to plain, training: gradients",
               distance(training.gradients, plain_training.gradients), c.gradients);
  report.check("kernels to fp64, in distances of the plain model: gradients",
               distance(training.gradients, wanted.gradients) /
                   distance(plain_training.gradients, wanted.gradients),
               kFartherThanPlain);
  report.check("kernels, C++ to Python: logits",
               distance(training.logits, python.tensor("kernels.logits")), c.logits);
  report.check("kernels, C++ to Python: gradients",
               distance(training.gradients, all_of(python, "kernels.grad.")), c.gradients);

  kernelhub::unkernelize(model);
  report.require("unkernelize gives the plain model back, bit for bit",
                 infer(model, ids).equal(plain));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || std::string_view(argv[1]) == "--help") {
    fmt::print("usage: llama_block FOLDER   (written by llama_block.py)\n");
    return argc == 2 ? 0 : 2;
  }
  try {
    at::set_num_threads(1);
    const std::filesystem::path folder = argv[1];
    kernelhub::register_kernel_mapping(kernelhub::default_kernel_mapping());
    const auto weights = SafetensorsFile::open(folder / "model.safetensors");
    Report report;
    for (const Case& c : kCases) {
      compare(c, weights, SafetensorsFile::open(folder / fmt::format("{}.safetensors", c.name)),
              report);
    }
    return report.is_good() ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "llama_block: {}\n", error.what());
    return 1;
  }
}
