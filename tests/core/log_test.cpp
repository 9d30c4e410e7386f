// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/log.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace kernelhub {
namespace {

class Log : public testing::Test {
 protected:
  void SetUp() override {
    set_log_callback([this](LogLevel, std::string_view text) { lines_.emplace_back(text); });
  }
  void TearDown() override {
    set_log_callback({});
    set_log_level(LogLevel::kWarning);
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, DropsWhatIsBelowTheLevel) {
  log(LogLevel::kInfo, "quiet");
  log(LogLevel::kError, "loud");
  set_log_level(LogLevel::kDebug);
  log(LogLevel::kDebug, "detail");
  set_log_level(LogLevel::kOff);
  log(LogLevel::kError, "nothing");
  EXPECT_EQ(lines_, (std::vector<std::string>{"loud", "detail"}));
}

TEST_F(Log, WarnsOncePerKey) {
  warn_once("log_test key", "first");
  warn_once("log_test key", "second");
  warn_once("log_test other", "third");
  EXPECT_EQ(lines_, (std::vector<std::string>{"first", "third"}));
}

TEST_F(Log, LetsACallbackReplaceItself) {
  set_log_callback([this](LogLevel, std::string_view) {
    set_log_callback([this](LogLevel, std::string_view text) { lines_.emplace_back(text); });
  });
  log(LogLevel::kWarning, "one");
  log(LogLevel::kWarning, "two");
  EXPECT_EQ(lines_, std::vector<std::string>{"two"});
}

TEST(LogThreads, TakeLinesWhileTheCallbackChanges) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([] {
      for (int round = 0; round < 200; ++round) {
        set_log_callback([](LogLevel, std::string_view) {});
        log(LogLevel::kWarning, "text");
        warn_once("log_test " + std::to_string(round), "text");
      }
    });
  }
  threads.clear();
  set_log_callback({});
}

}  // namespace
}  // namespace kernelhub
