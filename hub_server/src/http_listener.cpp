// SPDX-License-Identifier: Apache-2.0
#include "http_listener.h"

#include "connection.h"
#include "error_reply.h"
#include "server_errors.h"

#include <httplib.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <set>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace kernelhub::server {
namespace {

constexpr std::size_t kMaxConnections = 1024;
constexpr std::size_t kMaxConnectionsPerAddress = 64;
constexpr int kBacklog = 512;
constexpr std::size_t kMaxHeaders = 64;
// Announced to clients only; Connection decides.
constexpr std::size_t kMaxKeptAlive = 1'000'000;
constexpr time_t kKeepAliveSeconds = 60;

/// What the library reads from and writes to.
class ConnectionStream final : public httplib::Stream {
 public:
  explicit ConnectionStream(Connection& connection) : connection_(&connection) {}
  bool is_readable() const override { return !connection_->is_broken(); }
  bool is_writable() const override { return !connection_->is_broken(); }
  ssize_t read(char* data, size_t size) override { return connection_->read(data, size); }
  ssize_t write(const char* data, size_t size) override { return connection_->write(data, size); }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip = connection_->remote_address();
    port = connection_->remote_port();
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  // The library compares it with the limit of select(), which nothing here uses.
  socket_t socket() const override { return 0; }

 private:
  Connection* connection_;
};

/// One thread for each connection, so that a slow client holds up nobody.
class ThreadPerConnection final : public httplib::TaskQueue {
 public:
  void enqueue(std::function<void()> task) override {
    const std::lock_guard guard(mutex_);
    threads_.remove_if([](const Worker& worker) { return worker.done->load(); });
    auto done = std::make_shared<std::atomic<bool>>(false);
    threads_.push_back({done, std::jthread([task = std::move(task), done] {
                          task();
                          *done = true;
                        })});
  }
  void shutdown() override { threads_.clear(); }

 private:
  struct Worker {
    std::shared_ptr<std::atomic<bool>> done;
    std::jthread thread;
  };
  std::mutex mutex_;
  std::list<Worker> threads_;
};

/// The exchange a connection's thread is in; the library's callbacks have no other way to it.
struct CurrentExchange {
  Connection* connection = nullptr;
  bool body_unread = false;
};
thread_local CurrentExchange current;

// Framing that two parsers could read differently (trust spec 6).
void check_framing(const httplib::Request& request) {
  const auto count = [&](const char* name) { return request.get_header_value_count(name); };
  if (request.headers.size() > kMaxHeaders) {
    throw server_errors::bad_framing("more than 64 headers");
  }
  const bool is_chunked = count("Transfer-Encoding") != 0;
  if (count("Content-Length") > 1 || (is_chunked && count("Content-Length") != 0)) {
    throw server_errors::bad_framing("ambiguous length of the request body");
  }
  const std::string length = request.get_header_value("Content-Length");
  if (length.size() > 18 || length.find_first_not_of("0123456789") != std::string::npos) {
    throw server_errors::bad_framing("Content-Length is not a number of bytes");
  }
  if (is_chunked && request.get_header_value("Transfer-Encoding") != "chunked") {
    throw server_errors::bad_framing("Transfer-Encoding is not chunked");
  }
  if (request.is_multipart_form_data()) {
    throw server_errors::bad_framing("multipart bodies are not taken");
  }
}

bool has_body(const httplib::Request& request) {
  return request.has_header("Transfer-Encoding") ||
         (request.has_header("Content-Length") &&
          request.get_header_value("Content-Length") != "0");
}

void stream_body(const httplib::Request& request, const httplib::ContentReader& reader,
                 const std::function<void(std::string_view)>& sink) {
  if (!current.body_unread) return;
  current.connection->begin_body(request.get_header_value<std::uint64_t>("Content-Length"));
  std::exception_ptr failed;
  const bool complete = reader([&](const char* data, size_t size) {
    try {
      sink({data, size});
      return true;
    } catch (const std::exception&) {
      failed = std::current_exception();
      return false;
    }
  });
  if (failed) std::rethrow_exception(failed);
  if (!complete) throw server_errors::bad_framing("request body is cut short or badly framed");
  current.body_unread = false;
}

// Sends part of a file in pieces that bound the memory of a connection; fails, which closes the
// connection, at `end`.
httplib::ContentProvider file_provider(std::shared_ptr<FileBody> file, std::uint64_t end) {
  return [file = std::move(file), end](size_t offset, size_t length, httplib::DataSink& sink) {
    constexpr std::size_t kPieceBytes = 64u << 10;
    thread_local std::vector<char> piece(kPieceBytes);
    const std::size_t wanted = std::min({length, piece.size(), end > offset ? end - offset : 0});
    if (wanted == 0) return false;
    const ssize_t got =
        ::pread(file->fd.get(), piece.data(), wanted, static_cast<off_t>(file->offset + offset));
    return got > 0 && sink.write(piece.data(), static_cast<std::size_t>(got));
  };
}

}  // namespace

struct HttpListener::State final : httplib::Server {
  HttpHandler handler;
  int listening_socket = -1;
  std::jthread thread;
  std::mutex mutex;
  std::condition_variable changed;
  std::set<Connection*> connections;
  bool stopping = false;

  explicit State(HttpHandler request_handler);
  bool process_and_close_socket(socket_t socket) override;
  bool admit(Connection& connection);
  void serve(Connection& connection);
  void handle(const httplib::Request& request, httplib::Response& response,
              const httplib::ContentReader* reader);
  HttpResponse decide(const httplib::Request& request, const httplib::ContentReader* reader);
};

