// SPDX-License-Identifier: Apache-2.0
#include "verify_files.h"

#include "kernelhub/get_kernel.h"

namespace kernelhub {
namespace {

InstalledKernel install(const Request& request, TrustContext& trust, ChosenVariant chosen) {
  InstalledKernel installed;
  installed.trace = chosen.choice.decisions;
  const trust::VerifiedPackage verified = fetch_and_verify(request, trust, std::move(chosen));
  installed.directory = verified.origin().directory;
  installed.variant = verified.origin().variant;
  installed.repo = verified.origin().repo;
  installed.commit = verified.origin().commit;
  return installed;
}

}  // namespace

InstalledKernel install_kernel(std::string_view repo, const KernelSpec& spec,
                               const LoadOptions& options) {
  const Request request = make_request(repo, spec, options, NoarchRule::kAccept);
  TrustContext trust(request.config);
  return install(request, trust, choose_from_hub(request, trust));
}

std::vector<InstalledKernel> install_all_variants(std::string_view repo, const KernelSpec& spec,
                                                  const LoadOptions& options) {
  const Request request = make_request(repo, spec, options, NoarchRule::kAccept);
  TrustContext trust(request.config);
  std::vector<InstalledKernel> installed;
  for (const VariantDecision& decision : get_kernel_variants(repo, spec, options)) {
    installed.push_back(install(request, trust, choose_from_hub(request, trust, decision.variant)));
  }
  return installed;
}

}  // namespace kernelhub
