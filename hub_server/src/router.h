// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "hub_context.h"
#include "request_log.h"

#include <functional>

namespace kernelhub::server {

/// Finds the route of a request, runs it and turns failures into answers. Thread-safe.
class Router {
 public:
  explicit Router(HubContext& hub) : hub_(&hub) {}
  /// The answer; `record` gets the user's name. Never throws for what a client did wrong.
  HttpResponse answer(const HttpRequest& request, RequestRecord& record) const;

 private:
  HttpResponse dispatch(const Exchange& exchange) const;
  HttpResponse dispatch_api(const Exchange& exchange) const;
  HttpResponse dispatch_page(const Exchange& exchange) const;

  HubContext* hub_;
};

}  // namespace kernelhub::server
