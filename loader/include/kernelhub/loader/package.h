// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/trust/verifier.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub {

/// How the bytes reach dlopen (loader spec 5). kAuto: kFd, or kSealed where the policy, foreign
/// write access or a python-weak patch asks for it.
enum class LoadMode : std::uint8_t { kAuto, kFd, kSealed };

struct OpInfo {
  std::string name;  // without namespace, "gelu_fast"
  std::string overload;
  std::string schema;  // torch schema string; empty for tvm-ffi functions without metadata
};

struct PackageInfo {
  Metadata metadata;
  std::string op_namespace;  // torch: metadata id or file stem; tvm-ffi: id
  enum class Framework : std::uint8_t { kTorch, kTvmFfi } framework = Framework::kTorch;
  trust::Origin origin;
  std::filesystem::path binary;  // real path of the shared object
  Digest binary_digest;          // SHA-256
  std::string load_mode;         // "fd" | "sealed"
  bool python_weak = false;      // Python references were weakened (loader spec P3)
  bool attached = false;         // was already mapped by somebody else
  std::vector<std::string> warnings;
};

/// Cheap handle of one loaded package; keeps it mapped. Thread-safe.
class KERNELHUB_API Package {
 public:
  const PackageInfo& info() const noexcept;
  std::vector<OpInfo> ops() const;
  bool is_mapped() const;
  friend bool operator==(const Package& a, const Package& b) { return a.state_ == b.state_; }

 private:
  friend class PackageRegistry;
  friend class Kernel;
  friend class Function;
  struct State;
  explicit Package(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

struct PackageLoadOptions {
  LoadMode mode = LoadMode::kAuto;
  bool require_sealed = false;
  bool local_evidence = false;
  std::filesystem::path tvm_ffi_library;  // libtvm_ffi.so to map when a package needs one
};

/// Preflight, dlopen by descriptor and registration of a verified package: the same binary digest
/// gives the same Package; concurrent callers wait for one load; failures are not cached.
/// Throws LoadError (preflight codes, kNamespaceConflict, kPythonRequired, kDlopenFailed,
/// kNoOpsRegistered, kAmbiguousPackage, kPythonOnly, kTorchBridgeMissing, kMetadataMismatch, ...).
KERNELHUB_API Package load_package(trust::VerifiedPackage package,
                                   const PackageLoadOptions& options = {});

/// The package already loaded from this variant directory (device and inode), if any; no I/O but
/// one stat.
KERNELHUB_API std::optional<Package> find_loaded(const std::filesystem::path& variant_directory);

/// One per loaded package, dependencies included; a snapshot.
KERNELHUB_API std::vector<Package> get_loaded_kernels();

}  // namespace kernelhub
