// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/server/hub_server.h"

#include "expect_error.h"
#include "temp_directory.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/unique_fd.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <arpa/inet.h>
#include <future>
#include <sys/socket.h>
#include <unistd.h>

namespace kernelhub::server {
namespace {

using std::chrono::milliseconds;

class HubServerTest : public testing::Test {
 protected:
  HubServerTest() : server_(options()) {
    server_.start();
    const std::string& url = server_.url();
    port_ = std::stoi(url.substr(url.rfind(':') + 1));
  }

  ServerOptions options() {
    ServerOptions options;
    options.store = folder_ / "store";
    options.base_path = "/hub/";
    options.trust_orgs = {"org"};
    options.access_log = folder_ / "access.jsonl";
    options.url_file = folder_ / "url";
    options.shutdown_grace = milliseconds(2000);
    return options;
  }

  httplib::Client client() {
    httplib::Client made("127.0.0.1", port_);
    made.set_keep_alive(true);
    return made;
  }
  httplib::Headers auth() { return {{"Authorization", "Bearer " + server_.admin_token()}}; }

  // A public kernel repository with one file f.bin on main.
  void publish(const std::string& base64) {
    auto http = client();
    http.Post("/hub/api/repos/create", auth(),
              R"({"name":"toy","organization":"org","type":"kernel"})", "application/json");
    const std::string commit =
        "{\"key\":\"header\",\"value\":{\"summary\":\"s\"}}\n"
        "{\"key\":\"file\",\"value\":{\"path\":\"f.bin\",\"encoding\":\"base64\",\"content\":\"" +
        base64 + "\"}}\n";
    const auto answer =
        http.Post("/hub/api/kernels/org/toy/commit/main", auth(), commit, "application/x-ndjson");
    ASSERT_TRUE(answer);
    ASSERT_EQ(answer->status, 200) << answer->body;
    server_.clear_requests();
  }

  // Sends raw bytes and reads until the server closes.
  std::string raw(const std::string& bytes) {
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port_));
    ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      return "no connection";
    }
    ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::shutdown(socket.get(), SHUT_WR);
    std::string answer;
    char buffer[4096];
    for (ssize_t got; (got = ::recv(socket.get(), buffer, sizeof buffer, 0)) > 0;) {
      answer.append(buffer, static_cast<std::size_t>(got));
    }
    return answer;
  }

  static constexpr const char* kFile = "/hub/kernels/org/toy/resolve/main/f.bin";
  TempDirectory folder_;
  HubServer server_;
  int port_ = 0;
};

TEST_F(HubServerTest, WritesItsUrlOnceItListens) {
  EXPECT_EQ(read_file(folder_ / "url"), server_.url());
  EXPECT_EQ(server_.url().substr(server_.url().rfind(':')), ":" + std::to_string(port_) + "/hub");
  EXPECT_EQ(client().Get("/hub/healthz")->status, 200);
  EXPECT_EQ(client().Get("/healthz")->status, 404);
}

