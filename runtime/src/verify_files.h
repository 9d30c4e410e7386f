// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "choose_variant.h"

#include "kernelhub/trust/verifier.h"

namespace kernelhub {

/// Steps 9-10 of the pipeline: files on disk, every byte compared.
trust::VerifiedPackage fetch_and_verify(const Request& request, TrustContext& trust,
                                        ChosenVariant chosen);
/// Records the decision for offline use and the ref that led to the commit.
void remember(const Request& request, TrustContext& trust, const ChosenVariant& chosen);

}  // namespace kernelhub
