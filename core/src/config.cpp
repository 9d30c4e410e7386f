// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/config.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/repo.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <pwd.h>
#include <string_view>
#include <unistd.h>

namespace kernelhub {
namespace {

namespace fs = std::filesystem;

std::string trimmed(std::string text) {
  constexpr const char* kBlanks = " \t\r\n\f\v";
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

bool is_true(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return upper == "1" || upper == "ON" || upper == "YES" || upper == "TRUE";
}

/// The one reader of the environment. A set-user-id program sees an empty one (secure_getenv).
class Environment {
 public:
  explicit Environment(std::vector<std::string>* overrides) : overrides_(overrides) {}

  /// Value of a variable of the system, such as HOME; empty when unset.
  static std::string system(const std::string& name) {
    const char* value = ::secure_getenv(name.c_str());
    return value == nullptr ? "" : value;
  }
  /// Value of the first of `names` that is set and not blank; its name goes to the overrides.
  std::string first(std::initializer_list<const char*> names) {
    for (const char* name : names) {
      std::string value = trimmed(system(name));
      if (value.empty()) continue;
      last_ = name;
      if (std::find(overrides_->begin(), overrides_->end(), last_) == overrides_->end()) {
        overrides_->push_back(last_);
      }
      return value;
    }
    return "";
  }
  bool flag(std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(),
                       [this](const char* name) { return is_true(first({name})); });
  }
  std::optional<bool> maybe_flag(const char* name) {
    const std::string value = first({name});
    return value.empty() ? std::nullopt : std::optional(is_true(value));
  }
  int number(const char* name, int fallback, int least, int most) {
    const std::string text = first({name});
    if (text.empty()) return fallback;
    int value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || value < least ||
        value > most) {
      throw core_errors::invalid_config(name, text,
                                        fmt::format("a whole number from {} to {}", least, most));
    }
    return value;
  }
  /// Name of the variable that `first` last took a value from.
  const std::string& last() const { return last_; }

 private:
  std::vector<std::string>* overrides_;
  std::string last_;
};

fs::path home_directory(std::string_view needed_for) {
  const std::string home = Environment::system("HOME");
  if (!home.empty()) return home;
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  ::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr || found->pw_dir == nullptr || *found->pw_dir == '\0') {
    throw core_errors::no_home_directory(needed_for);
  }
  return found->pw_dir;
}

/// "$NAME" and "${NAME}" replaced; unknown names stay as they are, as in Python's expandvars.
std::string expand_variables(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t dollar = text.find('$');
    out += text.substr(0, dollar);
    if (dollar == std::string_view::npos) break;
    text.remove_prefix(dollar);
    const bool braced = text.substr(0, 2) == "${";
    const std::string_view rest = text.substr(braced ? 2 : 1);
    const std::size_t length = std::min(
        rest.size(), rest.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                            "0123456789_"));
    const bool closed = !braced || (length < rest.size() && rest[length] == '}');
    const std::size_t used = (braced ? 3 : 1) + length;
    const std::string value = Environment::system(std::string(rest.substr(0, length)));
    if (length == 0 || !closed || value.empty()) {
      out += '$';
      text.remove_prefix(1);
      continue;
    }
    out += value;
    text.remove_prefix(used);
  }
  return out;
}

fs::path expanded(const std::string& text, std::string_view needed_for) {
  std::string path = text;
  if (path == "~" || path.rfind("~/", 0) == 0) {
    path = home_directory(needed_for).string() + path.substr(1);
  }
  return expand_variables(path);
}

/// `$variable`/kernelhub-style base directory of the XDG rules.
fs::path xdg_directory(const char* variable, const char* below_home) {
  const std::string value = Environment::system(variable);
  // Relative values are to be ignored (XDG base directory rules).
  if (!value.empty() && value.front() == '/') return value;
  return home_directory(variable) / below_home;
}

std::string read_endpoint(Environment& environment) {
  std::string url = environment.first({"HF_ENDPOINT"});
  if (url.empty()) return "https://huggingface.co";
  while (!url.empty() && url.back() == '/') url.pop_back();
  const std::size_t scheme = url.find("://");
  const bool known = url.rfind("https://", 0) == 0 || url.rfind("http://", 0) == 0;
  const auto is_bad = [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; };
  if (!known || scheme + 3 >= url.size() || std::any_of(url.begin(), url.end(), is_bad) ||
      url.find_first_of("?#@") != std::string::npos) {
    throw core_errors::invalid_config("HF_ENDPOINT", url,
                                      "an http or https URL without user, query or fragment");
  }
  return url;
}

Secret checked_secret(std::string text, const std::string& origin) {
  text.erase(
      std::remove_if(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n'; }),
      text.end());
  text = trimmed(std::move(text));
  const auto is_bad = [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; };
  if (std::any_of(text.begin(), text.end(), is_bad)) {
    throw core_errors::invalid_config(origin, "a blank or control byte in it", "a token");
  }
  return text.empty() ? Secret() : Secret(std::move(text), origin);
}

Secret read_token(Environment& environment, const fs::path& hf_home) {
  if (!environment.first({"HF_OIDC_RESOURCE"}).empty()) throw core_errors::oidc_unsupported();
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    Secret secret = checked_secret(environment.first({name}), name);
    if (!secret.empty()) return secret;
  }
  const std::string named = environment.first({"HF_TOKEN_PATH"});
  const fs::path path = named.empty() ? hf_home / "token" : expanded(named, "HF_TOKEN_PATH");
  std::error_code missing;
  if (!fs::exists(path, missing)) return Secret();
  return checked_secret(read_file(path, 64 * 1024), path.string());
}

