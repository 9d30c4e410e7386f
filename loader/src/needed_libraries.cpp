// SPDX-License-Identifier: Apache-2.0
#include "needed_libraries.h"

#include "empty_library.h"
#include "shared_object.h"
#include "tvm_ffi_library.h"

#include "kernelhub/core/error.h"

#include <fmt/format.h>

#include <optional>
#include <system_error>

namespace kernelhub::loader {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTorchPython = "libtorch_python.so";
constexpr const char* kSystemDirectories[] = {
    "/lib64",
    "/usr/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/cuda/lib64",
};

class NeededLibraries {
 public:
  NeededLibraries() : environment_(environment_directories()) {
    constexpr const char* kTorch = "libtorch_cpu.so";
    if (const std::optional<MappedObject> torch = find_mapped_library(kTorch)) {
      trusted_.push_back(fs::path(torch->path).parent_path());
      const std::vector<fs::path> own = trusted_directories(kTorch, environment_);
      trusted_.insert(trusted_.end(), own.begin(), own.end());
    }
    const std::vector<fs::path> program = trusted_directories("", environment_);
    trusted_.insert(trusted_.end(), program.begin(), program.end());
  }

  /// Empty text: mapped.
  std::string map(const std::string& soname) const {
    try {
      for (const fs::path& directory : trusted_) {
        if (!exists_in(directory, soname)) continue;
        map_library(directory / soname);
        return {};
      }
      for (const fs::path& directory : environment_) {
        if (exists_in(directory, soname)) {
          return fmt::format("only LD_LIBRARY_PATH has it ({}), which is not trusted",
                             (directory / soname).string());
        }
      }
      if (environment_.empty()) {
        map_library(soname);  // by the dynamic linker's cache
        return {};
      }
      // The linker would search the environment's folders first, also relative ones and their
      // glibc-hwcaps, so the system's are searched here.
      for (const char* directory : kSystemDirectories) {
        if (!exists_in(directory, soname)) continue;
        map_library(fs::path(directory) / soname);
        return {};
      }
      return "no system folder has it, and LD_LIBRARY_PATH is not searched";
    } catch (const LoadError& error) {
      return error.what();
    }
  }

 private:
  static bool exists_in(const fs::path& directory, const std::string& soname) {
    std::error_code error;
    return directory.is_absolute() && fs::exists(directory / soname, error);
  }

  std::vector<fs::path> environment_;
  std::vector<fs::path> trusted_;
};

}  // namespace

bool is_python_library(const std::string& soname) { return soname.rfind("libpython", 0) == 0; }

bool is_python_in_process() noexcept { return process_symbol("Py_IsInitialized") != nullptr; }

std::vector<UnresolvedLibrary> map_needed_libraries(const std::vector<std::string>& needed,
                                                    const fs::path& tvm_ffi_library) {
  std::vector<UnresolvedLibrary> unresolved;
  std::optional<NeededLibraries> libraries;
  for (const std::string& soname : needed) {
    if (find_mapped_library(soname)) continue;
    if (soname.find('/') != std::string::npos) {
      unresolved.push_back({soname, "packages are loaded by descriptor and have no siblings"});
      continue;
    }
    if (soname == kTvmFfiSoname) {
      map_tvm_ffi_library(tvm_ffi_library);
      if (!find_mapped_library(soname)) {
        unresolved.push_back({soname, "install apache-tvm-ffi or set KERNELHUB_TVM_FFI_LIB"});
      }
      continue;
    }
    if (soname == kTorchPython && !is_python_in_process()) {
      map_library(empty_torch_python(), kTorchPython);
      continue;
    }
    if (!libraries) libraries.emplace();
    std::string reason = libraries->map(soname);
    if (!reason.empty()) unresolved.push_back({soname, std::move(reason)});
  }
  return unresolved;
}

}  // namespace kernelhub::loader
