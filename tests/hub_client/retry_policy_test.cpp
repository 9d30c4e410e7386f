// SPDX-License-Identifier: Apache-2.0
#include "retry_policy.h"

#include "scripted_transport.h"

namespace kernelhub::hub {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::chrono::system_clock::time_point kNow{};

TEST(RetryPolicy, BacksOffOneTwoFourEightEightSecondsAndGivesUp) {
  RetryPolicy policy(5);
  for (const int wait : {1000, 2000, 4000, 8000, 8000}) {
    EXPECT_EQ(policy.wait_after(reply_of(503), kNow, 0.0), milliseconds(wait));
  }
  EXPECT_EQ(policy.wait_after(reply_of(503), kNow, 0.0), std::nullopt);
  EXPECT_EQ(policy.attempts(), 6);
}

TEST(RetryPolicy, SpreadsWaitsByAQuarter) {
  EXPECT_EQ(RetryPolicy(5).wait_after(reply_of(500), kNow, 1.0), milliseconds(1250));
  EXPECT_EQ(RetryPolicy(5).wait_after(reply_of(500), kNow, -1.0), milliseconds(750));
}

TEST(RetryPolicy, RetriesExactlyTheStatusesOfTheSpec) {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    EXPECT_TRUE(RetryPolicy(5).wait_after(reply_of(status), kNow, 0.0)) << status;
  }
  for (const int status : {400, 401, 403, 404, 409, 412, 413, 416, 501, 507}) {
    EXPECT_FALSE(RetryPolicy(5).wait_after(reply_of(status), kNow, 0.0)) << status;
  }
}

TEST(RetryPolicy, NeverRetriesTlsAndCancellation) {
  for (const auto fault : {TransferFault::kTls, TransferFault::kCancelled, TransferFault::kTooLarge,
                           TransferFault::kStopped}) {
    EXPECT_FALSE(RetryPolicy(5).wait_after(fault_of(fault), kNow, 0.0));
  }
  for (const auto fault : {TransferFault::kConnect, TransferFault::kBroken, TransferFault::kTimeout,
                           TransferFault::kProxy}) {
    EXPECT_TRUE(RetryPolicy(5).wait_after(fault_of(fault), kNow, 0.0));
  }
}

TEST(RetryPolicy, RetriesDnsTwice) {
  RetryPolicy policy(5);
  EXPECT_TRUE(policy.wait_after(fault_of(TransferFault::kDns), kNow, 0.0));
  EXPECT_TRUE(policy.wait_after(fault_of(TransferFault::kDns), kNow, 0.0));
  EXPECT_FALSE(policy.wait_after(fault_of(TransferFault::kDns), kNow, 0.0));
}

TEST(RetryPolicy, CountsFromZeroAgainAfterProgress) {
  RetryPolicy policy(2);
  HttpResponse cut = fault_of(TransferFault::kBroken);
  cut.status = 206;
  cut.received_bytes = 1;
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(policy.wait_after(cut, kNow, 0.0), milliseconds(1000));
  }
  cut.received_bytes = 0;
  EXPECT_TRUE(policy.wait_after(cut, kNow, 0.0));
  EXPECT_FALSE(policy.wait_after(cut, kNow, 0.0));
}

TEST(RetryPolicy, TriesOnceWhenACachedCopyStandsBy) {
  EXPECT_FALSE(RetryPolicy(0).wait_after(reply_of(503), kNow, 0.0));
}

TEST(RetryPolicy, WaitsForRateLimitResetPlusOneSecond) {
  const HttpResponse reply =
      reply_of(429, {{"retry-after", "99"}, {"ratelimit", "\"api\";r=0;t=17"}});
  EXPECT_EQ(RetryPolicy(5).wait_after(reply, kNow, 0.5), milliseconds(18'000));
  EXPECT_EQ(rate_limit_of(reply, kNow)->bucket, "api");
}

TEST(RetryPolicy, ReadsRetryAfterAsSecondsAndAsDate) {
  EXPECT_EQ(RetryPolicy(5).wait_after(reply_of(429, {{"retry-after", "7"}}), kNow, 0.0),
            milliseconds(7000));
  const HttpResponse dated = reply_of(429, {{"retry-after", "Thu, 01 Jan 1970 00:00:42 GMT"}});
  EXPECT_EQ(RetryPolicy(5).wait_after(dated, kNow, 0.0), milliseconds(42'000));
}

TEST(RetryPolicy, RefusesToWaitLongerThanTwoMinutes) {
  EXPECT_FALSE(RetryPolicy(5).wait_after(reply_of(429, {{"retry-after", "121"}}), kNow, 0.0));
  EXPECT_TRUE(RetryPolicy(5).wait_after(reply_of(429, {{"retry-after", "120"}}), kNow, 0.0));
}

}  // namespace
}  // namespace kernelhub::hub
