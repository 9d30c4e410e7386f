// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/check.h"

#include "cli_errors.h"
#include "commands.h"
#include "exit_code.h"
#include "report_json.h"

#include <fmt/format.h>

namespace kernelhub::cli {
namespace {

MajorMinor version_of(const std::string& option, const std::string& text) {
  const std::optional<MajorMinor> version = parse_major_minor(text);
  if (!version || version->str() != text) {
    throw cli_errors::bad_option(option, text, "a version x.y");
  }
  return *version;
}

void print(const std::vector<CheckedVariant>& variants) {
  for (const CheckedVariant& checked : variants) {
    const bool ok = !builder::has_errors(checked.findings);
    fmt::print("{:<8} {}\n", ok ? "ok" : "findings", checked.variant);
    for (const builder::CheckFinding& finding : checked.findings) {
      fmt::print("         {}\n", finding.str());
    }
  }
}

}  // namespace

int check(const CheckArgs& args) {
  builder::CheckOptions options;
  options.manylinux = args.manylinux;
  options.python_abi = version_of("--python-abi", args.python_abi);
  if (!args.torch_stable_abi.empty()) {
    options.torch_stable_abi = version_of("--torch-stable-abi", args.torch_stable_abi);
  }
  options.strict = args.strict;
  std::vector<CheckedVariant> variants;
  bool clean = true;
  for (const std::filesystem::path& directory : builder::find_variants(args.directory)) {
    variants.push_back({directory.filename().string(), builder::check_variant(directory, options)});
    clean = clean && !builder::has_errors(variants.back().findings);
  }
  if (args.json) {
    fmt::print("{}\n", to_json(variants));
  } else {
    print(variants);
  }
  return clean ? kOk : kFailure;
}

}  // namespace kernelhub::cli
