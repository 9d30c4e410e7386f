// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kernelhub::server {

/// One accepted TCP connection: buffered reads and whole writes under deadlines. The socket is
/// closed by the destructor. One thread uses it; stop() may come from another.
class Connection {
 public:
  explicit Connection(int socket);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  /// Waits until a request begins. False: closed, idle for too long, or stopped.
  bool wait_for_request();
  /// Deadline and size limit of request line and headers apply until end_head().
  void begin_head();
  void end_head();
  /// Total deadline of a body by its announced size (trust spec T18); 0: unknown.
  void begin_body(std::uint64_t size_bytes);
  /// Bytes read, 0 at the end, -1 on failure or a passed deadline.
  std::ptrdiff_t read(char* data, std::size_t size);
  /// Bytes written (all of them) or -1.
  std::ptrdiff_t write(const char* data, std::size_t size);
  /// Ends the connection with a reset instead of a proper end.
  void reset();
  /// The answer was sent although the body was not read: tells the client there is no more, and
  /// takes what it still sends for a moment, so that it sees the answer and no reset.
  void linger();
  /// Makes every wait end at once; running ones too.
  void stop();
  /// Takes no further request; one under way may end.
  void finish();
  const std::string& remote_address() const noexcept { return remote_address_; }
  int remote_port() const noexcept { return remote_port_; }
  int socket() const noexcept { return socket_; }
  bool is_broken() const noexcept { return broken_; }

 private:
  using Time = std::chrono::steady_clock::time_point;
  bool wait(short events, Time deadline);
  bool fill();

  int socket_;
  std::string remote_address_;
  int remote_port_ = 0;
  std::string buffer_;
  std::size_t buffer_at_ = 0;
  bool in_head_ = false;
  std::size_t head_bytes_ = 0;
  Time phase_deadline_;
  std::atomic<bool> idle_{false};
  std::atomic<bool> finishing_{false};
  std::atomic<bool> stopped_{false};
  bool broken_ = false;
};

}  // namespace kernelhub::server
