// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_message.h"

#include "kernelhub/server/fault_plan.h"

namespace kernelhub::server {

/// Answer that a kStatus or kRedirect fault gives in place of the route.
std::optional<HttpResponse> planned_response(const Fault& fault);
/// Spoils a true answer as kCut, kFlipByte, kWrongLength and kDrop ask. Reads spoilt files whole.
void spoil_response(const Fault& fault, HttpResponse& response);

}  // namespace kernelhub::server
