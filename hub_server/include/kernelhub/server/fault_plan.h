// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kernelhub::server {

enum class FaultKind : std::uint8_t {
  kStatus,       // answer `status` with `error_code` and `headers`, body {"error": ...}
  kCut,          // send the true headers and `at_byte` bytes of the body, then close
  kFlipByte,     // invert body byte `at_byte` of the file
  kWrongLength,  // announce and send `at_byte` bytes: the file cut short or padded with zeros
  kStall,        // keep the connection silent for `stall` before answering
  kIgnoreRange,  // answer 200 with the whole file although a Range was asked for
  kRedirect,     // 302 to `location`
  kDrop,         // reset the connection without an answer
};

/// One planned misbehaviour. It meets requests whose target, as sent, contains `path_contains` and
/// whose method is `method` (empty: any); the first `skip` such requests pass, the next `times`
/// are hit.
struct Fault {
  FaultKind kind = FaultKind::kStatus;
  std::string path_contains;
  std::string method;
  int skip = 0;
  int times = 1;
  int status = 503;
  std::string error_code;  // X-Error-Code, empty: none is sent
  std::vector<std::pair<std::string, std::string>> headers;
  std::uint64_t at_byte = 0;
  std::chrono::milliseconds stall{0};
  std::string location;
};

/// Faults a test asks of a running HubServer. Thread-safe.
///
///   server.faults().add({.kind = FaultKind::kCut, .path_contains = "big.bin", .at_byte = 1000});
class FaultPlan {
 public:
  void add(Fault fault);
  void clear();
  /// The fault that meets this request, counted as used up; the oldest fault wins.
  std::optional<Fault> take(std::string_view method, std::string_view target);

 private:
  std::mutex mutex_;
  std::vector<Fault> faults_;
};

}  // namespace kernelhub::server