TEST_F(HubServerTest, AnswersEveryFailureWithAnErrorCode) {
  publish("aGVsbG8=");
  const std::vector<std::tuple<const char*, int, const char*>> cases = {
      {"/hub/api/kernels/org/absent", 401, "RepoNotFound"},
      {"/hub/api/models/org/toy", 401, "RepoNotFound"},
      {"/hub/api/kernels/org/toy/revision/v9", 404, "RevisionNotFound"},
      {"/hub/api/kernels/org/toy/tree/main/absent", 404, "EntryNotFound"},
      {"/hub/kernels/org/toy/resolve/main/absent", 404, "EntryNotFound"},
      {"/hub/kernels/org/toy/resolve/main/%2e%2e/x", 400, "UnsafePath"},
      {"/hub/kernels/org/toy/resolve/main/a%2Fb", 400, "BadRequest"},
      {"/hub/kernels/org/toy/resolve/main/a%00b", 400, "BadRequest"},
      {"/hub/kernels/org/..%2f..%2fx/resolve/main/f", 400, "InvalidRepoId"},
      {"/hub/api/organizations/..%2f..%2fobjects/overview", 400, "InvalidRepoId"},
      {"/hub/api/organizations/absent/overview", 404, "NamespaceNotFound"},
      {"/hub/api/whoami-v2", 401, "AuthRequired"},
      {"/hub/api/kernels/org/toy/commit/main", 405, "MethodNotAllowed"},
      {"/hub/api/kernels/org/toy/nothing", 404, "RouteNotFound"},
  };
  for (const auto& [target, status, code] : cases) {
    // Sent raw: the client library would normalise the target.
    const std::string answer =
        raw(std::string("GET ") + target + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(answer.substr(9, 3), std::to_string(status)) << target;
    EXPECT_NE(answer.find(std::string("X-Error-Code: ") + code + "\r\n"), std::string::npos)
        << target << "\n"
        << answer;
  }
  const auto missing = client().Get("/hub/kernels/org/toy/resolve/main/absent");
  EXPECT_EQ(missing->get_header_value("X-Repo-Commit").size(), 40u);
}

TEST_F(HubServerTest, RefusesAmbiguousFraming) {
  const std::string line = "POST /hub/api/validate-yaml HTTP/1.1\r\nHost: h\r\n";
  for (const char* headers :
       {"Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: +2\r\n",
        "Content-Length: -2\r\n", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n"}) {
    const std::string answer = raw(line + headers + "\r\n{}");
    EXPECT_EQ(answer.substr(9, 3), "400") << headers << answer;
    EXPECT_NE(answer.find("Connection: close"), std::string::npos) << headers;
  }
  std::string many;
  for (int i = 0; i < 70; ++i) many += "X-" + std::to_string(i) + ": y\r\n";
  EXPECT_EQ(raw("GET /hub/healthz HTTP/1.1\r\n" + many + "\r\n").substr(9, 3), "400");
  EXPECT_EQ(raw("GET http://other/hub/healthz HTTP/1.1\r\nHost: h\r\n\r\n").substr(9, 3), "400");
  EXPECT_EQ(raw("GET /hub/healthz HTTP/1.1\r\nX: " + std::string(60'000, 'a') + "\r\n\r\n")
                .find("200 OK"),
            std::string::npos);
}

TEST_F(HubServerTest, AnswersPipelinedRequestsInOrder) {
  const std::string one = "GET /hub/healthz HTTP/1.1\r\nHost: h\r\n\r\n";
  const std::string two = "GET /hub/api/agent-harnesses HTTP/1.1\r\nHost: h\r\n\r\n";
  const std::string answer = raw(one + two);
  const std::size_t first = answer.find("\"ok\"");
  const std::size_t second = answer.find("harnesses");
  ASSERT_NE(first, std::string::npos) << answer;
  ASSERT_NE(second, std::string::npos) << answer;
  EXPECT_LT(first, second);
}

TEST_F(HubServerTest, SendsAnAnswerAlthoughALongBodyIsRefusedUnread) {
  const std::string body(8u << 20, 'x');
  const auto answer =
      client().Post("/hub/api/kernels/org/toy/commit/main", body, "application/x-ndjson");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 401);
}

TEST_F(HubServerTest, TakesChunkedBodies) {
  publish("aGVsbG8=");
  const std::string lines =
      "{\"key\":\"header\",\"value\":{\"summary\":\"s\"}}\n"
      "{\"key\":\"deletedFile\",\"value\":{\"path\":\"f.bin\"}}";
  const auto answer = client().Post(
      "/hub/api/kernels/org/toy/commit/main", auth(),
      [&](std::size_t offset, httplib::DataSink& sink) {
        if (offset < lines.size()) {
          sink.write(lines.data() + offset, 1);
        } else {
          sink.done();
        }
        return true;
      },
      "application/x-ndjson");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200) << answer->body;
  EXPECT_EQ(client().Get(kFile)->status, 404);
}

TEST_F(HubServerTest, RecordsRequestsBeforeTheyAreAnswered) {
  publish("aGVsbG8=");
  const auto answer = client().Get(kFile, {{"Range", "bytes=1-2"}});
  EXPECT_EQ(answer->body, "el");
  const auto records = server_.requests();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].target, kFile);
  EXPECT_EQ(records[0].status, 206);
  EXPECT_EQ(records[0].body_bytes, 2u);
  EXPECT_EQ(records[0].range, "bytes=1-2");
  EXPECT_FALSE(records[0].has_authorization);
  const std::string log = read_file(folder_ / "access.jsonl");
  EXPECT_NE(log.find("\"user\":\"admin\""), std::string::npos);
  EXPECT_EQ(log.find(server_.admin_token()), std::string::npos);
}