HttpListener::State::State(HttpHandler request_handler) : handler(std::move(request_handler)) {
  new_task_queue = [] { return new ThreadPerConnection; };
  set_socket_options([this](socket_t socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    listening_socket = socket;
  });
  const auto with_body = [this](const httplib::Request& request, httplib::Response& response,
                                const httplib::ContentReader& reader) {
    handle(request, response, &reader);
  };
  set_keep_alive_max_count(kMaxKeptAlive);
  set_keep_alive_timeout(kKeepAliveSeconds);
  // serve() gives every request the path "/": routing is by the raw target.
  Post("/", with_body);
  Put("/", with_body);
  Patch("/", with_body);
  Delete("/", with_body);
  set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
    const std::string& method = request.method;
    if (method == "POST" || method == "PUT" || method == "PATCH" || method == "DELETE") {
      return HandlerResponse::Unhandled;
    }
    handle(request, response, nullptr);
    return HandlerResponse::Handled;
  });
  // Answers of the library itself, to requests it could not read.
  set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (!response.has_header("X-Error-Code")) response.set_header("X-Error-Code", "BadRequest");
  });
}

bool HttpListener::State::process_and_close_socket(socket_t socket) {
  Connection connection(socket);
  if (admit(connection)) {
    current = {&connection, false};
    serve(connection);
    current = {};
  }
  const std::lock_guard guard(mutex);
  connections.erase(&connection);
  changed.notify_all();
  return true;
}

bool HttpListener::State::admit(Connection& connection) {
  const std::lock_guard guard(mutex);
  const std::string& address = connection.remote_address();
  const bool is_loopback = address.rfind("127.", 0) == 0 || address == "::1";
  const auto same = std::count_if(connections.begin(), connections.end(), [&](Connection* other) {
    return other->remote_address() == address;
  });
  if (stopping) return false;
  if (connections.size() >= kMaxConnections ||
      (!is_loopback && static_cast<std::size_t>(same) >= kMaxConnectionsPerAddress)) {
    constexpr std::string_view kBusy =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nX-Error-Code: TooManyConnections\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n";
    connection.write(kBusy.data(), kBusy.size());
    return false;
  }
  connections.insert(&connection);
  return true;
}

void HttpListener::State::serve(Connection& connection) {
  ConnectionStream stream(connection);
  while (connection.wait_for_request()) {
    connection.begin_head();
    bool closes = false;
    const bool answered = process_request(stream, false, closes, [&](httplib::Request& request) {
      connection.end_head();
      current.body_unread = has_body(request);
      request.path.assign(1, '/');
      request.ranges.clear();  // the routes know ranges; the library would apply them to any body
    });
    if (answered && current.body_unread && !connection.is_broken()) connection.linger();
    if (!answered || closes || current.body_unread) return;
  }
}

HttpResponse HttpListener::State::decide(const httplib::Request& request,
                                         const httplib::ContentReader* reader) {
  HttpRequest plain;
  plain.method = request.method;
  plain.target = request.target;
  plain.remote_address = request.remote_addr;
  for (const auto& [name, value] : request.headers) plain.headers.emplace(name, value);
  plain.stream_body = [&](const std::function<void(std::string_view)>& sink) {
    if (reader != nullptr) stream_body(request, *reader, sink);
  };
  try {
    check_framing(request);
  } catch (const Error& error) {
    current.body_unread = true;
    return error_response(error);
  }
  return handler(plain);
}

void HttpListener::State::handle(const httplib::Request& request, httplib::Response& response,
                                 const httplib::ContentReader* reader) {
  HttpResponse decided = decide(request, reader);
  response.status = decided.status;
  for (const auto& [name, value] : decided.headers) response.set_header(name, value);
  response.set_header("X-Content-Type-Options", "nosniff");
  if (current.body_unread) response.set_header("Connection", "close");
  if (decided.is_dropped) current.connection->reset();
  if (decided.file && decided.file->size_bytes != 0) {
    const std::uint64_t size_bytes = decided.file->size_bytes;
    response.set_content_provider(
        size_bytes, decided.content_type,
        file_provider(std::make_shared<FileBody>(std::move(*decided.file)),
                      decided.cut_after.value_or(size_bytes)));
  } else {
    response.set_content(decided.body, decided.content_type);
  }
}

HttpListener::HttpListener(HttpHandler handler)
    : state_(std::make_unique<State>(std::move(handler))) {}

HttpListener::~HttpListener() { stop(std::chrono::milliseconds(0)); }

int HttpListener::bind(const std::string& address, int port) {
  int bound = 0;
  if (port == 0) {
    bound = state_->bind_to_any_port(address);
  } else {
    bound = state_->bind_to_port(address, port) ? port : -1;
  }
  if (bound <= 0) return 0;
  // The library's own backlog of 5 makes bursts of connections wait for a retransmission.
  ::listen(state_->listening_socket, kBacklog);
  return bound;
}

void HttpListener::start() {
  state_->thread = std::jthread([state = state_.get()] { state->listen_after_bind(); });
  while (!state_->is_running()) std::this_thread::yield();
}

void HttpListener::stop(std::chrono::milliseconds grace) {
  if (!state_->thread.joinable()) return;
  {
    const std::lock_guard guard(state_->mutex);
    state_->stopping = true;
  }
  state_->Server::stop();
  {
    std::unique_lock guard(state_->mutex);
    for (Connection* connection : state_->connections) connection->finish();
    state_->changed.wait_for(guard, grace, [this] { return state_->connections.empty(); });
    for (Connection* connection : state_->connections) connection->stop();
  }
  state_->thread.join();
}

}  // namespace kernelhub::server
