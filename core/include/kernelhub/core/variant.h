// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"
#include "kernelhub/core/export.h"

#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace kernelhub {

/// What a variant needs of the process, by grammar of the package spec (2.1).
struct TorchFramework {
  MajorMinor version;
  std::optional<std::string> cxx_abi;  // "cxx11" | "cxx98"
};
struct TorchStableFramework {
  MajorMinor abi;
};
struct TvmFfiFramework {
  MajorMinor version;
};
struct NoarchFramework {
  std::string name;  // backend name, "npu" or "universal"
};
using Framework =
    std::variant<TorchFramework, TorchStableFramework, TvmFfiFramework, NoarchFramework>;

/// Build flavour = directory name under build/, parsed.
class KERNELHUB_API Variant {
 public:
  /// Nothing for a name outside the grammar (such directories are skipped with a warning).
  static std::optional<Variant> parse(std::string_view directory_name);
  /// The directory name as given.
  const std::string& str() const noexcept { return text_; }
  const Framework& framework() const noexcept { return framework_; }
  /// Arch variants only.
  const std::optional<Backend>& backend() const noexcept { return backend_; }
  const std::string& cpu() const noexcept { return cpu_; }
  const std::string& os() const noexcept { return os_; }
  bool is_noarch() const noexcept { return std::holds_alternative<NoarchFramework>(framework_); }
  bool is_torch() const noexcept {
    return std::holds_alternative<TorchFramework>(framework_) ||
           std::holds_alternative<TorchStableFramework>(framework_);
  }

 private:
  std::string text_;
  Framework framework_;
  std::optional<Backend> backend_;
  std::string cpu_;
  std::string os_;
};

/// One line of a resolution trace: why a variant was chosen or not.
struct VariantDecision {
  std::string variant;
  bool accepted = false;
  /// Empty for accepted ones; else what differs, e.g. "torch 2.10, this process has 2.11".
  std::string reason;
};

}  // namespace kernelhub
