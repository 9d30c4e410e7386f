// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/digest.h"

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::server {

enum class Role : std::uint8_t { kRead, kWrite, kAdmin };
/// "read", "write", "admin".
std::string_view role_name(Role role) noexcept;

/// A stored token: its hash and what it opens. A token's name is its user name.
struct TokenRecord {
  std::string name;
  Digest sha256;
  Role role = Role::kRead;
  std::vector<std::string> namespaces;  // "*" = all
};

/// Lower-case hex of `bytes` random bytes of OpenSSL.
std::string random_hex(std::size_t bytes);

std::string tokens_to_json(const std::vector<TokenRecord>& tokens);
std::vector<TokenRecord> tokens_from_json(std::string_view bytes, const std::string& origin);

/// Who sends a request; no token: anonymous.
struct Caller {
  std::optional<TokenRecord> token;

  bool is_anonymous() const noexcept { return !token; }
  bool reaches(std::string_view ns) const;
  /// Throws kAuthRequired for anonymous callers, kForbidden without the role in this namespace.
  void require_write(std::string_view ns, std::string_view action) const;
};

/// Bearer tokens of `<store>/tokens.json` (0600, SHA-256 only). The file is read again when it
/// changes, so a revoked token is refused at once. Thread-safe.
class TokenStore {
 public:
  /// An empty store gets an admin token, written once to `<store>/admin-token` (0600).
  explicit TokenStore(std::filesystem::path root);
  /// Content of `<store>/admin-token`, empty when there is no such file.
  const std::string& admin_token() const noexcept { return admin_token_; }
  /// Whether a token has this name.
  bool is_user(const std::string& name);
  /// Stores a new random 256-bit token and returns it; it cannot be read again.
  std::string add(const std::string& name, Role role, std::vector<std::string> namespaces);
  /// Caller of an Authorization header. Throws kAuthInvalid for anything but a known bearer token,
  /// kRateLimited after 10 such failures in a minute from one address.
  Caller identify(const std::string& authorization, const std::string& remote_address);

 private:
  std::vector<TokenRecord> load() const;
  void refresh();  // caller holds mutex_
  void store(const std::string& name, const std::string& token, Role role,
             std::vector<std::string> namespaces);
  void count_failure(const std::string& remote_address);
  void check_failures(const std::string& remote_address);

  std::filesystem::path root_;
  std::string admin_token_;
  std::mutex mutex_;
  std::vector<TokenRecord> tokens_;
  std::optional<std::filesystem::file_time_type> loaded_time_;  // nothing: read it again
  std::map<std::string, std::deque<std::chrono::steady_clock::time_point>> failures_;
};

}  // namespace kernelhub::server
