// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/server/hub_server.h"

#include "fault_response.h"
#include "http_listener.h"
#include "hub_context.h"
#include "request_log.h"
#include "router.h"
#include "server_errors.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/log.h"

#include <fmt/format.h>

#include <arpa/inet.h>
#include <condition_variable>
#include <csignal>
#include <ctime>
#include <mutex>
#include <netinet/in.h>
#include <optional>
#include <pthread.h>
#include <utility>

namespace kernelhub::server {
namespace {

bool is_loopback(const std::string& address) {
  in_addr v4{};
  if (::inet_pton(AF_INET, address.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  return address == "::1" || address == "localhost";
}

std::int64_t system_seconds() { return static_cast<std::int64_t>(std::time(nullptr)); }

ServerOptions checked(ServerOptions options) {
  if (options.store.empty()) throw server_errors::start_failed(options.listen, "no store is named");
  if (!is_loopback(options.listen) && !options.insecure_http) {
    throw server_errors::start_failed(options.listen,
                                      "plain HTTP beyond this machine needs --insecure-http");
  }
  while (!options.base_path.empty() && options.base_path.back() == '/') {
    options.base_path.pop_back();
  }
  if (!options.base_path.empty() && options.base_path.front() != '/') {
    options.base_path.insert(options.base_path.begin(), '/');
  }
  return options;
}

}  // namespace

struct HubServer::State {
  HubContext hub;
  RequestLog log;
  Router router;
  FaultPlan faults;
  HttpListener listener;
  std::mutex mutex;
  std::condition_variable changed;
  bool stopped = false;

  explicit State(ServerOptions options)
      : hub(checked(std::move(options)), system_seconds),
        log(hub.options.access_log),
        router(hub),
        listener([this](const HttpRequest& request) { return answer(request); }) {}

  HttpResponse answer(const HttpRequest& request);
  HttpResponse answer_with_fault(const Fault& fault, const HttpRequest& request,
                                 RequestRecord& record);
};

HttpResponse HubServer::State::answer(const HttpRequest& request) {
  const auto begin = std::chrono::steady_clock::now();
  RequestRecord record;
  const std::size_t question = request.target.find('?');
  record.method = request.method;
  record.target = request.target.substr(0, question);
  if (question != std::string::npos) record.query = request.target.substr(question + 1);
  record.has_authorization = !request.header("Authorization").empty();
  record.range = request.header("Range");
  record.user_agent = request.header("User-Agent");
  const auto fault = faults.take(request.method, request.target);
  HttpResponse response =
      fault ? answer_with_fault(*fault, request, record) : router.answer(request, record);
  record.status = response.status;
  record.body_bytes = request.method == "HEAD" ? 0 : response.body_bytes();
  record.duration = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begin);
  response.headers.emplace_back("X-Request-Id", random_hex(16));
  log.add(std::move(record));
  return response;
}

HttpResponse HubServer::State::answer_with_fault(const Fault& fault, const HttpRequest& request,
                                                 RequestRecord& record) {
  if (auto planned = planned_response(fault)) return std::move(*planned);
  if (fault.kind == FaultKind::kStall) {
    std::unique_lock guard(mutex);
    changed.wait_for(guard, fault.stall, [this] { return stopped; });
  }
  HttpRequest routed = request;
  if (fault.kind == FaultKind::kIgnoreRange) routed.headers.erase("Range");
  HttpResponse response = router.answer(routed, record);
  spoil_response(fault, response);
  return response;
}

HubServer::HubServer(ServerOptions options) : state_(std::make_unique<State>(std::move(options))) {}

HubServer::~HubServer() { stop(); }

void HubServer::start() {
  HubContext& hub = state_->hub;
  const std::string& address = hub.options.listen;
  if (!is_loopback(address)) {
    log(LogLevel::kWarning,
        fmt::format("serving {} without TLS: tokens can be read on the network", address));
  }
  const int port = state_->listener.bind(address, hub.options.port);
  const bool is_v6 = address.find(':') != std::string::npos;
  const std::string host = is_v6 ? "[" + address + "]" : address;
  if (port == 0) {
    throw server_errors::start_failed(fmt::format("{}:{}", host, hub.options.port),
                                      "the address cannot be bound; is the port taken?");
  }
  hub.origin = fmt::format("http://{}:{}", host, port);
  hub.url = hub.origin + hub.options.base_path;
  state_->listener.start();
  if (!hub.options.url_file.empty()) write_file_atomically(hub.options.url_file, hub.url);
}

const std::string& HubServer::url() const noexcept { return state_->hub.url; }

const std::string& HubServer::admin_token() const noexcept {
  return state_->hub.tokens.admin_token();
}

void HubServer::stop() {
  {
    const std::lock_guard guard(state_->mutex);
    if (state_->stopped) return;
    state_->stopped = true;
    state_->changed.notify_all();
  }
  state_->listener.stop(state_->hub.options.shutdown_grace);
}

void HubServer::wait() {
  std::unique_lock guard(state_->mutex);
  state_->changed.wait(guard, [this] { return state_->stopped; });
}

FaultPlan& HubServer::faults() noexcept { return state_->faults; }

std::vector<RequestRecord> HubServer::requests() const { return state_->log.records(); }

void HubServer::clear_requests() { state_->log.clear(); }

void serve_until_signal(const ServerOptions& options,
                        const std::function<void(const HubServer&)>& on_ready) {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  HubServer server(options);
  server.start();
  on_ready(server);
  int received = 0;
  ::sigwait(&signals, &received);
  server.stop();
}

}  // namespace kernelhub::server
