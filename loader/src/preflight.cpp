// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/preflight.h"

#include "loader_errors.h"
#include "preflight_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace kernelhub::loader {
namespace {

bool is_origin_relative(std::string_view entry) {
  return entry.empty() || entry.substr(0, 7) == "$ORIGIN" || entry.substr(0, 9) == "${ORIGIN}";
}

void check_memory(const PreflightContext& context) {
  const ElfFacts& facts = context.facts;
  if (facts.executable_stack || !facts.gnu_stack_present) {
    context.error(ErrorCode::kUnsafeElf,
                  "asks for an executable stack; link it with -z noexecstack");
  }
  if (facts.writable_executable_segment) {
    context.error(ErrorCode::kUnsafeElf, "has a segment that is writable and executable");
  }
  if (facts.has_text_relocations) {
    context.error(ErrorCode::kUnsafeElf, "relocates its code (TEXTREL); compile it with -fPIC");
  }
}

void check_tags(const PreflightContext& context) {
  for (const std::string& tag : context.facts.unsafe_tags) {
    context.error(ErrorCode::kUnsafeElf, fmt::format("has a {} entry", tag));
  }
  const std::string& soname = context.facts.soname;
  if (!soname.empty() && is_allowed_dependency(soname)) {
    context.error(ErrorCode::kUnsafeElf, fmt::format("calls itself {}, a shared library", soname));
  }
  if (context.facts.no_delete) context.note("no_delete", "is marked NODELETE");
  if (context.facts.init_first) context.note("init_first", "is marked INITFIRST");
}

void check_run_paths(const PreflightContext& context) {
  for (const std::string& paths : context.facts.run_paths) {
    for (std::size_t begin = 0; begin <= paths.size();) {
      const std::size_t end = std::min(paths.find(':', begin), paths.size());
      const std::string entry = paths.substr(begin, end - begin);
      begin = end + 1;
      if (is_origin_relative(entry)) continue;
      const std::string message =
          fmt::format("searches '{}' for libraries; link it without RPATH", entry);
      if (context.options.local_evidence) {
        context.warn("UnsafeElf", message);
      } else {
        context.error(ErrorCode::kUnsafeElf, message);
      }
    }
  }
}

void check_dependencies(const PreflightContext& context) {
  for (const std::string& soname : context.facts.needed) {
    const bool is_python =
        soname.rfind("libpython", 0) == 0 || soname.rfind("libtorch_python", 0) == 0;
    if (is_python || is_allowed_dependency(soname)) continue;
    const std::string message =
        fmt::format("needs {}, which published packages may not; link it statically", soname);
    if (context.options.strict) {
      context.error(ErrorCode::kUnexpectedDependency, message);
    } else {
      context.warn("UnexpectedDependency", message);
    }
  }
}

void check_shared_state(const PreflightContext& context) {
  std::vector<std::string> unique;
  for (const ElfFacts::Symbol& symbol : context.facts.defined) {
    if (symbol.unique) unique.push_back(symbol.name);
  }
  if (!unique.empty()) {
    context.note("unique_symbols",
                 fmt::format("{} symbols are shared between versions of a package (first: {}); "
                             "compile it with -fno-gnu-unique",
                             unique.size(), unique.front()));
  }
  constexpr std::uint64_t kSmallTls = 512;
  if (context.facts.static_tls_bytes > kSmallTls) {
    context.warn("StaticTls", fmt::format("needs {} bytes of static thread-local storage",
                                          context.facts.static_tls_bytes));
  }
}

void check_unwinder(const PreflightContext& context) {
  const auto imports = [&](std::string_view prefix) {
    return std::any_of(
        context.facts.undefined.begin(), context.facts.undefined.end(),
        [&](const ElfFacts::Symbol& s) { return s.name.compare(0, prefix.size(), prefix) == 0; });
  };
  // A static libgcc walks the loaded objects itself instead of importing _Unwind_*.
  const bool walks_objects = imports("dl_iterate_phdr") || imports("_dl_find_object");
  if (imports("__gxx_personality_v0") && walks_objects && !imports("_Unwind_")) {
    context.warn("PrivateUnwinder",
                 "carries its own exception unwinder, which ends the process at the first "
                 "exception; link it with -shared-libgcc");
  }
}

}  // namespace

void PreflightContext::error(ErrorCode code, std::string message) const {
  findings.push_back(
      {Finding::Severity::kError, std::string(error_code_name(code)), std::move(message)});
}

void PreflightContext::warn(std::string check, std::string message) const {
  findings.push_back({Finding::Severity::kWarning, std::move(check), std::move(message)});
}

void PreflightContext::note(std::string check, std::string message) const {
  findings.push_back({Finding::Severity::kNote, std::move(check), std::move(message)});
}

void check_file(const PreflightContext& context) {
  constexpr std::array kChecks = {check_memory,       check_tags,         check_run_paths,
                                  check_dependencies, check_shared_state, check_unwinder};
  for (const auto check : kChecks) check(context);
}

bool PreflightReport::ok() const noexcept {
  return std::none_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.severity == Finding::Severity::kError;
  });
}

PreflightReport preflight(int fd, const std::string& path, const PreflightOptions& options) {
  PreflightReport report;
  report.facts = read_elf(fd, path);
  const PreflightContext context{report.facts, options, report.findings};
  check_file(context);
  // Nothing is mapped for a file that is refused anyway.
  if (options.resolve_against_process && report.ok()) check_process(context);
  return report;
}

PreflightReport require_preflight(int fd, const std::string& path,
                                  const PreflightOptions& options) {
  PreflightReport report = preflight(fd, path, options);
  if (!report.ok()) throw loader_errors::preflight_failed(path, report.findings);
  return report;
}

}  // namespace kernelhub::loader
