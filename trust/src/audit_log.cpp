// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/trust/audit_log.h"

#include "trust_errors.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/file_lock.h"
#include "kernelhub/core/json_access.h"
#include "kernelhub/core/log.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace kernelhub::trust {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::size_t kMaxLineBytes = 4096;
constexpr std::size_t kMaxFieldBytes = 256;
constexpr off_t kMaxFileBytes = 10 << 20;
constexpr int kKeptFiles = 5;

std::string utc_now() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     millis);
}

std::string executable() {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  return error ? std::string() : path.string();
}

std::string cut(std::string_view text) { return std::string(text.substr(0, kMaxFieldBytes)); }

ordered_json evidence_json(const std::vector<Evidence>& used) {
  ordered_json names = ordered_json::array();
  for (const Evidence evidence : used) names.push_back(evidence_name(evidence));
  return names;
}

ordered_json line_head(std::string_view event) {
  return {{"t", utc_now()},
          {"pid", ::getpid()},
          {"uid", ::getuid()},
          {"exe", cut(executable())},
          {"event", event}};
}

void add_policy(ordered_json& line, Mode mode, const std::string& fingerprint,
                const std::vector<std::string>& overrides) {
  line["mode"] = mode_name(mode);
  line["policy"] = fingerprint;
  line["env"] = overrides;
}

/// ASCII only, so control characters and broken UTF-8 cannot forge a line.
std::string line_text(ordered_json line) {
  const auto dump = [&] {
    return line.dump(-1, ' ', true, ordered_json::error_handler_t::replace) + "\n";
  };
  std::string text = dump();
  for (const char* long_field : {"env", "reason", "requested", "exe", "variant"}) {
    if (text.size() <= kMaxLineBytes) break;
    if (!line.contains(long_field)) continue;
    line[long_field] = "(too long)";
    text = dump();
  }
  return text;
}

/// audit.jsonl -> .1 -> ... -> .5; the check is repeated under the lock, another process may have
/// been first.
void rotate_if_full(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || status.st_size < kMaxFileBytes) return;
  const FileLock lock(path.string() + ".lock", std::chrono::seconds(10));
  if (::stat(path.c_str(), &status) != 0 || status.st_size < kMaxFileBytes) return;
  for (int number = kKeptFiles - 1; number >= 1; --number) {
    std::error_code missing;
    fs::rename(fmt::format("{}.{}", path.string(), number),
               fmt::format("{}.{}", path.string(), number + 1), missing);
  }
  if (::rename(path.c_str(), (path.string() + ".1").c_str()) != 0) {
    throw core_errors::write_failed("rotate", path, errno);
  }
}

void append_line(const fs::path& path, const std::string& line) {
  const fs::path directory = path.parent_path();
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    fs::create_directories(directory.parent_path(), error);
    ::mkdir(directory.c_str(), 0700);
  }
  rotate_if_full(path);
  const UniqueFd fd(::open(
      path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!fd) throw core_errors::write_failed("open", path, errno);
  const ssize_t written = ::write(fd.get(), line.data(), line.size());
  if (written < 0) throw core_errors::write_failed("write", path, errno);
  if (static_cast<std::size_t>(written) != line.size()) {
    throw core_errors::write_failed("write", path, ENOSPC);
  }
}

}  // namespace

AuditEntry audit_entry_of(const VerifiedPackage& package) {
  const Origin& origin = package.origin();
  const ordered_json fields = {
      {"endpoint", cut(origin.endpoint)},
      {"repo", origin.repo ? origin.repo->str() : cut(origin.directory.string())},
      {"requested", cut(origin.requested ? origin.requested->str() : "")},
      {"commit", origin.commit ? origin.commit->str() : ""},
      {"variant", cut(origin.variant)},
      {"version", package.metadata().version},
      {"digest", package.variant_digest()},
      {"files", package.files().size()},
      {"evidence", evidence_json(package.decision().used)}};
  return {fields.dump(-1, ' ', true, ordered_json::error_handler_t::replace)};
}

AuditLog::AuditLog(const TrustPolicy& policy, const Config& config)
    : path_(policy.audit_path().value_or(config.state_dir / "audit.jsonl")),
      mode_(policy.mode()),
      policy_fingerprint_(policy.fingerprint()),
      overrides_(config.overrides) {}

void AuditLog::loaded(const AuditEntry& entry, std::string_view load_mode,
                      double milliseconds) const {
  ordered_json line = line_head("load");
  const nlohmann::json fields = parse_untrusted_json(entry.fields_json, "audit entry");
  for (const auto& field : fields.items()) line[field.key()] = field.value();
  add_policy(line, mode_, policy_fingerprint_, overrides_);
  line["load"] = load_mode;
  line["ms"] = milliseconds;
  append(line_text(std::move(line)));
}

void AuditLog::refused(const Candidate& candidate, std::string_view code,
                       std::string_view requested) const {
  ordered_json line = line_head("refuse");
  line["endpoint"] = cut(candidate.endpoint);
  line["repo"] = candidate.repo ? candidate.repo->str() : cut(candidate.local_path.string());
  line["requested"] = cut(requested);
  line["commit"] = candidate.commit ? candidate.commit->str() : "";
  line["variant"] = cut(candidate.variant);
  add_policy(line, mode_, policy_fingerprint_, overrides_);
  line["code"] = code;
  append(line_text(std::move(line)));
}

void AuditLog::append(const std::string& line) const {
  if (path_.empty()) return;
  try {
    append_line(path_, line);
  } catch (const Error& error) {
    if (mode_ == Mode::kStrict) throw trust_errors::audit_failed(path_, error.what());
    warn_once("audit " + path_.string(), fmt::format("loads are not recorded: {}", error.what()));
  }
}

}  // namespace kernelhub::trust
