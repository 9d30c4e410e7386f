// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_message.h"

#include <chrono>
#include <memory>
#include <string>

namespace kernelhub::server {

/// HTTP/1.1 on one address, a thread per connection. The only user of the HTTP library.
class HttpListener {
 public:
  explicit HttpListener(HttpHandler handler);
  ~HttpListener();
  /// Binds; 0 = a free port. Returns the port, or 0 when the address cannot be bound.
  int bind(const std::string& address, int port);
  void start();
  /// Lets running answers end for at most `grace`, then cuts them.
  void stop(std::chrono::milliseconds grace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kernelhub::server
