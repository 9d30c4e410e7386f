// SPDX-License-Identifier: Apache-2.0
#include "endpoint.h"
#include "policy_file.h"
#include "trust_errors.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/repo.h"
#include "kernelhub/core/toml.h"
#include "kernelhub/core/unique_fd.h"

#include <fmt/format.h>

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kernelhub::trust {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxPolicyBytes = 1u << 20;
constexpr std::string_view kEditHint = "correct the policy file; nothing loads before that";

std::uint32_t line_of(const toml::node& node) { return node.source().begin.line; }

[[noreturn]] void fail(const fs::path& file, std::uint32_t line, std::string_view reason) {
  throw trust_errors::policy_invalid(file, line, reason, kEditHint);
}

/// Content of a policy file that only this user or root can write; nothing when there is no file.
std::optional<std::string> read_protected_file(const fs::path& file) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) throw core_errors::read_failed(file, errno);
  if (!S_ISREG(status.st_mode)) fail(file, 0, "expected a regular file, found another kind");
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    fail(file, 0, fmt::format("it is owned by uid {}, expected this user or root", status.st_uid));
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    throw trust_errors::policy_invalid(
        file, 0, fmt::format("others may write it (mode {:04o})", status.st_mode & 07777U),
        fmt::format("run 'chmod go-w {}'", file.string()));
  }
  std::string content(kMaxPolicyBytes + 1, '\0');
  std::size_t used = 0;
  while (used < content.size()) {
    const ssize_t count = ::read(fd.get(), content.data() + used, content.size() - used);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw core_errors::read_failed(file, errno);
    if (count == 0) break;
    used += static_cast<std::size_t>(count);
  }
  if (used > kMaxPolicyBytes) fail(file, 0, "it is longer than 1 MiB");
  content.resize(used);
  return content;
}

template <class T>
T value_of(const toml::node& node, const fs::path& file, std::string_view key,
           std::string_view expected) {
  const auto value = node.value_exact<T>();
  if (!value) fail(file, line_of(node), fmt::format("{}: expected {}", key, expected));
  return *value;
}

std::string text_of(const toml::node& node, const fs::path& file, std::string_view key) {
  return value_of<std::string>(node, file, key, "a string");
}

bool flag_of(const toml::node& node, const fs::path& file, std::string_view key) {
  return value_of<bool>(node, file, key, "true or false");
}

fs::path path_of(const toml::node& node, const fs::path& file, std::string_view key) {
  const fs::path path = text_of(node, file, key);
  if (!path.is_absolute()) {
    fail(file, line_of(node), fmt::format("{}: expected an absolute path", key));
  }
  return path.lexically_normal();
}

std::vector<std::string> endpoints_of(const toml::node& node, const fs::path& file) {
  const toml::array* list = node.as_array();
  if (list == nullptr) fail(file, line_of(node), "endpoints: expected an array of URLs");
  std::vector<std::string> endpoints;
  for (const toml::node& item : *list) {
    std::string url = normalised_endpoint(text_of(item, file, "endpoints"));
    if (url.empty()) fail(file, line_of(item), "endpoints: expected an http or https URL");
    endpoints.push_back(std::move(url));
  }
  return endpoints;
}

/// A repo id, or a namespace followed by "/*".
bool is_source_match(const std::string& text) {
  const bool is_namespace = text.size() > 2 && text.compare(text.size() - 2, 2, "/*") == 0;
  try {
    const RepoId id = RepoId::parse(is_namespace ? text.substr(0, text.size() - 1) + "x" : text);
    return !is_namespace || !id.ns().empty();
  } catch (const Error&) {
    return false;
  }
}

PolicyFile::Source source_of(const toml::node& node, const fs::path& file) {
  const toml::table* table = node.as_table();
  if (table == nullptr) fail(file, line_of(node), "source: expected [[source]] tables");
  PolicyFile::Source source;
  source.line = line_of(node);
  for (const auto& [key, value] : *table) {
    if (key == "match") {
      source.match = text_of(value, file, "match");
      if (!is_source_match(source.match)) {
        fail(file, line_of(value), "match: expected a repo id or 'namespace/*'");
      }
    } else if (key == "deny") {
      source.deny = flag_of(value, file, "deny");
    } else if (key == "path") {
      source.path = path_of(value, file, "path");
    } else {
      fail(
          file, line_of(value),
          fmt::format("unknown key '{}' in [[source]], known are match, deny and path", key.str()));
    }
  }
  if (source.match.empty()) fail(file, source.line, "[[source]] has no match");
  return source;
}

void read_key(std::string_view key, const toml::node& node, PolicyFile& policy) {
  const fs::path& file = policy.file;
  if (key == "mode") {
    const std::string name = text_of(node, file, key);
    policy.mode = parse_mode(name);
    policy.mode_line = line_of(node);
    if (!policy.mode) {
      fail(file, policy.mode_line,
           fmt::format("mode: expected compat, standard or strict, found '{}'", name));
    }
  } else if (key == "endpoints") {
    policy.endpoints = endpoints_of(node, file);
  } else if (key == "allow_http") {
    policy.allow_http = flag_of(node, file, key);
  } else if (key == "require_sealed") {
    policy.require_sealed = flag_of(node, file, key);
  } else if (key == "audit") {
    policy.audit = text_of(node, file, key).empty() ? fs::path() : path_of(node, file, key);
  } else if (key == "source") {
    const toml::array* sources = node.as_array();
    if (sources == nullptr) fail(file, line_of(node), "source: expected [[source]] tables");
    for (const toml::node& source : *sources) policy.sources.push_back(source_of(source, file));
  } else {
    fail(file, line_of(node),
         fmt::format("unknown key '{}', known are mode, endpoints, allow_http, require_sealed, "
                     "audit and [[source]]",
                     key));
  }
}

}  // namespace

std::optional<PolicyFile> read_policy_file(const fs::path& file) {
  const auto content = read_protected_file(file);
  if (!content) return std::nullopt;
  PolicyFile policy;
  policy.file = file;
  try {
    const toml::table root = parse_toml(*content, file.string());
    for (const auto& [key, node] : root) read_key(key.str(), node, policy);
  } catch (const TomlSyntaxError& error) {
    fail(file, error.line, error.what());
  }
  return policy;
}

}  // namespace kernelhub::trust
