// SPDX-License-Identifier: Apache-2.0
#include "commands.h"
#include "exit_code.h"
#include "torch_choice.h"

#include "kernelhub/get_kernel.h"
#include "kernelhub/hub/client.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace kernelhub::cli {
namespace {

nlohmann::json to_json(const std::vector<VariantDecision>& decisions) {
  nlohmann::json out = nlohmann::json::array();
  for (const VariantDecision& decision : decisions) {
    out.push_back({{"variant", decision.variant},
                   {"compatible", decision.accepted},
                   {"preferred", decision.accepted && out.empty()},
                   {"reason", decision.reason}});
  }
  return out;
}

void print(std::int64_t version, const std::vector<VariantDecision>& decisions) {
  std::printf("Version %lld:\n\n", static_cast<long long>(version));
  bool first = true;
  for (const VariantDecision& decision : decisions) {
    const std::string verdict = !decision.accepted ? ": " + decision.reason
                                : first            ? " compatible, preferred"
                                                   : " compatible";
    std::printf("  %s%s\n", decision.variant.c_str(), verdict.c_str());
    first = false;
  }
  std::printf("\n");
}

}  // namespace

int versions(const VersionsArgs& args) {
  LoadOptions options;
  options.config = Config::from_env();
  options.system = system_for(*options.config, args.torch);
  if (!args.backend.empty()) options.backend = args.backend;
  const std::vector<std::int64_t> numbers =
      hub::Client(*options.config).list_versions(RepoId::parse(args.repo));
  nlohmann::json document = {{"repo_id", args.repo}, {"versions", nlohmann::json::array()}};
  for (const std::int64_t number : numbers) {
    const auto decisions = get_kernel_variants(args.repo, KernelSpec::of_version(number), options);
    document["versions"].push_back({{"version", number}, {"variants", to_json(decisions)}});
    if (!args.json) print(number, decisions);
  }
  if (args.json) {
    std::printf("%s\n", document.dump(2).c_str());
  } else if (numbers.empty()) {
    std::printf("%s has no versions (branches named v<number>)\n", args.repo.c_str());
  }
  return kOk;
}

}  // namespace kernelhub::cli
