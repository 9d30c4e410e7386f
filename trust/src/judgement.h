// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/trust/policy.h"

#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::trust {

/// One decision in the making: the table of trust spec 2.2 row by row.
class Judgement {
 public:
  Judgement(const TrustPolicy& policy, const Candidate& candidate)
      : policy_(policy), candidate_(candidate) {}
  Decision decide();

 private:
  Decision decide_local();
  Decision decide_hub();
  std::vector<Evidence> evidence() const;
  Decision allow(std::vector<Evidence> used, const std::string& why);
  Decision refuse(std::string_view code, const std::string& why, std::string remedy) const;
  Decision refuse_hub() const;
  std::string rule() const;
  std::string missing_evidence() const;
  void warn(std::string text) { warnings_.push_back(std::move(text)); }

  const TrustPolicy& policy_;
  const Candidate& candidate_;
  std::vector<std::string> warnings_;
};

}  // namespace kernelhub::trust
