// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/error.h"

#include "expect_error.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <string>

namespace kernelhub {
namespace {

TEST(ErrorCode, NamesAreUniqueAndNeverUnknown) {
  EXPECT_EQ(error_code_name(ErrorCode::kVersionNotFound), "VersionNotFound");
  EXPECT_EQ(error_code_name(ErrorCode::kTrustDenied), "TrustDenied");
  std::set<std::string_view> names;
  for (const ErrorCode code :
       {ErrorCode::kInvalidArgument, ErrorCode::kRepoNotFound, ErrorCode::kDigestMismatch,
        ErrorCode::kNotElf, ErrorCode::kNoCompatibleVariant, ErrorCode::kBuildTomlInvalid,
        ErrorCode::kInvalidMapping, ErrorCode::kServerStart}) {
    EXPECT_NE(error_code_name(code), "Unknown");
    EXPECT_TRUE(names.insert(error_code_name(code)).second);
  }
  EXPECT_EQ(error_code_name(ErrorCode{9999}), "Unknown");
}

TEST(CoreErrors, TellFullFromReadOnlyFromOther) {
  EXPECT_EQ(core_errors::write_failed("write", "/f", ENOSPC).code(), ErrorCode::kDiskFull);
  EXPECT_EQ(core_errors::write_failed("write", "/f", EDQUOT).code(), ErrorCode::kDiskFull);
  EXPECT_EQ(core_errors::write_failed("write", "/f", EROFS).code(), ErrorCode::kReadOnly);
  EXPECT_EQ(core_errors::write_failed("write", "/f", EACCES).code(), ErrorCode::kReadOnly);
  EXPECT_EQ(core_errors::write_failed("write", "/f", EIO).code(), ErrorCode::kIo);
}

TEST(CoreErrors, KeepHostileTextOnOneLine) {
  const Error error = core_errors::invalid_repo_id("a\nb\x1b[31m\xff", "it is odd");
  EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  EXPECT_EQ(std::string(error.what()).find('\x1b'), std::string::npos);
  EXPECT_NE(error.details().find("\\u001b"), std::string::npos);
  EXPECT_LE(core_errors::printable(std::string(5000, 'x')).size(), 210U);
}

TEST(Result, HoldsAValueOrRethrowsTheError) {
  const auto good = catch_to_result([] { return 7; });
  EXPECT_EQ(good.value(), 7);
  const auto bad = catch_to_result([]() -> int { throw Error(ErrorCode::kIo, "no", "hint"); });
  EXPECT_FALSE(bad);
  EXPECT_EQ(bad.error().hint(), "hint");
  EXPECT_EQ(code_of([&] { static_cast<void>(bad.value()); }), ErrorCode::kIo);
}

}  // namespace
}  // namespace kernelhub
