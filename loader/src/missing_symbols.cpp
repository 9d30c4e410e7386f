// SPDX-License-Identifier: Apache-2.0
#include "preflight_checks.h"
#include "probe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cxxabi.h>
#include <map>
#include <memory>
#include <optional>

namespace kernelhub::loader {
namespace {

// Used by PyInit alone, which nothing calls without Python.
constexpr std::array<std::string_view, 3> kInitOnly = {"PyModule_Create2", "PyModuleDef_Init",
                                                       "PyModule_FromDefAndSpec2"};

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::string demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? std::string(text.get()) : name;
}

/// What would bring a symbol; empty when its name tells nothing.
std::string provider_of(const std::string& name, const std::string& readable) {
  if (is_python_symbol(name)) return "needs Python";
  if (starts_with(readable, "c10::") || starts_with(readable, "at::") ||
      starts_with(readable, "torch::") || readable.find(" c10::") != std::string::npos) {
    const std::optional<MajorMinor> running = mapped_torch_version();
    return running ? fmt::format("was built for another torch than the running {}", running->str())
                   : "needs torch, which this process has not mapped";
  }
  if (starts_with(name, "torch_") || starts_with(name, "aoti_torch_")) {
    const std::optional<MajorMinor> since = shim_introduced_in(name);
    return since ? fmt::format("needs torch {} or newer", since->str())
                 : "needs the C shim of torch";
  }
  if (starts_with(name, "TVMFFI")) return "needs a newer tvm-ffi";
  if (starts_with(name, "cu") || starts_with(name, "nv")) return "needs a CUDA library";
  if (starts_with(name, "hip")) return "needs a ROCm library";
  return "";
}

}  // namespace

bool is_python_symbol(std::string_view name) {
  return starts_with(name, "Py") || starts_with(name, "_Py");
}

bool is_init_only_python_symbol(std::string_view name) {
  return starts_with(name, "PyModule_Add") ||
         std::find(kInitOnly.begin(), kInitOnly.end(), name) != kInitOnly.end();
}

std::vector<std::string> python_symbols_outside_init(const ElfFacts& facts) {
  std::vector<std::string> names;
  for (const ElfFacts::Symbol& symbol : facts.undefined) {
    if (!symbol.weak && is_python_symbol(symbol.name) && !is_init_only_python_symbol(symbol.name)) {
      names.push_back(symbol.name);
    }
  }
  return names;
}

std::string describe_missing_symbols(const std::vector<std::string>& names) {
  std::map<std::string, std::vector<std::string>> groups;
  for (const std::string& name : names) {
    std::string readable = demangled(name);
    std::string provider = provider_of(name, readable);
    groups[std::move(provider)].push_back(std::move(readable));
  }
  std::vector<std::string> parts;
  for (const auto& [provider, symbols] : groups) {
    parts.push_back(fmt::format("{}{} (first: {})", symbols.size(),
                                provider.empty() ? "" : ", " + provider, symbols.front()));
  }
  return fmt::format("needs {} symbols that this process lacks: {}", names.size(),
                     fmt::join(parts, "; "));
}

}  // namespace kernelhub::loader
