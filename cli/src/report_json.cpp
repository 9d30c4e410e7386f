// SPDX-License-Identifier: Apache-2.0
#include "report_json.h"

#include <nlohmann/json.hpp>

namespace kernelhub::cli {
namespace {

using Json = nlohmann::ordered_json;

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

std::string dump(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string to_json(const builder::BuildReport& report) {
  Json diagnostics = Json::array();
  for (const builder::Diagnostic& finding : report.diagnostics) {
    const bool warning = finding.severity == builder::Diagnostic::Severity::kWarning;
    diagnostics.push_back({{"severity", warning ? "warning" : "error"},
                           {"file", finding.file},
                           {"line", finding.line},
                           {"key", finding.key},
                           {"message", finding.message}});
  }
  Json variants = Json::array();
  for (const builder::VariantOutcome& outcome : report.variants) {
    variants.push_back({{"variant", outcome.variant},
                        {"status", builder::status_name(outcome.status)},
                        {"id", text_or_null(outcome.id)},
                        {"path", text_or_null(outcome.directory.string())},
                        {"archs", outcome.archs},
                        {"seconds", outcome.seconds},
                        {"reason", text_or_null(outcome.reason)}});
  }
  return dump({{"name", report.name},
               {"path", report.directory.string()},
               {"ok", report.ok()},
               {"diagnostics", diagnostics},
               {"variants", variants}});
}

std::string to_json(const std::vector<CheckedVariant>& variants) {
  Json list = Json::array();
  for (const CheckedVariant& checked : variants) {
    Json findings = Json::array();
    for (const builder::CheckFinding& finding : checked.findings) {
      const bool warning = finding.severity == builder::CheckFinding::Severity::kWarning;
      findings.push_back({{"file", finding.file},
                          {"check", finding.check},
                          {"symbol", text_or_null(finding.symbol)},
                          {"found", finding.found},
                          {"allowed", finding.allowed},
                          {"severity", warning ? "warning" : "error"}});
    }
    list.push_back({{"variant", checked.variant}, {"findings", findings}});
  }
  return dump({{"variants", list}});
}

std::string to_json(const UploadOutcome& outcome) {
  return dump({{"status", outcome.status},
               {"repo_id", outcome.repo},
               {"branch", outcome.branch},
               {"commit", text_or_null(outcome.commit)},
               {"url", text_or_null(outcome.url)},
               {"pull_requests", Json::array()},
               {"variants", outcome.variants},
               {"added", outcome.added},
               {"deleted", outcome.deleted},
               {"warnings", outcome.warnings}});
}

}  // namespace kernelhub::cli
