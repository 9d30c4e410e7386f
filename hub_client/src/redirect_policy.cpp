// SPDX-License-Identifier: Apache-2.0
#include "redirect_policy.h"

#include "hub_errors.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace kernelhub::hub {
namespace {

constexpr std::array<std::string_view, 3> kPublicHub = {
    "https://huggingface.co", "https://hub-ci.huggingface.co", "https://hf.co"};

bool is_public_hub(const std::string& url) {
  const auto origin = origin_of(url);
  return origin && std::any_of(kPublicHub.begin(), kPublicHub.end(), [&](std::string_view hub) {
           return *origin_of(std::string(hub)) == *origin;
         });
}

}  // namespace

RedirectPolicy::RedirectPolicy(const std::string& endpoint) : endpoint_(endpoint) {
  const auto origin = origin_of(endpoint);
  if (!origin) throw hub_errors::bad_endpoint(endpoint);
  hub_origins_.push_back(*origin);
  // A token of another hub stays there (trust spec T15), whatever that hub redirects to.
  if (!is_public_hub(endpoint)) return;
  for (const std::string_view url : kPublicHub) {
    hub_origins_.push_back(*origin_of(std::string(url)));
  }
}

bool RedirectPolicy::is_hub(const std::string& url) const {
  const auto origin = origin_of(url);
  return origin &&
         std::find(hub_origins_.begin(), hub_origins_.end(), *origin) != hub_origins_.end();
}

std::string RedirectPolicy::next_hop(const std::vector<std::string>& hops,
                                     const std::string& location) const {
  const std::string& current = hops.back();
  const auto target = location.empty() ? std::nullopt : resolve_location(current, location);
  const auto origin = target ? origin_of(*target) : std::nullopt;
  if (!origin) throw hub_errors::redirect_refused(hops, location, "the target is no http URL");
  if (origin_of(current)->is_https() && !origin->is_https()) {
    throw hub_errors::redirect_refused(hops, *target, "it leads from https to http");
  }
  if (hops.size() > kMaxHops) {
    throw hub_errors::redirect_refused(hops, *target, "there are more than 20 hops");
  }
  if (std::find(hops.begin(), hops.end(), *target) != hops.end()) {
    throw hub_errors::redirect_refused(hops, *target, "it leads back to an earlier hop");
  }
  return *target;
}

std::string RedirectPolicy::next_page(const std::string& current, const std::string& link) const {
  const auto target = resolve_location(current, link);
  const auto origin = target ? origin_of(*target) : std::nullopt;
  if (origin && *origin == hub_origins_.front()) return *target;
  if (origin && is_public_hub(*target)) {
    const std::size_t path = target->find('/', target->find("://") + 3);
    return path == std::string::npos ? endpoint_ : endpoint_ + target->substr(path);
  }
  throw hub_errors::redirect_refused({current}, link, "the next page lies on another origin");
}

}  // namespace kernelhub::hub
