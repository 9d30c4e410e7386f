// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/loader/preflight.h"

#include <string>
#include <vector>

namespace kernelhub::loader {

/// What the checks look at and where they report.
struct PreflightContext {
  const ElfFacts& facts;
  const PreflightOptions& options;
  std::vector<Finding>& findings;

  void error(ErrorCode code, std::string message) const;
  void warn(std::string check, std::string message) const;
  void note(std::string check, std::string message) const;
};

/// Checks of the file alone.
void check_file(const PreflightContext& context);
/// Checks against this process and machine; maps the libraries that the file needs.
void check_process(const PreflightContext& context);

/// PyModule_Create2 and the other functions that only PyInit calls (loader spec 6).
bool is_python_symbol(std::string_view name);
bool is_init_only_python_symbol(std::string_view name);
/// Undefined strong Python symbols that PyInit alone does not explain.
std::vector<std::string> python_symbols_outside_init(const ElfFacts& facts);
/// One line per cause: which kind of symbols is missing and what would bring them.
std::string describe_missing_symbols(const std::vector<std::string>& names);

}  // namespace kernelhub::loader
