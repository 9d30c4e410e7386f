// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"

#include <optional>
#include <string>
#include <vector>

namespace kernelhub {

/// Facts of the running process and machine that decide which variant fits. Plain data: probing
/// fills it (loader/system.h), tests write it by hand.
struct SystemInfo {
  std::string cpu = "x86_64";  // x86_64 | aarch64
  std::string os = "linux";
  Backend backend;                        // detected backend
  std::optional<MajorMinor> torch;        // major.minor of the mapped (or named) torch
  std::optional<bool> torch_cxx11_abi;    // torch's C++11 ABI flag
  std::string torch_library_dir;          // folder of libtorch_cpu.so, empty if none
  std::optional<MajorMinor> tvm_ffi;      // libtvm_ffi mapped or found, else the loader's own 0.1
  std::optional<MajorMinor> cuda_driver;  // nothing: no driver
  std::vector<MajorMinor> cuda_devices;   // compute capability per visible device
  std::string glibc;                      // "2.36"
  int x86_level = 1;                      // x86-64-v<level>, 0 elsewhere
  bool python_in_process = false;
};

}  // namespace kernelhub