std::map<std::string, fs::path> read_local_kernels(Environment& environment) {
  std::map<std::string, fs::path> kernels;
  const std::string text = environment.first({"LOCAL_KERNELS"});
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(':', at), text.size());
    const std::string entry = trimmed(text.substr(at, end - at));
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos || equals + 1 == entry.size()) {
      throw core_errors::invalid_config("LOCAL_KERNELS", entry,
                                        "entries of the form namespace/name=path");
    }
    const std::string repo = trimmed(entry.substr(0, equals));
    try {
      kernels.emplace(RepoId::parse(repo).str(),
                      expanded(trimmed(entry.substr(equals + 1)), "LOCAL_KERNELS"));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInvalidRepoId) throw;
      throw core_errors::invalid_config("LOCAL_KERNELS", entry, "a repo id before '='");
    }
    at = end + 1;
  }
  return kernels;
}

void read_network(Environment& environment, Config& config) {
  config.offline = environment.flag({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"});
  constexpr int kMaxSeconds = 86400;
  const auto seconds = [&](const char* name, std::chrono::milliseconds fallback) {
    const int value = environment.number(name, 0, 0, kMaxSeconds);
    return value == 0 ? fallback : std::chrono::milliseconds(std::chrono::seconds(value));
  };
  config.metadata_timeout = seconds("HF_HUB_ETAG_TIMEOUT", config.metadata_timeout);
  config.idle_timeout = seconds("HF_HUB_DOWNLOAD_TIMEOUT", config.idle_timeout);
  // A CGI server turns a request's "Proxy:" header into HTTP_PROXY.
  const bool is_cgi = !Environment::system("REQUEST_METHOD").empty();
  config.http_proxy = environment.first({"http_proxy"});
  if (config.http_proxy.empty() && !is_cgi) config.http_proxy = environment.first({"HTTP_PROXY"});
  config.https_proxy = environment.first({"https_proxy", "HTTPS_PROXY"});
  const std::string all = environment.first({"all_proxy", "ALL_PROXY"});
  if (config.http_proxy.empty()) config.http_proxy = all;
  if (config.https_proxy.empty()) config.https_proxy = all;
  config.no_proxy = environment.first({"no_proxy", "NO_PROXY"});
  config.ca_file = environment.first({"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"});
  config.ca_dir = environment.first({"SSL_CERT_DIR"});
  config.max_workers = environment.number("KERNELHUB_MAX_WORKERS", config.max_workers, 1, 256);
  config.retries = environment.number("KERNELHUB_RETRIES", config.retries, 0, 100);
}

void read_directories(Environment& environment, Config& config) {
  const std::string home = environment.first({"HF_HOME"});
  config.hf_home = home.empty() ? xdg_directory("XDG_CACHE_HOME", ".cache") / "huggingface"
                                : expanded(home, "HF_HOME");
  const std::string cache =
      environment.first({"KERNELS_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  config.cache_dir = cache.empty() ? config.hf_home / "hub" : expanded(cache, environment.last());
  config.state_dir = xdg_directory("XDG_STATE_HOME", ".local/state") / "kernelhub";
  const std::string trust_file = environment.first({"KERNELHUB_TRUST_FILE"});
  config.trust_file = trust_file.empty()
                          ? xdg_directory("XDG_CONFIG_HOME", ".config") / "kernelhub/trust.toml"
                          : expanded(trust_file, "KERNELHUB_TRUST_FILE");
}

}  // namespace

Config Config::from_env() {
  Config config;
  Environment environment(&config.overrides);
  config.endpoint = read_endpoint(environment);
  read_directories(environment, config);
  config.token = read_token(environment, config.hf_home);
  config.implicit_token = !environment.flag({"HF_HUB_DISABLE_IMPLICIT_TOKEN"});
  read_network(environment, config);
  config.disable_symlinks = environment.flag({"HF_HUB_DISABLE_SYMLINKS"});
  if (const auto disabled = environment.maybe_flag("HF_HUB_DISABLE_PROGRESS_BARS")) {
    config.progress_bars = !*disabled;
  }
  config.telemetry =
      !environment.flag({"HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK"});
  config.user_agent_origin = environment.first({"HF_HUB_USER_AGENT_ORIGIN"});
  config.local_kernels = read_local_kernels(environment);
  config.color = Environment::system("NO_COLOR").empty();
  config.trust_mode = environment.first({"KERNELHUB_TRUST"});
  config.torch_prefix = environment.first({"KERNELHUB_TORCH"});
  config.torch_version = environment.first({"KERNELHUB_TORCH_VERSION"});
  config.tvm_ffi_library = environment.first({"KERNELHUB_TVM_FFI_LIB"});
  return config;
}

}  // namespace kernelhub
