// SPDX-License-Identifier: Apache-2.0
#include "binary_checks.h"

#include "abi_policy.h"
#include "cuda_binary.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cxxabi.h>
#include <elf.h>
#include <map>
#include <memory>
#include <set>

namespace kernelhub::builder {
namespace {

using Severity = CheckFinding::Severity;

/// Libraries a kernel may need (package spec 7), by the part before ".so".
constexpr std::array<std::string_view, 18> kPlainLibraries = {"libtorch",
                                                              "libtorch_cpu",
                                                              "libtorch_cuda",
                                                              "libc10",
                                                              "libc10_cuda",
                                                              "libgomp",
                                                              "libtvm_ffi",
                                                              "libc",
                                                              "libm",
                                                              "libdl",
                                                              "libpthread",
                                                              "librt",
                                                              "libmvec",
                                                              "libresolv",
                                                              "libstdc++",
                                                              "libgcc_s",
                                                              "ld-linux-x86-64",
                                                              "ld-linux-aarch64"};
constexpr std::array<std::string_view, 18> kCudaLibraries = {
    "libcudart", "libcuda",       "libcublas",   "libcublasLt",   "libcudnn",      "libcufft",
    "libcurand", "libcusolver",   "libcusparse", "libcusparseLt", "libnvrtc",      "libnvJitLink",
    "libnccl",   "libnvToolsExt", "libcupti",    "libcufile",     "libtorch_cuda", "libc10_cuda"};

std::string_view stem(std::string_view soname) { return soname.substr(0, soname.find(".so")); }

template <std::size_t N>
bool is_one_of(std::string_view text, const std::array<std::string_view, N>& list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::string demangled(const std::string& symbol) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status), std::free);
  return status == 0 && text ? text.get() : symbol;
}

class BinaryChecker {
 public:
  BinaryChecker(const CheckedBinary& binary, const CheckOptions& options,
                std::vector<CheckFinding>& findings)
      : binary_(binary), facts_(binary.facts), options_(options), findings_(findings) {}

  void run() {
    check_manylinux();
    check_python();
    check_torch();
    check_identity();
    check_needed();
    check_run_paths();
    check_memory();
    check_unique();
    check_exports();
    if (is_cuda()) check_cubins();
  }

 private:
  bool is_cuda() const { return binary_.metadata.backend == BackendKind::kCuda; }

  void add(std::string check, std::string symbol, std::string found, std::string allowed,
           Severity severity = Severity::kError) {
    findings_.push_back({severity, binary_.file, std::move(check), std::move(symbol),
                         std::move(found), std::move(allowed)});
  }

  void check_manylinux() {
    std::map<std::string, std::vector<std::string>> symbols;
    for (const loader::ElfFacts::VersionNeed& need : facts_.version_needs) symbols[need.version];
    for (const loader::ElfFacts::Symbol& symbol : facts_.undefined) {
      if (!symbol.version.empty()) symbols[symbol.version].push_back(symbol.name);
    }
    for (const auto& [version, names] : symbols) {
      const VersionVerdict verdict =
          manylinux_verdict(options_.manylinux, binary_.variant.cpu(), version);
      if (verdict.allowed) continue;
      add("manylinux", fmt::format("{}", fmt::join(names, " ")), version,
          "up to " + verdict.newest_allowed);
    }
  }

  void check_python() {
    for (const loader::ElfFacts::Symbol& symbol : facts_.undefined) {
      if (!starts_with(symbol.name, "Py") && !starts_with(symbol.name, "_Py")) continue;
      const std::optional<MajorMinor> added = python_abi_added(symbol.name);
      const std::string allowed = "the stable ABI of Python " + options_.python_abi.str();
      if (!added)
        add("python-abi", symbol.name, "not in the stable ABI", allowed);
      else if (options_.python_abi < *added)
        add("python-abi", symbol.name, "in it since " + added->str(), allowed);
    }
  }

  std::optional<MajorMinor> torch_target() const {
    if (options_.torch_stable_abi) return options_.torch_stable_abi;
    const auto* stable = std::get_if<TorchStableFramework>(&binary_.variant.framework());
    return stable ? std::optional(stable->abi) : std::nullopt;
  }

  void check_torch() {
    const std::optional<MajorMinor> target = torch_target();
    if (!target) return;
    for (const loader::ElfFacts::Symbol& symbol : facts_.undefined) {
      if (starts_with(symbol.name, "aoti_torch_") || starts_with(symbol.name, "torch_")) {
        check_shim(symbol.name, *target);
      } else if (starts_with(symbol.name, "_Z")) {
        check_mangled(symbol.name);
      }
    }
  }

  void check_shim(const std::string& function, MajorMinor target) {
    const std::optional<MajorMinor> added = torch_shim_added(function);
    const std::string allowed = "torch stable ABI " + target.str();
    if (!added && !(newest_shim_version() < target)) {
      add("torch-stable-abi", function,
          fmt::format("not in the C shim up to torch {}", newest_shim_version().str()), allowed);
    } else if (added && target < *added) {
      add("torch-stable-abi", function, "in the C shim since torch " + added->str(), allowed);
    }
  }

  void check_mangled(const std::string& symbol) {
    std::string name = demangled(symbol);
    for (std::string_view prefix : {"typeinfo for ", "typeinfo name for ", "vtable for ",
                                    "guard variable for ", "VTT for "}) {
      if (starts_with(name, prefix)) name.erase(0, prefix.size());
    }
    const bool internal = starts_with(name, "c10::") || starts_with(name, "at::") ||
                          (starts_with(name, "torch::") && !starts_with(name, "torch::stable::"));
    if (internal) {
      add("torch-stable-abi", name, "a C++ symbol of libtorch", "torch::stable:: and the C shim");
    }
  }

