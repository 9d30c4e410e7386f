// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/hub/client.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kernelhub::hub {

/// Replies of hub spec 2 as values. `origin` is the URL for messages. All throw HubError kNotAHub
/// when the bytes are not what the route promises.
struct Refs {
  std::vector<Branch> branches;
  std::vector<Branch> tags;
};
Refs parse_refs(std::string_view bytes, const std::string& origin);
/// Commit of a revision (`sha` of R1).
CommitHash parse_revision(std::string_view bytes, const std::string& origin);
/// Appends one page. Every path is safe and below `folder` (empty: anywhere), every id well-formed;
/// otherwise kUnsafeListing.
void parse_tree_page(std::string_view bytes, const std::string& origin, std::string_view folder,
                     Tree& tree);
bool parse_publisher_flag(std::string_view bytes, const std::string& origin);
/// `error` of an error reply, nothing when the body is something else.
std::optional<std::string> parse_error_text(std::string_view bytes) noexcept;

/// A JSON object of string facts, for Error::details(); empty values are left out.
std::string facts_to_json(const std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace kernelhub::hub
