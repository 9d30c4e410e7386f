// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "temp_directory.h"

#include "kernelhub/core/metadata.h"
#include "kernelhub/core/unique_fd.h"
#include "kernelhub/loader/kernel.h"
#include "kernelhub/trust/verifier.h"

#include <fcntl.h>
#include <filesystem>
#include <string>

namespace kernelhub {

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(KERNELHUB_FIXTURE_DIR) / (name + ".so");
}

inline UniqueFd open_file(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(fd) << path;
  return fd;
}

inline UniqueFd open_fixture(const std::string& name) { return open_file(fixture(name)); }

/// Metadata of a fixture whose descriptor says the same: "scale" 2 for _scale_cpu_v2.
inline Metadata fixture_metadata(const std::string& id) {
  Metadata metadata;
  metadata.name = id.substr(1, id.find('_', 1) - 1);
  metadata.id = id;
  metadata.version = id.back() == '2' ? 2 : 1;
  metadata.license = "MIT";
  return metadata;
}

/// A variant directory with one library, as a local package.
class FixturePackage {
 public:
  explicit FixturePackage(const std::string& id, const std::string& suffix = ".so")
      : FixturePackage(fixture(id), fixture_metadata(id), suffix) {}
  FixturePackage(const std::filesystem::path& library, Metadata metadata,
                 const std::string& suffix = ".so")
      : metadata_(std::move(metadata)) {
    std::filesystem::create_directories(directory());
    std::filesystem::copy_file(library, directory() / (metadata_.id + suffix));
    temp_.write(kVariant + std::string("/metadata.json"), metadata_.to_json());
  }

  std::filesystem::path directory() const { return temp_ / kVariant; }
  std::filesystem::path library() const { return directory() / (metadata_.id + ".so"); }
  Metadata& metadata() { return metadata_; }

  trust::VerifiedPackage verified() const {
    trust::Origin origin;
    origin.variant = kVariant;
    origin.directory = directory();
    trust::Decision decision;
    decision.allow = true;
    decision.used = {trust::Evidence::kLocal};
    return trust::verify_variant(origin, metadata_, {}, trust::TrustPolicy::defaults(), decision);
  }
  Package load(const PackageLoadOptions& options = {}) const {
    return load_package(verified(), options);
  }
  Kernel kernel(const PackageLoadOptions& options = {}) const { return Kernel(load(options), {}); }

 private:
  static constexpr const char* kVariant = "tvm-ffi01-cpu-x86_64-linux";
  TempDirectory temp_;
  Metadata metadata_;
};

}  // namespace kernelhub
