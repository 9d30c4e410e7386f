// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub {

/// A credential; has no stream operator and never appears in logs or errors.
class KERNELHUB_API Secret {
 public:
  Secret() = default;
  explicit Secret(std::string value, std::string origin)
      : value_(std::move(value)), origin_(std::move(origin)) {}
  bool empty() const noexcept { return value_.empty(); }
  /// The only way to read it: for the Authorization header.
  const std::string& reveal() const noexcept { return value_; }
  /// Where it came from, e.g. "HF_TOKEN" or a file's path.
  const std::string& origin() const noexcept { return origin_; }

 private:
  std::string value_;
  std::string origin_;
};

/// Settings of one client, taken from the environment once per client object. Every variable of
/// the project is read in `from_env` and nowhere else. See docs/reference/configuration.md.
struct KERNELHUB_API Config {
  std::string endpoint = "https://huggingface.co";  // no trailing '/', path prefix kept
  Secret token;
  bool implicit_token = true;  // false: HF_HUB_DISABLE_IMPLICIT_TOKEN
  std::filesystem::path hf_home;
  std::filesystem::path cache_dir;  // KERNELS_CACHE, else HF_HUB_CACHE, else hf_home/hub
  bool offline = false;
  std::chrono::milliseconds metadata_timeout{10000};  // HF_HUB_ETAG_TIMEOUT
  std::chrono::milliseconds idle_timeout{10000};      // HF_HUB_DOWNLOAD_TIMEOUT, connect and idle
  bool disable_symlinks = false;
  std::optional<bool> progress_bars;  // unset: only when stderr is a terminal
  bool telemetry = true;
  std::string user_agent_origin;  // HF_HUB_USER_AGENT_ORIGIN
  std::string user_agent;         // "key/value; ..." of the caller, sent with telemetry
  std::map<std::string, std::filesystem::path> local_kernels;  // LOCAL_KERNELS
  std::string http_proxy, https_proxy, no_proxy;
  std::filesystem::path ca_file, ca_dir;
  bool color = true;                 // NO_COLOR
  int max_workers = 8;               // KERNELHUB_MAX_WORKERS
  int retries = 5;                   // KERNELHUB_RETRIES
  std::string trust_mode;            // KERNELHUB_TRUST, empty = policy default
  std::filesystem::path trust_file;  // KERNELHUB_TRUST_FILE, else the user policy path
  std::filesystem::path system_trust_file = "/etc/kernelhub/trust.toml";
  std::filesystem::path state_dir;        // $XDG_STATE_HOME/kernelhub
  std::filesystem::path torch_prefix;     // KERNELHUB_TORCH
  std::string torch_version;              // KERNELHUB_TORCH_VERSION, e.g. "2.11+cu130"
  std::filesystem::path tvm_ffi_library;  // KERNELHUB_TVM_FFI_LIB
  /// Names of the variables that changed a default, for the audit line.
  std::vector<std::string> overrides;

  /// Reads environment and token file. Throws kInvalidConfig naming the variable and entry.
  static Config from_env();
};

}  // namespace kernelhub
