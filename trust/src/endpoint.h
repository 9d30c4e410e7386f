// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace kernelhub::trust {

/// The hub that needs no listing.
constexpr std::string_view kBuiltInEndpoint = "https://huggingface.co";

/// Spelling in which two URLs of one hub are equal: scheme and host in lower case, default port and
/// trailing '/' removed, path kept. Empty unless it is an http or https URL without user info.
std::string normalised_endpoint(std::string_view url);
/// True for http to a host other than this machine.
bool is_plain_remote(std::string_view url);

}  // namespace kernelhub::trust
