// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "url_parts.h"

#include <string>
#include <vector>

namespace kernelhub::hub {

/// Which origins are the Hub's and thus may see the token, and where a reply may send us (hub spec
/// 1.2). Pure.
class RedirectPolicy {
 public:
  static constexpr std::size_t kMaxHops = 20;

  /// `endpoint`: the configured one. The public Hub's own origins are always trusted beside it.
  explicit RedirectPolicy(const std::string& endpoint);

  bool is_hub(const std::string& url) const;
  /// URL of the next hop. `hops`: all URLs so far, the first one asked for. Throws HubError
  /// kRedirectRefused for more than kMaxHops, a loop, https to http, or no usable `location`.
  std::string next_hop(const std::vector<std::string>& hops, const std::string& location) const;
  /// A link of a listing's next page: same origin as the endpoint, or one of the public Hub
  /// rewritten to the endpoint. Throws kRedirectRefused otherwise.
  std::string next_page(const std::string& current, const std::string& link) const;

 private:
  std::string endpoint_;
  std::vector<Origin> hub_origins_;  // the endpoint's first
};

}  // namespace kernelhub::hub