  /// Machine, file name, id and entry point say the same.
  void check_identity() {
    const std::uint16_t wanted = binary_.variant.cpu() == "aarch64" ? EM_AARCH64 : EM_X86_64;
    if (facts_.machine != wanted) {
      add("variant", "machine", std::to_string(facts_.machine),
          fmt::format("{} ({})", wanted, binary_.variant.cpu()));
    }
    const std::string& id = binary_.metadata.id;
    const bool torch = binary_.variant.is_torch();
    const std::string name = id + (torch ? ".abi3.so" : ".so");
    if (binary_.file != name) add("variant", "file name", binary_.file, name);
    if (!torch) return;
    const std::string init = "PyInit_" + id;
    const bool exported =
        std::any_of(facts_.defined.begin(), facts_.defined.end(),
                    [&](const loader::ElfFacts::Symbol& symbol) { return symbol.name == init; });
    if (!exported) add("variant", init, "not exported", "exported");
  }

  void check_needed() {
    bool cuda_library = false;
    for (const std::string& soname : facts_.needed) {
      const std::string_view name = stem(soname);
      const bool cuda = is_one_of(name, kCudaLibraries);
      cuda_library |= cuda;
      if (name == "libtorch_python" || starts_with(name, "libpython")) {
        add("needed", soname, "ties the kernel to one Python", "none");
      } else if (cuda && !is_cuda()) {
        add("variant", soname, "a CUDA library",
            "none in a variant for " + std::string(backend_name(binary_.metadata.backend)));
      } else if (!cuda && !is_one_of(name, kPlainLibraries)) {
        add("needed", soname, "a library that hosts do not promise",
            "torch, CUDA, libgomp, "
            "libtvm_ffi, glibc, libstdc++, libgcc_s");
      }
      if (name == "libcudart") check_cudart(soname);
    }
    if (is_cuda() && !cuda_library) {
      add("variant", "NEEDED", "no CUDA library", "libcudart", Severity::kWarning);
    }
  }

  void check_cudart(const std::string& soname) {
    const std::optional<Backend>& backend = binary_.variant.backend();
    if (!backend || !backend->version) return;
    const std::string wanted = fmt::format("libcudart.so.{}", backend->version->major);
    if (soname != wanted) add("variant", "libcudart", soname, wanted);
  }

  void check_run_paths() {
    for (const std::string& path : facts_.run_paths) {
      const bool inside = (path == "$ORIGIN" || starts_with(path, "$ORIGIN/")) &&
                          path.find("..") == std::string::npos;
      if (!inside) add("rpath", "RPATH", path, "none, or $ORIGIN inside the variant");
    }
    if (facts_.no_delete) add("rpath", "NODELETE", "set", "not set");
    if (facts_.init_first) add("rpath", "INITFIRST", "set", "not set");
    for (const std::string& tag : facts_.unsafe_tags) add("rpath", tag, "set", "not set");
  }

  void check_memory() {
    if (facts_.has_text_relocations) add("memory", "TEXTREL", "set", "not set");
    if (!facts_.gnu_stack_present) add("memory", "GNU_STACK", "absent", "present");
    if (facts_.executable_stack) add("memory", "GNU_STACK", "executable", "not executable");
    if (!facts_.relro) add("memory", "GNU_RELRO", "absent", "present");
    if (facts_.writable_executable_segment) {
      add("memory", "segment", "writable and executable", "one of them");
    }
  }

  void check_unique() {
    for (const auto* symbols : {&facts_.defined, &facts_.undefined}) {
      for (const loader::ElfFacts::Symbol& symbol : *symbols) {
        if (!symbol.unique) continue;
        add("unique-symbols", demangled(symbol.name), "STB_GNU_UNIQUE",
            "none (compile with -fno-gnu-unique)");
      }
    }
  }

  void check_exports() {
    for (const loader::ElfFacts::Symbol& symbol : facts_.defined) {
      const std::string_view name = symbol.name;
      const bool entry = name == "PyInit_" + binary_.metadata.id ||
                         starts_with(name, "__tvm_ffi_") || name == "kernelhub_package_v1";
      const bool type_data =
          symbol.weak &&
          (starts_with(name, "_ZTI") || starts_with(name, "_ZTS") || starts_with(name, "_ZTV"));
      if (entry || type_data) continue;
      add("exports", demangled(symbol.name), "exported",
          "only entry points (compile with -fvisibility=hidden)", Severity::kWarning);
    }
  }

  void check_cubins() {
    const std::optional<std::set<std::string>> embedded = embedded_cuda_archs(binary_.path);
    const std::vector<std::string>& claimed = binary_.metadata.archs;
    const std::string wanted = fmt::format("{}", fmt::join(claimed, " "));
    if (!embedded) {
      add("variant", "cubins", "not checked, cuobjdump is not on PATH", wanted, Severity::kWarning);
    } else if (*embedded != std::set<std::string>(claimed.begin(), claimed.end())) {
      add("variant", "cubins", fmt::format("{}", fmt::join(*embedded, " ")), wanted);
    }
  }

  const CheckedBinary& binary_;
  const loader::ElfFacts& facts_;
  const CheckOptions& options_;
  std::vector<CheckFinding>& findings_;
};

}  // namespace

void check_binary(const CheckedBinary& binary, const CheckOptions& options,
                  std::vector<CheckFinding>& findings) {
  BinaryChecker(binary, options, findings).run();
}

}  // namespace kernelhub::builder