TEST_F(HubServerTest, MisbehavesAsPlanned) {
  publish("aGVsbG8gd29ybGQ=");
  const auto plan = [&](FaultKind kind, std::uint64_t at_byte = 0) {
    Fault fault;
    fault.kind = kind;
    fault.path_contains = "f.bin";
    fault.at_byte = at_byte;
    fault.stall = milliseconds(40);
    fault.location = "/hub/healthz";
    fault.error_code = "GatedRepo";
    server_.faults().add(fault);
  };
  plan(FaultKind::kStatus);
  const auto refused = client().Get(kFile);
  EXPECT_EQ(refused->status, 503);
  EXPECT_EQ(refused->get_header_value("X-Error-Code"), "GatedRepo");
  plan(FaultKind::kRedirect);
  EXPECT_EQ(client().Get(kFile)->get_header_value("Location"), "/hub/healthz");
  plan(FaultKind::kFlipByte, 1);
  EXPECT_EQ(client().Get(kFile)->body, "h\x9allo world");
  plan(FaultKind::kWrongLength, 4);
  EXPECT_EQ(client().Get(kFile)->body, "hell");
  plan(FaultKind::kIgnoreRange);
  EXPECT_EQ(client().Get(kFile, {{"Range", "bytes=6-"}})->status, 200);
  plan(FaultKind::kDrop);
  EXPECT_FALSE(client().Get(kFile));
  plan(FaultKind::kStall);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(client().Get(kFile)->body, "hello world");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(40));
  plan(FaultKind::kCut, 5);
  const std::string cut = raw(std::string("GET ") + kFile + " HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_NE(cut.find("Content-Length: 11\r\n"), std::string::npos);
  EXPECT_EQ(cut.substr(cut.find("\r\n\r\n") + 4), "hello");
}

TEST_F(HubServerTest, KeepsPrivateRepositoriesFromOthers) {
  client().Post("/hub/api/repos/create", auth(),
                R"({"name":"p","organization":"org","type":"kernel","visibility":"private"})",
                "application/json");
  EXPECT_EQ(client().Get("/hub/api/kernels/org/p")->status, 401);
  EXPECT_EQ(client().Get("/hub/api/kernels/org/p", auth())->status, 200);
}

TEST_F(HubServerTest, StopsWhileClientsStayConnected) {
  auto idle = client();
  EXPECT_EQ(idle.Get("/hub/healthz")->status, 200);
  const auto begin = std::chrono::steady_clock::now();
  server_.stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(1500));
  server_.wait();
  EXPECT_FALSE(client().Get("/hub/healthz"));
}

TEST_F(HubServerTest, ServesManyClientsAtOnce) {
  publish("aGVsbG8=");
  std::vector<std::future<int>> clients;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(std::async(std::launch::async, [this] {
      auto http = client();
      int good = 0;
      for (int request = 0; request < 20; ++request) {
        const auto answer = http.Get(kFile);
        good += answer && answer->body == "hello" ? 1 : 0;
      }
      return good;
    }));
  }
  for (auto& one : clients) EXPECT_EQ(one.get(), 20);
  EXPECT_EQ(server_.requests().size(), 320u);
}

TEST(HubServerStart, RefusesATakenPortAndAPublicAddressWithoutConsent) {
  const TempDirectory folder;
  ServerOptions options;
  options.store = folder / "a";
  HubServer first(options);
  first.start();
  options.port = std::stoi(first.url().substr(first.url().rfind(':') + 1));
  options.store = folder / "b";
  HubServer second(options);
  EXPECT_EQ(code_of([&] { second.start(); }), ErrorCode::kServerStart);
  options.listen = "0.0.0.0";
  EXPECT_EQ(code_of([&] { HubServer third(options); }), ErrorCode::kServerStart);
}

}  // namespace
}  // namespace kernelhub::server
