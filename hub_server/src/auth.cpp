// SPDX-License-Identifier: Apache-2.0
#include "auth.h"

#include "server_errors.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/file_lock.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <utility>

namespace kernelhub::server {
namespace fs = std::filesystem;

std::string random_hex(std::size_t bytes) {
  std::vector<std::uint8_t> random(bytes);
  if (RAND_bytes(random.data(), static_cast<int>(bytes)) != 1) {
    throw Error(ErrorCode::kIo, "the system's random source failed");
  }
  return Digest{DigestAlgorithm::kSha256, std::move(random)}.hex();
}

namespace {

constexpr std::string_view kBearer = "Bearer ";
constexpr std::size_t kFailuresPerMinute = 10;
constexpr std::chrono::seconds kFailureWindow{60};
constexpr std::size_t kRememberedAddresses = 10'000;
constexpr std::chrono::seconds kStampStep{2};  // the coarsest file systems'

std::string new_token() { return "kh_" + random_hex(32); }

}  // namespace

std::string_view role_name(Role role) noexcept {
  switch (role) {
    case Role::kRead:
      return "read";
    case Role::kWrite:
      return "write";
    case Role::kAdmin:
      return "admin";
  }
  return "";
}

bool Caller::reaches(std::string_view ns) const {
  if (!token) return false;
  return std::any_of(token->namespaces.begin(), token->namespaces.end(),
                     [&](const std::string& name) { return name == "*" || name == ns; });
}

void Caller::require_write(std::string_view ns, std::string_view action) const {
  if (!token) throw server_errors::token_required(action);
  if (token->role == Role::kRead || !reaches(ns)) {
    throw server_errors::token_lacks_scope(role_name(Role::kWrite), ns);
  }
}

TokenStore::TokenStore(fs::path root) : root_(std::move(root)) {
  const fs::path file = root_ / "admin-token";
  if (!fs::exists(root_ / "tokens.json")) {
    // The readable copy first: a kill in between leaves no store without a known token.
    const std::string token = new_token();
    write_file_atomically(file, token, 0600);
    store("admin", token, Role::kAdmin, {"*"});
  }
  if (fs::exists(file)) admin_token_ = read_file(file, 4096);
}

std::vector<TokenRecord> TokenStore::load() const {
  const fs::path path = root_ / "tokens.json";
  if (!fs::exists(path)) return {};
  return tokens_from_json(read_file(path), path.string());
}

std::string TokenStore::add(const std::string& name, Role role,
                            std::vector<std::string> namespaces) {
  const std::string token = new_token();
  store(name, token, role, std::move(namespaces));
  return token;
}

void TokenStore::store(const std::string& name, const std::string& token, Role role,
                       std::vector<std::string> namespaces) {
  const FileLock held(root_ / "tokens.lock");
  std::vector<TokenRecord> tokens = load();
  tokens.push_back({name, digest_of(DigestAlgorithm::kSha256, token), role, std::move(namespaces)});
  write_file_atomically(root_ / "tokens.json", tokens_to_json(tokens), 0600);
  const std::lock_guard guard(mutex_);
  loaded_time_.reset();
}

void TokenStore::refresh() {
  const fs::file_time_type changed = fs::last_write_time(root_ / "tokens.json");
  if (loaded_time_ == changed) return;
  tokens_ = load();
  // Time stamps advance in steps: a file written just now may be written again and keep its stamp.
  loaded_time_.reset();
  if (fs::file_time_type::clock::now() - changed > kStampStep) loaded_time_ = changed;
}

bool TokenStore::is_user(const std::string& name) {
  const std::lock_guard guard(mutex_);
  refresh();
  return std::any_of(tokens_.begin(), tokens_.end(),
                     [&](const TokenRecord& token) { return token.name == name; });
}

Caller TokenStore::identify(const std::string& authorization, const std::string& remote_address) {
  if (authorization.empty()) return {};
  const std::lock_guard guard(mutex_);
  check_failures(remote_address);
  refresh();
  if (authorization.rfind(kBearer, 0) == 0) {
    const Digest presented =
        digest_of(DigestAlgorithm::kSha256, authorization.substr(kBearer.size()));
    const TokenRecord* match = nullptr;
    for (const TokenRecord& token : tokens_) {
      const bool equal = CRYPTO_memcmp(token.sha256.bytes.data(), presented.bytes.data(),
                                       presented.bytes.size()) == 0;
      if (equal) match = &token;
    }
    if (match != nullptr) return {*match};
  }
  count_failure(remote_address);
  throw server_errors::token_invalid();
}

void TokenStore::check_failures(const std::string& remote_address) {
  const auto found = failures_.find(remote_address);
  if (found == failures_.end()) return;
  auto& times = found->second;
  const auto now = std::chrono::steady_clock::now();
  while (!times.empty() && now - times.front() > kFailureWindow) times.pop_front();
  if (times.size() < kFailuresPerMinute) return;
  const auto left = kFailureWindow - (now - times.front());
  throw server_errors::too_many_bad_tokens(
      static_cast<int>(std::chrono::duration_cast<std::chrono::seconds>(left).count()) + 1);
}

void TokenStore::count_failure(const std::string& remote_address) {
  if (failures_.size() >= kRememberedAddresses) failures_.clear();
  failures_[remote_address].push_back(std::chrono::steady_clock::now());
}

}  // namespace kernelhub::server
