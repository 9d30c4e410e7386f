// SPDX-License-Identifier: Apache-2.0
#include "hub_session.h"

#include "expect_error.h"
#include "scripted_transport.h"

namespace kernelhub::hub {
namespace {

class HubSessionTest : public testing::Test {
 protected:
  HubSession& session(std::deque<HttpResponse> replies) {
    transport_ = std::make_shared<ScriptedTransport>(std::move(replies));
    session_ = std::make_unique<HubSession>(config_, transport_);
    return *session_;
  }
  HttpResponse send(std::deque<HttpResponse> replies) {
    return session(std::move(replies)).send(call_);
  }
  const HttpRequest& request(std::size_t i) const { return transport_->requests.at(i); }

  HubSessionTest() {
    config_.endpoint = "https://hub.example";
    config_.token = Secret("hf_canary", "HF_TOKEN");
    call_.url = "https://hub.example/a";
    call_.subject = {"file", "org/tk", "v1", "build/x"};
  }
  Config config_;
  HubCall call_;
  std::shared_ptr<ScriptedTransport> transport_;
  std::unique_ptr<HubSession> session_;
};

TEST_F(HubSessionTest, SendsTheTokenToTheHubAndNotToItsStorage) {
  send({reply_of(302, {{"location", "https://cdn.example/z?sig=1"}}), reply_of(200)});
  EXPECT_EQ(header_of(request(0), "Authorization"), "Bearer hf_canary");
  EXPECT_EQ(request(1).url, "https://cdn.example/z?sig=1");
  EXPECT_EQ(header_of(request(1), "Authorization"), "");
  for (const auto& [name, value] : request(1).headers) {
    EXPECT_EQ(value.find("hf_canary"), std::string::npos) << name;
  }
}

TEST_F(HubSessionTest, KeepsTheTokenOnARelativeRedirect) {
  send({reply_of(307, {{"location", "/b?x=1"}}), reply_of(200)});
  EXPECT_EQ(request(1).url, "https://hub.example/b?x=1");
  EXPECT_EQ(header_of(request(1), "Authorization"), "Bearer hf_canary");
}

TEST_F(HubSessionTest, ReadsWithoutAnImplicitTokenWhenToldSo) {
  config_.implicit_token = false;
  send({reply_of(200)});
  EXPECT_EQ(header_of(request(0), "Authorization"), "");
  call_.token = HubCall::Token::kWrite;
  send({reply_of(200)});
  EXPECT_EQ(header_of(request(0), "Authorization"), "Bearer hf_canary");
}

TEST_F(HubSessionTest, ReducesTheUserAgentWithoutTelemetry) {
  send({reply_of(200)});
  const std::string agent = header_of(request(0), "User-Agent");
  EXPECT_EQ(agent.rfind("kernelhub/", 0), 0u);
  EXPECT_NE(agent.find("; file_type/kernel"), std::string::npos);
  EXPECT_EQ(agent.find("; ;"), std::string::npos);
  config_.telemetry = false;
  send({reply_of(200)});
  EXPECT_EQ(header_of(request(0), "User-Agent").find(';'), std::string::npos);
}

TEST_F(HubSessionTest, UsesAFreshTraceIdForEveryAttempt) {
  send({reply_of(503), reply_of(200)});
  EXPECT_EQ(header_of(request(0), "X-Amzn-Trace-Id").size(), 36u);
  EXPECT_NE(header_of(request(0), "X-Amzn-Trace-Id"), header_of(request(1), "X-Amzn-Trace-Id"));
}

TEST_F(HubSessionTest, RenewsAnExpiredStorageAddressOnce) {
  send({reply_of(302, {{"location", "https://cdn.example/old"}}), reply_of(403),
        reply_of(302, {{"location", "https://cdn.example/new"}}), reply_of(200)});
  EXPECT_EQ(request(2).url, call_.url);
  EXPECT_EQ(request(3).url, "https://cdn.example/new");
}

TEST_F(HubSessionTest, GivesUpAfterTheRetriesOfTheConfiguration) {
  config_.retries = 2;
  const Error error = error_of([&] { send({reply_of(500), reply_of(500), reply_of(500)}); });
  EXPECT_EQ(error.code(), ErrorCode::kServerError);
  EXPECT_NE(error.details().find("\"attempts\":\"3\""), std::string::npos) << error.details();
  EXPECT_EQ(transport_->waits.size(), 2u);
  EXPECT_EQ(session_->request_count(), 3u);
}

TEST_F(HubSessionTest, AsksOnceWhenToldSo) {
  call_.attempts = HubCall::Attempts::kOnce;
  EXPECT_EQ(code_of([&] { send({reply_of(503)}); }), ErrorCode::kServerError);
}

TEST_F(HubSessionTest, OpensNoConnectionOffline) {
  config_.offline = true;
  EXPECT_EQ(code_of([&] { send({}); }), ErrorCode::kOfflineMiss);
  EXPECT_TRUE(transport_->requests.empty());
}

TEST_F(HubSessionTest, RepeatsABodyOnlyWhereTheStatusKeepsTheMethod) {
  call_.method = HttpMethod::kPost;
  call_.body = "{}";
  send({reply_of(307, {{"location", "/moved"}}), reply_of(200)});
  EXPECT_EQ(request(1).method, HttpMethod::kPost);
  EXPECT_EQ(request(1).body, "{}");
  EXPECT_EQ(code_of([&] {
              send({reply_of(302, {{"location", "/moved"}})});
            }),
            ErrorCode::kBadRequest);
}

struct Meaning {
  HttpResponse reply;
  ErrorCode code;
};

TEST_F(HubSessionTest, GivesEachRefusalItsOwnCode) {
  const std::vector<Meaning> meanings = {
      {reply_of(404, {{"x-error-code", "RepoNotFound"}}), ErrorCode::kRepoNotFound},
      {reply_of(401, {{"x-error-code", "RepoNotFound"}}), ErrorCode::kRepoNotFound},
      {reply_of(404, {{"x-error-code", "RevisionNotFound"}}), ErrorCode::kRevisionNotFound},
      {reply_of(404, {{"x-error-code", "EntryNotFound"}}), ErrorCode::kEntryNotFound},
      {reply_of(403, {{"x-error-code", "GatedRepo"}}), ErrorCode::kGatedRepo},
      {reply_of(403, {{"x-error-message", "Access to this resource is disabled."}}),
       ErrorCode::kRepoDisabled},
      {reply_of(401, {}, R"({"error":"Invalid credentials in Authorization header"})"),
       ErrorCode::kAuthInvalid},
      {reply_of(401), ErrorCode::kAuthRequired},
      {reply_of(403), ErrorCode::kForbidden},
      {reply_of(409), ErrorCode::kConflict},
      {reply_of(412), ErrorCode::kPreconditionFailed},
      {reply_of(413), ErrorCode::kBadRequest},
      {reply_of(429, {{"retry-after", "500"}}), ErrorCode::kRateLimited},
      {reply_of(501), ErrorCode::kServerError},
      {fault_of(TransferFault::kTls), ErrorCode::kTlsFailure},
      {fault_of(TransferFault::kTooLarge), ErrorCode::kNotAHub},
      {fault_of(TransferFault::kCancelled), ErrorCode::kCancelled},
  };
  for (const Meaning& meaning : meanings) {
    EXPECT_EQ(code_of([&] { send({meaning.reply}); }), meaning.code) << meaning.reply.status;
    EXPECT_TRUE(transport_->waits.empty());
  }
  config_.retries = 0;
  const std::map<TransferFault, ErrorCode> faults = {
      {TransferFault::kDns, ErrorCode::kDnsFailure},
      {TransferFault::kProxy, ErrorCode::kProxyFailure},
      {TransferFault::kConnect, ErrorCode::kNetwork},
      {TransferFault::kBroken, ErrorCode::kNetwork},
      {TransferFault::kTimeout, ErrorCode::kTimeout}};
  for (const auto& [fault, code] : faults) {
    EXPECT_EQ(code_of([&, kind = fault] { send({fault_of(kind)}); }), code);
  }
}

TEST_F(HubSessionTest, NamesTheSourceOfABadTokenAndNeverTheToken) {
  const Error error = error_of([&] {
    send({reply_of(401, {{"x-error-message", "Invalid credentials in Authorization header"}})});
  });
  EXPECT_NE(std::string(error.what()).find("HF_TOKEN"), std::string::npos);
  EXPECT_EQ(std::string(error.what()).find("hf_canary"), std::string::npos);
}

TEST_F(HubSessionTest, LeavesSignedQueriesOutOfErrors) {
  const Error error = error_of([&] {
    send(
        {reply_of(302, {{"location", "https://cdn.example/z?X-Signature=secret"}}), reply_of(404)});
  });
  EXPECT_NE(std::string(error.what()).find("https://cdn.example/z"), std::string::npos);
  EXPECT_EQ((error.what() + error.details()).find("secret"), std::string::npos);
}

}  // namespace
}  // namespace kernelhub::hub
