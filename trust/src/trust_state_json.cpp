// SPDX-License-Identifier: Apache-2.0
#include "endpoint.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/file_lock.h"
#include "kernelhub/core/json_access.h"
#include "kernelhub/core/log.h"
#include "kernelhub/trust/trust_state.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <functional>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace kernelhub::trust {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::system_clock;

constexpr std::uint64_t kMaxStateBytes = 16u << 20;
constexpr std::uint64_t kFormat = 1;
constexpr std::chrono::seconds kLockTimeout{10};
// A clock that was set back must not make an old answer look fresh for years.
constexpr std::chrono::minutes kClockSkew{5};

std::int64_t now_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(Clock::now().time_since_epoch()).count();
}

json empty_state() { return {{"format", kFormat}, {"endpoints", json::object()}}; }

/// True when nobody but this user or root can have written the file.
bool is_private(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
         (status.st_uid == ::geteuid() || status.st_uid == 0) &&
         (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/// The members on the way to a record, or nullptr where one is missing or of another type.
const json* find_path(const json& root, std::initializer_list<std::string> keys) {
  const json* at = &root;
  for (const std::string& key : keys) {
    if (!at->is_object() || !at->contains(key)) return nullptr;
    at = &at->at(key);
  }
  return at;
}

/// The object at `key`; anything else there is replaced by an empty one.
json& object_at(json& parent, const std::string& key) {
  json& value = parent[key];
  if (!value.is_object()) value = json::object();
  return value;
}

/// Empty when there is no file; a file in doubt counts as lost and says so.
json read_state(const fs::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd && errno == ENOENT) return empty_state();
  std::string fault = "it cannot be read";
  if (fd && !is_private(fd.get())) {
    fault = "others own it or may write it";
  } else if (fd) {
    try {
      const json state =
          parse_untrusted_json(read_file(fmt::format("/proc/self/fd/{}", fd.get()), kMaxStateBytes),
                               path.string(), {kMaxStateBytes, 16, 2'000'000});
      const JsonObject root(state, path.string(), "$", ErrorCode::kInvalidJson);
      static_cast<void>(root.object("endpoints"));
      if (root.unsigned_integer("format") == kFormat) return state;
      fault = fmt::format("its format is not {}", kFormat);
    } catch (const Error& error) {
      fault = error.what();
    }
  }
  warn_once(
      "state_reset " + path.string(),
      fmt::format("the trust state {} is ignored, earlier decisions have to be made again: {}",
                  path.string(), fault));
  return empty_state();
}

void make_private_directory(const fs::path& directory) {
  std::error_code error;
  if (fs::is_directory(directory, error)) return;
  if (directory.has_parent_path()) fs::create_directories(directory.parent_path(), error);
  ::mkdir(directory.c_str(), 0700);
}

/// Read, change, replace under the lock. A state that cannot be kept costs only a new decision.
void update_state(const fs::path& path, const std::function<void(json&)>& change) {
  try {
    make_private_directory(path.parent_path());
    const FileLock lock(path.string() + ".lock", kLockTimeout);
    json state = read_state(path);
    change(state);
    AtomicFile file(path, 0600);
    file.write(state.dump(1, ' ', false, json::error_handler_t::replace));
    file.commit(true);
  } catch (const Error& error) {
    warn_once("state_write " + path.string(),
              fmt::format("trust decisions cannot be recorded for offline use: {}", error.what()));
  }
}

}  // namespace

TrustState::TrustState(fs::path state_dir) : path_(std::move(state_dir) / "trust-state.json") {}

std::optional<TrustState::PublisherAnswer> TrustState::publisher(std::string_view endpoint,
                                                                 std::string_view ns) const {
  const json state = read_state(path_);
  const json* record =
      find_path(state, {"endpoints", normalised_endpoint(endpoint), "publishers", std::string(ns)});
  const json* trusted = record == nullptr ? nullptr : find_path(*record, {"trusted"});
  const json* asked = record == nullptr ? nullptr : find_path(*record, {"asked"});
  if (trusted == nullptr || asked == nullptr) return std::nullopt;
  if (!trusted->is_boolean() || !asked->is_number_integer()) return std::nullopt;
  const std::int64_t latest =
      now_seconds() + std::chrono::duration_cast<std::chrono::seconds>(kClockSkew).count();
  if (asked->get<std::int64_t>() < 0 || asked->get<std::int64_t>() > latest) return std::nullopt;
  return PublisherAnswer{trusted->get<bool>(),
                         Clock::time_point(std::chrono::seconds(asked->get<std::int64_t>()))};
}

void TrustState::record_publisher(std::string_view endpoint, std::string_view ns, bool trusted) {
  const std::string url = normalised_endpoint(endpoint);
  if (url.empty() || ns.empty()) return;
  update_state(path_, [&](json& state) {
    json& hub = object_at(object_at(state, "endpoints"), url);
    object_at(hub, "publishers")[std::string(ns)] = {{"trusted", trusted},
                                                     {"asked", now_seconds()}};
  });
}

bool TrustState::is_recorded(std::string_view endpoint, const RepoId& repo,
                             const CommitHash& commit) const {
  const json state = read_state(path_);
  return find_path(state, {"endpoints", normalised_endpoint(endpoint), "repos", repo.str(),
                           "commits", commit.str()}) != nullptr;
}

void TrustState::record_decision(std::string_view endpoint, const RepoId& repo,
                                 const CommitHash& commit, std::optional<std::int64_t> version,
                                 std::string_view evidence) {
  const std::string url = normalised_endpoint(endpoint);
  if (url.empty()) return;
  update_state(path_, [&](json& state) {
    json& hub = object_at(object_at(state, "endpoints"), url);
    json& record = object_at(object_at(hub, "repos"), repo.str());
    object_at(record, "commits")[commit.str()] = {{"evidence", evidence}, {"time", now_seconds()}};
    if (version) {
      const json* highest = find_path(record, {"highest_version"});
      const bool has_newer = highest != nullptr && highest->is_number_integer() &&
                             highest->get<std::int64_t>() > *version;
      if (!has_newer) record["highest_version"] = *version;
    }
  });
}

}  // namespace kernelhub::trust
