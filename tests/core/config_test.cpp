// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/config.h"

#include "expect_error.h"
#include "temp_directory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace kernelhub {
namespace {

/// An environment with HOME in a temporary directory and nothing of ours set.
class ConfigFromEnv : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"HF_ENDPOINT",
                             "HF_TOKEN",
                             "HUGGING_FACE_HUB_TOKEN",
                             "HF_TOKEN_PATH",
                             "HF_HOME",
                             "HF_HUB_CACHE",
                             "HUGGINGFACE_HUB_CACHE",
                             "KERNELS_CACHE",
                             "HF_HUB_OFFLINE",
                             "TRANSFORMERS_OFFLINE",
                             "HF_HUB_ETAG_TIMEOUT",
                             "HF_HUB_DOWNLOAD_TIMEOUT",
                             "HF_HUB_DISABLE_PROGRESS_BARS",
                             "HF_HUB_DISABLE_TELEMETRY",
                             "DISABLE_TELEMETRY",
                             "DO_NOT_TRACK",
                             "LOCAL_KERNELS",
                             "http_proxy",
                             "HTTP_PROXY",
                             "https_proxy",
                             "HTTPS_PROXY",
                             "all_proxy",
                             "ALL_PROXY",
                             "no_proxy",
                             "NO_PROXY",
                             "REQUEST_METHOD",
                             "SSL_CERT_FILE",
                             "SSL_CERT_DIR",
                             "CURL_CA_BUNDLE",
                             "REQUESTS_CA_BUNDLE",
                             "NO_COLOR",
                             "HF_OIDC_RESOURCE",
                             "KERNELHUB_MAX_WORKERS",
                             "KERNELHUB_RETRIES",
                             "KERNELHUB_TRUST",
                             "KERNELHUB_TRUST_FILE",
                             "XDG_CACHE_HOME",
                             "XDG_STATE_HOME",
                             "XDG_CONFIG_HOME",
                             "HF_HUB_DISABLE_IMPLICIT_TOKEN",
                             "HF_HUB_DISABLE_SYMLINKS",
                             "HF_HUB_USER_AGENT_ORIGIN"}) {
      ::unsetenv(name);
    }
    ::setenv("HOME", home_.path().c_str(), 1);
  }
  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }
  TempDirectory home_;
};

TEST_F(ConfigFromEnv, HasTheDocumentedDefaults) {
  const Config config = Config::from_env();
  EXPECT_EQ(config.endpoint, "https://huggingface.co");
  EXPECT_TRUE(config.token.empty());
  EXPECT_EQ(config.cache_dir, home_ / ".cache/huggingface/hub");
  EXPECT_EQ(config.state_dir, home_ / ".local/state/kernelhub");
  EXPECT_EQ(config.trust_file, home_ / ".config/kernelhub/trust.toml");
  EXPECT_EQ(config.metadata_timeout, std::chrono::seconds(10));
  EXPECT_FALSE(config.progress_bars);
  EXPECT_TRUE(config.telemetry);
  EXPECT_TRUE(config.overrides.empty());
}

TEST_F(ConfigFromEnv, KeepsThePathOfTheEndpointAndDropsTheSlash) {
  set("HF_ENDPOINT", "http://127.0.0.1:8080/artifactory/repo//");
  EXPECT_EQ(Config::from_env().endpoint, "http://127.0.0.1:8080/artifactory/repo");
  for (const char* bad : {"ftp://x", "localhost:80", "http://", "https://u:p@h", "https://h/?q"}) {
    set("HF_ENDPOINT", bad);
    EXPECT_EQ(code_of([] { Config::from_env(); }), ErrorCode::kInvalidConfig) << bad;
  }
}

TEST_F(ConfigFromEnv, TrueIsOneOfFourWords) {
  for (const char* yes : {"1", "on", "YES", "True"}) {
    set("HF_HUB_OFFLINE", yes);
    EXPECT_TRUE(Config::from_env().offline) << yes;
  }
  for (const char* no : {"0", "false", "2", "y", ""}) {
    set("HF_HUB_OFFLINE", no);
    EXPECT_FALSE(Config::from_env().offline) << no;
  }
  set("TRANSFORMERS_OFFLINE", "1");
  EXPECT_TRUE(Config::from_env().offline);
  set("HF_HUB_DISABLE_PROGRESS_BARS", "0");
  EXPECT_EQ(Config::from_env().progress_bars, true);
  set("DO_NOT_TRACK", "1");
  EXPECT_FALSE(Config::from_env().telemetry);
}

