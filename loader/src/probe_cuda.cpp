// SPDX-License-Identifier: Apache-2.0
#include "probe.h"
#include "shared_object.h"

#include "kernelhub/core/error.h"
#include "kernelhub/loader/mapped_symbol.h"

#include <array>
#include <string_view>
#include <system_error>

namespace kernelhub::loader {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDriver = "libcuda.so.1";
// CUdevice_attribute values of the driver API.
constexpr int kCapabilityMajor = 75;
constexpr int kCapabilityMinor = 76;

/// CUDA packs versions as 1000 * major + 10 * minor.
std::optional<MajorMinor> unpack(int version) {
  if (version <= 0) return std::nullopt;
  return MajorMinor{version / 1000, version % 1000 / 10};
}

/// Maps the driver's library once; false where there is none.
bool has_driver() {
  static const bool found = [] {
    if (find_mapped_library(kDriver)) return true;
    for (const fs::path& directory : trusted_directories("", environment_directories())) {
      std::error_code error;
      if (!fs::exists(directory / kDriver, error)) continue;
      try {
        map_library(directory / kDriver);
        return true;
      } catch (const LoadError&) {
        return false;  // a driver package without its kernel module: the same as no driver
      }
    }
    return false;
  }();
  return found;
}

template <class... Args>
bool call_driver(const char* name, Args... args) {
  using Function = int (*)(Args...);
  const auto function = reinterpret_cast<Function>(mapped_symbol(kDriver, name));
  return function != nullptr && function(args...) == 0;
}

std::optional<MajorMinor> runtime_version_of(std::string_view soname) {
  using Function = int (*)(int*);
  const auto function = reinterpret_cast<Function>(mapped_symbol(soname, "cudaRuntimeGetVersion"));
  int version = 0;
  if (function == nullptr || function(&version) != 0) return std::nullopt;
  return unpack(version);
}

}  // namespace

std::optional<MajorMinor> cuda_driver_version() {
  int version = 0;
  if (!has_driver() || !call_driver("cuDriverGetVersion", &version)) return std::nullopt;
  return unpack(version);
}

std::vector<MajorMinor> cuda_devices() {
  std::vector<MajorMinor> devices;
  int count = 0;
  if (!has_driver() || !call_driver("cuInit", 0u) || !call_driver("cuDeviceGetCount", &count)) {
    return devices;
  }
  for (int device = 0; device < count; ++device) {
    MajorMinor capability;
    if (call_driver("cuDeviceGetAttribute", &capability.major, kCapabilityMajor, device) &&
        call_driver("cuDeviceGetAttribute", &capability.minor, kCapabilityMinor, device)) {
      devices.push_back(capability);
    }
  }
  return devices;
}

std::optional<MajorMinor> cuda_runtime_version() {
  constexpr std::array kSonames = {"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"};
  for (const char* soname : kSonames) {
    if (find_mapped_library(soname)) return runtime_version_of(soname);
  }
  for (const char* soname : kSonames) {
    for (const fs::path& directory : trusted_directories("", environment_directories())) {
      std::error_code error;
      if (!fs::exists(directory / soname, error)) continue;
      map_library(directory / soname);
      return runtime_version_of(soname);
    }
  }
  return std::nullopt;
}

}  // namespace kernelhub::loader
