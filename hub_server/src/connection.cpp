// SPDX-License-Identifier: Apache-2.0
#include "connection.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace kernelhub::server {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kKeepAlive{60};
constexpr std::chrono::seconds kHeadDeadline{10};
constexpr std::chrono::seconds kIdle{30};
constexpr std::chrono::seconds kShortestBodyDeadline{60};
constexpr std::chrono::seconds kUnsizedBodyDeadline{3600};
constexpr std::uint64_t kSlowestBytesPerSecond = 50'000;
constexpr std::size_t kMaxHeadBytes = 40u << 10;  // 8 KiB line and 32 KiB headers
constexpr std::size_t kBufferBytes = 16u << 10;
constexpr std::chrono::seconds kLinger{2};

}  // namespace

Connection::Connection(int socket) : socket_(socket) {
  const int on = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host.data(), host.size(),
                    port.data(), port.size(), NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
    remote_address_ = host.data();
    remote_port_ = std::atoi(port.data());
  }
}

Connection::~Connection() { ::close(socket_); }

bool Connection::wait(short events, Time deadline) {
  while (!stopped_) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd waited{socket_, events, 0};
    const int ready = ::poll(&waited, 1, static_cast<int>(std::min<long>(left.count(), 60'000)));
    if (ready > 0) return !stopped_;
    if (ready < 0 && errno != EINTR) return false;
  }
  return false;
}

bool Connection::fill() {
  buffer_.resize(kBufferBytes);
  buffer_at_ = 0;
  ssize_t got = -1;
  do {
    got = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
  } while (got < 0 && errno == EINTR);
  buffer_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return got > 0;
}

bool Connection::wait_for_request() {
  if (broken_ || stopped_) return false;
  // idle_ before finishing_, the reverse of finish(): one of the two sees the other.
  idle_ = true;
  if (finishing_) return false;
  const bool is_buffered = buffer_at_ < buffer_.size();
  const bool begins = is_buffered || (wait(POLLIN, steady_clock::now() + kKeepAlive) && fill());
  idle_ = false;
  return begins;
}

void Connection::begin_head() {
  in_head_ = true;
  head_bytes_ = 0;
  phase_deadline_ = steady_clock::now() + kHeadDeadline;
}

void Connection::end_head() { in_head_ = false; }

void Connection::begin_body(std::uint64_t size_bytes) {
  const std::chrono::seconds by_size(size_bytes / kSlowestBytesPerSecond);
  phase_deadline_ =
      steady_clock::now() +
      (size_bytes == 0 ? kUnsizedBodyDeadline : std::max(kShortestBodyDeadline, by_size));
}

std::ptrdiff_t Connection::read(char* data, std::size_t size) {
  if (broken_) return -1;
  if (buffer_at_ == buffer_.size()) {
    const Time idle_deadline = steady_clock::now() + kIdle;
    if (!wait(POLLIN, std::min(idle_deadline, phase_deadline_)) || !fill()) {
      broken_ = true;
      return -1;
    }
  }
  const std::size_t taken = std::min(size, buffer_.size() - buffer_at_);
  if (in_head_ && (head_bytes_ += taken) > kMaxHeadBytes) {
    broken_ = true;
    return -1;
  }
  std::memcpy(data, buffer_.data() + buffer_at_, taken);
  buffer_at_ += taken;
  return static_cast<std::ptrdiff_t>(taken);
}

std::ptrdiff_t Connection::write(const char* data, std::size_t size) {
  std::size_t sent = 0;
  while (sent < size && !broken_) {
    const ssize_t put = ::send(socket_, data + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put > 0) {
      sent += static_cast<std::size_t>(put);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      broken_ = !wait(POLLOUT, steady_clock::now() + kIdle);
    } else if (errno != EINTR) {
      broken_ = true;
    }
  }
  return broken_ ? -1 : static_cast<std::ptrdiff_t>(size);
}

void Connection::reset() {
  const ::linger abort{1, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  broken_ = true;
}

void Connection::linger() {
  ::shutdown(socket_, SHUT_WR);
  const Time deadline = steady_clock::now() + kLinger;
  while (wait(POLLIN, deadline) && fill()) {
  }
  broken_ = true;
}

void Connection::stop() {
  stopped_ = true;
  ::shutdown(socket_, SHUT_RDWR);
}

void Connection::finish() {
  finishing_ = true;
  if (idle_) stop();
}

}  // namespace kernelhub::server
