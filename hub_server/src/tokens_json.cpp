// SPDX-License-Identifier: Apache-2.0
#include "auth.h"
#include "server_errors.h"

#include "kernelhub/core/json_access.h"

#include <nlohmann/json.hpp>

namespace kernelhub::server {
namespace {

Role parse_role(const JsonObject& token) {
  const std::string name = token.string("role");
  for (const Role role : {Role::kRead, Role::kWrite, Role::kAdmin}) {
    if (role_name(role) == name) return role;
  }
  token.fail("role", "read, write or admin", name);
}

}  // namespace

std::string tokens_to_json(const std::vector<TokenRecord>& tokens) {
  nlohmann::json list = nlohmann::json::array();
  for (const TokenRecord& token : tokens) {
    list.push_back({{"name", token.name},
                    {"sha256", token.sha256.hex()},
                    {"role", role_name(token.role)},
                    {"namespaces", token.namespaces}});
  }
  return nlohmann::json{{"tokens", list}}.dump(2);
}

std::vector<TokenRecord> tokens_from_json(std::string_view bytes, const std::string& origin) {
  const nlohmann::json document = parse_untrusted_json(bytes, origin);
  const JsonObject root(document, origin, "$", ErrorCode::kStoreCorrupt);
  std::vector<TokenRecord> tokens;
  for (const JsonObject& token : root.objects("tokens")) {
    tokens.push_back({token.string("name"),
                      Digest::from_hex(DigestAlgorithm::kSha256, token.string("sha256")),
                      parse_role(token), token.strings("namespaces")});
  }
  return tokens;
}

}  // namespace kernelhub::server
