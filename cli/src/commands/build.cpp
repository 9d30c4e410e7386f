// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/build.h"

#include "build_reporter.h"
#include "cli_errors.h"
#include "commands.h"
#include "exit_code.h"
#include "report_json.h"

#include "kernelhub/core/config.h"

#include <fmt/format.h>

#include <cstdio>

namespace kernelhub::cli {
namespace {

using Status = builder::VariantOutcome::Status;

builder::BuildOptions options_of(const BuildArgs& args, const Config& config) {
  builder::BuildOptions options;
  options.directory = args.directory;
  if (!args.backend.empty()) {
    options.filter.backend = parse_backend_name(args.backend);
    if (!options.filter.backend) {
      throw cli_errors::bad_option("--backend", args.backend, "a backend name like cpu");
    }
  }
  if (!args.variant.empty()) options.filter.variant = args.variant;
  options.filter.archs = args.archs;
  options.filter.components = args.components;
  options.toolchain.python = args.python;
  options.toolchain.torch_prefix = args.torch;
  if (args.torch.empty() && args.python.empty()) {
    options.toolchain.torch_prefix = config.torch_prefix;
  }
  options.toolchain.dependencies = args.dependencies;
  if (!args.unique_id.empty()) options.unique_id = args.unique_id;
  options.jobs = args.jobs;
  options.strict = args.strict;
  options.dry_run = args.dry_run;
  options.force = args.force;
  return options;
}

void print(const builder::BuildReport& report) {
  for (const builder::VariantOutcome& outcome : report.variants) {
    fmt::print("{:<11} {}", builder::status_name(outcome.status), outcome.variant);
    if (outcome.status == Status::kBuilt) fmt::print("  {:.1f} s", outcome.seconds);
    if (outcome.status == Status::kSkipped) fmt::print("  ({})", outcome.reason);
    fmt::print("\n");
    if (!outcome.directory.empty()) fmt::print("            {}\n", outcome.directory.string());
  }
}

void print_failures(const builder::BuildReport& report) {
  for (const builder::VariantOutcome& outcome : report.variants) {
    if (outcome.status != Status::kFailed) continue;
    fmt::print(stderr, "kernelhub: {}\n", outcome.reason);
    if (!outcome.hint.empty()) fmt::print(stderr, "try: {}\n", outcome.hint);
  }
}

}  // namespace

int build(const BuildArgs& args) {
  BuildReporter reporter;
  builder::BuildOptions options = options_of(args, Config::from_env());
  options.progress = &reporter;
  const builder::BuildReport report = builder::build_project(options);
  for (const builder::Diagnostic& finding : report.diagnostics) {
    fmt::print(stderr, "{}\n", finding.str());
  }
  print_failures(report);
  if (args.json) {
    fmt::print("{}\n", to_json(report));
  } else {
    print(report);
  }
  return report.ok() ? kOk : kFailure;
}

}  // namespace kernelhub::cli
