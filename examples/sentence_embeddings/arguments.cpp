// SPDX-License-Identifier: Apache-2.0
#include "arguments.h"

#include <CLI/CLI.hpp>

namespace demo {

std::optional<Arguments> parse_arguments(int argc, char** argv, int& exit_status) {
  Arguments arguments;
  CLI::App app(
      "Embeds sentences with all-MiniLM-L6-v2 in C++: plain, with kernels from a hub, plain "
      "again.\n"
      "The hub is HF_ENDPOINT; see fetch_model.py and prepare.py for the folders.");
  app.option_defaults()->always_capture_default();
  app.add_option("--model", arguments.model, "folder with config.json and model.safetensors")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--inputs", arguments.inputs, "folder written by prepare.py")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--results", arguments.results, "results.json to write")->required();
  app.add_option("--activation", arguments.packages.activation, "repository");
  app.add_option("--activation-version", arguments.packages.activation_version, "");
  app.add_option("--next-version", arguments.packages.activation_next_version,
                 "second version of activation, loaded beside it");
  app.add_option("--extra-op", arguments.packages.extra_op, "op that only that version has");
  app.add_option("--layer-norm", arguments.packages.layer_norm, "repository");
  app.add_option("--layer-norm-version", arguments.packages.layer_norm_version, "");
  app.add_option("--batch-size", arguments.batch_size, "sentences per step")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", arguments.threads, "threads of torch, 0 = its default")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--rounds", arguments.rounds, "timing rounds")->check(CLI::PositiveNumber);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_status = app.exit(error);
    return {};
  }
  return arguments;
}

}  // namespace demo
