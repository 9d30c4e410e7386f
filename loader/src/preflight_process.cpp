// SPDX-License-Identifier: Apache-2.0
#include "elf_image.h"
#include "needed_libraries.h"
#include "preflight_checks.h"
#include "probe.h"
#include "shared_object.h"

#include "kernelhub/core/unique_fd.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <elf.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <optional>
#include <set>

namespace kernelhub::loader {
namespace {

std::string machine_name(std::uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86_64";
    case EM_AARCH64:
      return "aarch64";
    default:
      return fmt::format("machine {}", machine);
  }
}

#if defined(__aarch64__)
constexpr std::uint16_t kHostMachine = EM_AARCH64;
#else
constexpr std::uint16_t kHostMachine = EM_X86_64;
#endif

void check_machine(const PreflightContext& context) {
  if (context.facts.machine == kHostMachine) return;
  context.error(ErrorCode::kWrongArchitecture,
                fmt::format("was built for {}, this machine is {}",
                            machine_name(context.facts.machine), machine_name(kHostMachine)));
}

void check_isa(const PreflightContext& context) {
  const int have = x86_level();
  if (context.facts.x86_isa_level > have) {
    context.error(ErrorCode::kCpuIsaTooOld, fmt::format("needs x86-64-v{}, this CPU is x86-64-v{}",
                                                        context.facts.x86_isa_level, have));
  }
}

void check_glibc(const PreflightContext& context) {
  constexpr std::string_view kPrefix = "GLIBC_";
  const std::optional<MajorMinor> have = parse_major_minor(gnu_get_libc_version());
  std::optional<MajorMinor> need;
  for (const ElfFacts::VersionNeed& version : context.facts.version_needs) {
    if (version.version.compare(0, kPrefix.size(), kPrefix) != 0) continue;
    const auto wanted = parse_major_minor(std::string_view(version.version).substr(kPrefix.size()));
    if (wanted && (!need || *need < *wanted)) need = wanted;
  }
  if (need && have && *have < *need) {
    context.error(ErrorCode::kGlibcTooOld,
                  fmt::format("needs glibc {}, this system has {}", need->str(), have->str()));
  }
}

/// Versions that the mapped libstdc++ defines; read once, it is never unmapped.
const std::set<std::string>& libstdcxx_versions() {
  static const std::set<std::string> versions = [] {
    std::set<std::string> found;
    const std::optional<MappedObject> library = find_mapped_library("libstdc++.so.6");
    if (library) {
      const UniqueFd fd(open(library->path.c_str(), O_RDONLY | O_CLOEXEC));
      found = ElfImage(fd.get(), library->path).version_definitions();
    }
    return found;
  }();
  return versions;
}

void check_libstdcxx(const PreflightContext& context) {
  std::vector<std::string> missing;
  for (const ElfFacts::VersionNeed& need : context.facts.version_needs) {
    if (need.library != "libstdc++.so.6") continue;
    if (libstdcxx_versions().count(need.version) == 0) missing.push_back(need.version);
  }
  if (missing.empty()) return;
  context.error(ErrorCode::kLibstdcxxTooOld,
                fmt::format("needs {} of libstdc++, which this process's libstdc++ lacks",
                            fmt::join(missing, ", ")));
}

void check_python(const PreflightContext& context) {
  if (is_python_in_process()) return;
  std::vector<std::string> reasons = python_symbols_outside_init(context.facts);
  for (const std::string& soname : context.facts.needed) {
    if (is_python_library(soname)) reasons.push_back(soname);
  }
  if (reasons.empty()) return;
  const std::size_t count = reasons.size();
  if (count > 5) reasons.resize(5);
  context.error(
      ErrorCode::kPythonRequired,
      fmt::format("needs Python, which this process does not run: {}{}", fmt::join(reasons, ", "),
                  count > 5 ? fmt::format(" and {} more", count - 5) : ""));
}

void check_libraries(const PreflightContext& context) {
  const std::vector<UnresolvedLibrary> unresolved =
      map_needed_libraries(context.facts.needed, context.options.tvm_ffi_library);
  if (unresolved.empty()) return;
  std::vector<std::string> texts;
  for (const UnresolvedLibrary& library : unresolved) {
    texts.push_back(fmt::format("{} ({})", library.soname, library.reason));
  }
  context.error(ErrorCode::kMissingLibrary,
                fmt::format("needs libraries that are not here: {}", fmt::join(texts, "; ")));
}

void check_symbols(const PreflightContext& context) {
  const SymbolScope scope(context.facts.needed);
  const bool has_python = is_python_in_process();
  std::vector<std::string> missing;
  for (const ElfFacts::Symbol& symbol : context.facts.undefined) {
    if (symbol.weak || (!has_python && is_python_symbol(symbol.name))) continue;
    if (!scope.has(symbol.name, symbol.version)) missing.push_back(symbol.name);
  }
  if (!missing.empty()) {
    context.error(ErrorCode::kMissingSymbols, describe_missing_symbols(missing));
  }
}

bool has_errors(const PreflightContext& context) {
  return std::any_of(context.findings.begin(), context.findings.end(), [](const Finding& finding) {
    return finding.severity == Finding::Severity::kError;
  });
}

}  // namespace

void check_process(const PreflightContext& context) {
  constexpr std::array kChecks = {check_machine, check_isa, check_glibc, check_libstdcxx,
                                  check_python};
  for (const auto check : kChecks) check(context);
  if (has_errors(context)) return;
  check_libraries(context);
  if (!has_errors(context)) check_symbols(context);
}

}  // namespace kernelhub::loader