TEST_F(ConfigFromEnv, PassesOverBlankTokensToTheFile) {
  home_.write(".cache/huggingface/token", "  hf_file \n");
  EXPECT_EQ(Config::from_env().token.reveal(), "hf_file");
  set("HF_TOKEN", " \r\n");
  set("HUGGING_FACE_HUB_TOKEN", "hf_\nsecond");
  const Config config = Config::from_env();
  EXPECT_EQ(config.token.reveal(), "hf_second");
  EXPECT_EQ(config.token.origin(), "HUGGING_FACE_HUB_TOKEN");
  set("HF_TOKEN", "hf_first");
  EXPECT_EQ(Config::from_env().token.reveal(), "hf_first");
}

TEST_F(ConfigFromEnv, NeverPrintsAMalformedToken) {
  set("HF_TOKEN", "hf_canary bad");
  const Error error = error_of([] { Config::from_env(); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidConfig);
  EXPECT_EQ((error.what() + error.details()).find("canary"), std::string::npos);
}

TEST_F(ConfigFromEnv, ExpandsHomeAndVariablesInPaths) {
  set("KERNELHUB_TEST_DIR", "sub");
  set("HF_HOME", "~/${KERNELHUB_TEST_DIR}/$KERNELHUB_TEST_DIR/$NOT_SET_X");
  EXPECT_EQ(Config::from_env().hf_home, home_ / "sub/sub/$NOT_SET_X");
  set("HF_HUB_CACHE", "/hub");
  EXPECT_EQ(Config::from_env().cache_dir, "/hub");
  set("KERNELS_CACHE", "/kernels");
  EXPECT_EQ(Config::from_env().cache_dir, "/kernels");
}

TEST_F(ConfigFromEnv, ReadsLocalKernelsAndNamesABadEntry) {
  set("LOCAL_KERNELS", "org/a=/x:org/b=~/y");
  const Config config = Config::from_env();
  EXPECT_EQ(config.local_kernels.at("org/a"), "/x");
  EXPECT_EQ(config.local_kernels.at("org/b"), home_ / "y");
  set("LOCAL_KERNELS", "org/a=/x:broken");
  const Error error = error_of([] { Config::from_env(); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidConfig);
  EXPECT_NE(std::string(error.what()).find("broken"), std::string::npos);
  set("LOCAL_KERNELS", "../a=/x");
  EXPECT_EQ(code_of([] { Config::from_env(); }), ErrorCode::kInvalidConfig);
}

TEST_F(ConfigFromEnv, RefusesNumbersOutsideTheirRange) {
  for (const char* bad : {"-1", "abc", "1.5", "99999999999"}) {
    set("HF_HUB_DOWNLOAD_TIMEOUT", bad);
    EXPECT_EQ(code_of([] { Config::from_env(); }), ErrorCode::kInvalidConfig) << bad;
  }
  set("HF_HUB_DOWNLOAD_TIMEOUT", "3");
  set("HF_HUB_ETAG_TIMEOUT", "0");
  EXPECT_EQ(Config::from_env().idle_timeout, std::chrono::seconds(3));
  EXPECT_EQ(Config::from_env().metadata_timeout, std::chrono::seconds(10));
}

TEST_F(ConfigFromEnv, IgnoresUpperCaseHttpProxyInACgiProcess) {
  set("HTTP_PROXY", "http://p:1");
  EXPECT_EQ(Config::from_env().http_proxy, "http://p:1");
  set("REQUEST_METHOD", "GET");
  EXPECT_EQ(Config::from_env().http_proxy, "");
  set("ALL_PROXY", "http://all:1");
  EXPECT_EQ(Config::from_env().https_proxy, "http://all:1");
}

TEST_F(ConfigFromEnv, ListsWhatOverridesADefault) {
  set("HF_ENDPOINT", "http://127.0.0.1:1");
  set("KERNELHUB_TRUST", "strict");
  const Config config = Config::from_env();
  EXPECT_EQ(config.overrides, (std::vector<std::string>{"HF_ENDPOINT", "KERNELHUB_TRUST"}));
  EXPECT_EQ(config.trust_mode, "strict");
}

TEST_F(ConfigFromEnv, RefusesAKeylessLoginItCannotDo) {
  set("HF_OIDC_RESOURCE", "x");
  EXPECT_EQ(code_of([] { Config::from_env(); }), ErrorCode::kInvalidConfig);
}

}  // namespace
}  // namespace kernelhub
