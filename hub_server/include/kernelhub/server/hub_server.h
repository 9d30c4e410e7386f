// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/server/fault_plan.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// A Hub on this machine: the routes of hub spec 2 and 3 over a directory.
///
///   kernelhub::server::HubServer server({.store = "/srv/hub", .trust_orgs = {"my-org"}});
///   server.start();
///   setenv("HF_ENDPOINT", server.url().c_str(), 1);
namespace kernelhub::server {

/// What preupload tells clients to use for their files (hub spec 4).
enum class UploadMode : std::uint8_t {
  kRegular,  // everything inline in the commit; the only mode every Python client can use
  kLfs,      // objects first, for clients known to have Xet off
};

struct ServerOptions {
  std::filesystem::path store;          // created 0700 when missing
  std::string listen = "127.0.0.1";     // address without port
  int port = 0;                         // 0: a free one is chosen
  bool insecure_http = false;           // required for an address that is not loopback
  std::string base_path;                // "/a/b": prefix of every route; "" = none
  std::vector<std::string> trust_orgs;  // namespaces whose trustedKernelPublisher is true
  std::filesystem::path access_log;     // JSON lines, appended; empty: none
  std::filesystem::path url_file;       // url() is written here once it listens; empty: none
  UploadMode upload_mode = UploadMode::kRegular;
  std::chrono::milliseconds shutdown_grace{30000};  // for bodies under way when stop() is called
};

/// One answered request as tests and the access log see it. Recorded before the first byte of the
/// answer is sent, so a client that has its answer finds it here.
struct RequestRecord {
  std::string method;
  std::string target;  // as sent, without the query
  std::string query;   // without '?'
  int status = 0;
  std::uint64_t body_bytes = 0;           // announced length of the answer's body, 0 for HEAD
  std::chrono::microseconds duration{0};  // until the answer was decided
  std::string user;                       // name of the token, empty: anonymous
  bool has_authorization = false;
  std::string range;  // Range header
  std::string user_agent;
};

class HubServer {
 public:
  /// Opens or creates the store. Throws kServerStart, kStoreCorrupt, kIo.
  explicit HubServer(ServerOptions options);
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;
  /// stop().
  ~HubServer();
  /// Binds and answers on threads of its own. Throws kServerStart naming the address.
  void start();
  /// "http://127.0.0.1:34567/base", without a trailing '/'; valid after start().
  const std::string& url() const noexcept;
  /// The store's first token (role admin), also in <store>/admin-token; empty once that file is
  /// gone.
  const std::string& admin_token() const noexcept;
  /// Refuses new connections, lets running answers end within the grace period and joins.
  /// Idempotent; any thread.
  void stop();
  /// Blocks until stop() was called.
  void wait();

  FaultPlan& faults() noexcept;
  /// Copy of everything answered so far, oldest first. Thread-safe.
  std::vector<RequestRecord> requests() const;
  void clear_requests();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What `kernelhub serve` does: blocks SIGINT and SIGTERM for this thread and those it starts,
/// starts a server, calls `on_ready`, serves until one of the signals arrives and stops.
/// Call it before any other thread exists. Throws as HubServer.
void serve_until_signal(const ServerOptions& options,
                        const std::function<void(const HubServer&)>& on_ready);

}  // namespace kernelhub::server
