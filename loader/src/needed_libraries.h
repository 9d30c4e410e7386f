// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace kernelhub::loader {

/// A DT_NEEDED that could not be mapped, and why.
struct UnresolvedLibrary {
  std::string soname;
  std::string reason;
};

/// Maps each library of `needed` that is not mapped yet, by absolute path: from the folder of the
/// mapped libtorch_cpu.so, from torch's own RPATH folders, from the system's folders; libtvm_ffi.so
/// from `tvm_ffi_library` or beside this library. A copy found through LD_LIBRARY_PATH is never
/// taken (trust spec T14). Without Python in the process, libtorch_python.so is an empty library
/// (loader spec P5). Throws kTvmFfiMismatch.
std::vector<UnresolvedLibrary> map_needed_libraries(const std::vector<std::string>& needed,
                                                    const std::filesystem::path& tvm_ffi_library);

/// `libpython3.11.so.1.0` and the like.
bool is_python_library(const std::string& soname);
/// Python runs in this process, or may: its symbols are in the global scope.
bool is_python_in_process() noexcept;

}  // namespace kernelhub::loader
