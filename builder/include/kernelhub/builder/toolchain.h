// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace kernelhub::builder {

/// Where to look for tools; an empty path means "search".
struct ToolchainRequest {
  std::filesystem::path python;        // interpreter; else python3 on PATH
  std::filesystem::path torch_prefix;  // folder with include/ and lib/; else what Python has
  /// build.toml dependency name -> folder with its headers (--dep).
  std::map<std::string, std::filesystem::path> dependencies;
};

/// Compilers and frameworks of this machine. Absent ones are empty.
struct Toolchain {
  struct Nvcc {
    std::filesystem::path program;
    std::filesystem::path home;  // folder with include/ and lib64/
    MajorMinor version;
    std::string full_version;
  };
  struct Torch {
    std::filesystem::path prefix;
    MajorMinor version;
    std::string full_version;        // "2.11.0+cu130"
    std::optional<MajorMinor> cuda;  // toolkit it was built with
    bool importable = false;         // `python` imports this very prefix
  };
  struct TvmFfi {
    std::filesystem::path prefix;
    MajorMinor version;
    std::string full_version;
  };
  std::filesystem::path cxx, cc, ccache, python, python_include;
  std::string cxx_version;
  std::string cpu;  // x86_64 or aarch64
  std::optional<Nvcc> nvcc;
  std::optional<Torch> torch;
  std::optional<TvmFfi> tvm_ffi;
  std::filesystem::path abi_include;     // holds kernelhub/abi/package.h
  std::filesystem::path dlpack_include;  // holds dlpack/dlpack.h
  std::map<std::string, std::filesystem::path> dependencies;
};

/// Looks at the machine: starts compilers and Python for their versions, imports nothing.
/// Throws BuildError kToolchainMissing without a C++ compiler, kInvalidArgument for a folder or
/// interpreter in the request that is not one.
Toolchain detect_toolchain(const ToolchainRequest& request);

}  // namespace kernelhub::builder
