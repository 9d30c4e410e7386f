// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/repo.h"

#include "kernelhub/core/core_errors.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace kernelhub {
namespace {

constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kIdAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// Why `part` is no namespace or name; empty when it is one.
std::string_view part_fault(std::string_view part) {
  if (part.empty()) return "a part is empty";
  if (part.size() > 96) return "a part is longer than 96 characters";
  if (part.find_first_not_of(kIdAlphabet) != std::string_view::npos) {
    return "it has a character outside letters, digits, '_', '.' and '-'";
  }
  const auto is_edge = [](char c) { return c == '-' || c == '.'; };
  if (is_edge(part.front()) || is_edge(part.back())) {
    return "a part starts or ends with '-' or '.'";
  }
  if (contains(part, "--") || contains(part, "..")) return "'--' and '..' are not allowed";
  return "";
}

/// Why `text` is no git reference name; empty when it is one.
std::string_view revision_fault(std::string_view text) {
  if (text.empty()) return "it is empty";
  if (text.size() > 255) return "it is longer than 255 bytes";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7f || std::string_view("~^:?*[\\").find(c) != text.npos) {
      return "it has a blank, control byte or one of ~^:?*[\\";
    }
  }
  if (contains(text, "..") || contains(text, "@{") || contains(text, "//")) {
    return "'..', '@{' and '//' are not allowed";
  }
  if (text.front() == '/' || text.back() == '/' || text.front() == '-' || text.back() == '.') {
    return "it starts with '/' or '-', or ends with '/' or '.'";
  }
  return "";
}

}  // namespace

RepoId RepoId::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash != std::string_view::npos && text.find('/', slash + 1) != std::string_view::npos) {
    throw core_errors::invalid_repo_id(text, "it has more than one '/'");
  }
  const std::string_view name = slash == std::string_view::npos ? text : text.substr(slash + 1);
  std::string_view fault = part_fault(name);
  if (fault.empty() && slash != std::string_view::npos) fault = part_fault(text.substr(0, slash));
  if (fault.empty() && name.size() >= 4 && name.substr(name.size() - 4) == ".git") {
    fault = "it ends with '.git'";
  }
  if (!fault.empty()) throw core_errors::invalid_repo_id(text, fault);
  return RepoId(std::string(text));
}

std::string_view RepoId::ns() const noexcept {
  const std::size_t slash = text_.find('/');
  return slash == std::string::npos ? std::string_view() : std::string_view(text_).substr(0, slash);
}

std::string_view RepoId::name() const noexcept {
  const std::size_t slash = text_.find('/');
  return slash == std::string::npos ? std::string_view(text_)
                                    : std::string_view(text_).substr(slash + 1);
}

bool RepoId::may_hold(std::string_view kernel_name) const {
  const auto folded = [](char c) {
    return c == '-' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const std::string_view own = name();
  return std::equal(own.begin(), own.end(), kernel_name.begin(), kernel_name.end(),
                    [&folded](char a, char b) { return folded(a) == folded(b); });
}

bool CommitHash::is_commit(std::string_view text) noexcept {
  return text.size() == 40 &&
         text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

CommitHash CommitHash::parse(std::string_view text) {
  if (!is_commit(text)) throw core_errors::invalid_revision(text, "a commit has 40 hex digits");
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; });
  return CommitHash(std::move(lower));
}

KernelSpec KernelSpec::of_version(std::int64_t version) {
  KernelSpec spec;
  spec.version = version;
  spec.validate();
  return spec;
}

KernelSpec KernelSpec::of_revision(std::string revision) {
  KernelSpec spec;
  spec.revision = std::move(revision);
  spec.validate();
  return spec;
}

void KernelSpec::validate() const {
  if (version.has_value() == revision.has_value()) {
    throw core_errors::invalid_argument("kernel", "exactly one of version and revision",
                                        version ? "both" : "neither");
  }
  if (version && *version < 0) {
    throw core_errors::invalid_argument("version", "a number of 0 or more",
                                        std::to_string(*version));
  }
  if (!revision) return;
  const std::string_view fault = revision_fault(*revision);
  if (!fault.empty()) throw core_errors::invalid_revision(*revision, fault);
}

std::string KernelSpec::str() const {
  return version ? "v" + std::to_string(*version) : revision.value_or("");
}

std::optional<std::int64_t> version_of_branch(std::string_view branch) noexcept {
  if (branch.size() < 2 || branch.front() != 'v') return std::nullopt;
  const std::string_view digits = branch.substr(1);
  if (digits.find_first_not_of(kDigits) != std::string_view::npos) return std::nullopt;
  // "v01" would name the same version as "v1" without being its branch.
  if (digits.size() > 1 && digits.front() == '0') return std::nullopt;
  std::int64_t version = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), version);
  if (parsed.ec != std::errc()) return std::nullopt;
  return version;
}

}  // namespace kernelhub
