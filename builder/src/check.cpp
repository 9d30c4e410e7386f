// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/check.h"

#include "binary_checks.h"
#include "builder_errors.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/core/unique_fd.h"
#include "kernelhub/core/variant.h"
#include "kernelhub/loader/preflight.h"
#include "kernelhub/trust/verifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <string_view>
#include <unistd.h>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;
using Severity = CheckFinding::Severity;

constexpr const char* kDigestCheck = "digest";
constexpr std::string_view kElfMagic = "\177ELF";

UniqueFd open_file(const fs::path& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw builder_errors::system_call_failed("open", path, errno);
  return fd;
}

bool has_elf_magic(int fd) {
  char bytes[4] = {};
  return pread(fd, bytes, sizeof bytes, 0) == sizeof bytes &&
         std::string_view(bytes, sizeof bytes) == kElfMagic;
}

/// Regular files below `directory` in byte order, __pycache__ left out.
std::vector<fs::path> regular_files(const fs::path& directory) {
  std::vector<fs::path> files;
  for (auto entry = fs::recursive_directory_iterator(directory);
       entry != fs::recursive_directory_iterator(); ++entry) {
    if (entry->is_directory() && entry->path().filename() == "__pycache__") {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file()) {
      files.push_back(entry->path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

class DirectoryChecker {
 public:
  DirectoryChecker(const fs::path& directory, const CheckOptions& options)
      : directory_(directory),
        options_(options),
        variant_(parse_variant()),
        metadata_(read_metadata(directory)) {}

  std::vector<CheckFinding> run() {
    check_metadata();
    check_digest();
    bool has_binary = false;
    for (const fs::path& file : regular_files(directory_)) {
      const std::string name = file.lexically_relative(directory_).string();
      if (file.extension() == ".pyc") add(name, "content", "", "bytecode", "no bytecode");
      const UniqueFd fd = open_file(file);
      if (!has_elf_magic(fd.get())) continue;
      has_binary = true;
      check_elf(name, file, fd.get());
    }
    if (!has_binary && !variant_.is_noarch()) {
      add(".", "variant", "binary", "none", "a compiled extension");
    }
    if (options_.strict) {
      for (CheckFinding& finding : findings_) finding.severity = Severity::kError;
    }
    return std::move(findings_);
  }

 private:
  Variant parse_variant() const {
    const std::string name = options_.variant ? *options_.variant : directory_.filename().string();
    const std::optional<Variant> variant = Variant::parse(name);
    if (!variant) {
      throw builder_errors::package_invalid(directory_,
                                            fmt::format("'{}' is not a variant name", name));
    }
    return *variant;
  }

  void add(std::string file, std::string check, std::string symbol, std::string found,
           std::string allowed) {
    findings_.push_back({Severity::kError, std::move(file), std::move(check), std::move(symbol),
                         std::move(found), std::move(allowed)});
  }

  void check_metadata() {
    if (!is_package_id(metadata_.id) || metadata_.id.front() != '_') {
      add("metadata.json", "metadata", "id", metadata_.id,
          "'_', then letters, digits and '_', at most 128");
    }
    if (variant_.backend() && variant_.backend()->kind != metadata_.backend) {
      add("metadata.json", "variant", "backend.type", std::string(backend_name(metadata_.backend)),
          std::string(backend_name(variant_.backend()->kind)));
    }
    const std::string& named = metadata_.kernelhub ? metadata_.kernelhub->variant : variant_.str();
    if (named != variant_.str()) {
      add("metadata.json", "variant", "kernelhub.variant", named, variant_.str());
    }
    if (!fs::exists(directory_ / "__init__.py") &&
        !fs::exists(directory_ / python_name(metadata_.name) / "__init__.py")) {
      add("__init__.py", "content", "", "missing", "a Python entry point");
    }
  }

  void check_digest() {
    if (!metadata_.digest)
      return add("metadata.json", kDigestCheck, "digest", "missing", "present");
    const VariantDigest actual =
        trust::compute_variant_digest(directory_, metadata_.digest->algorithm);
    for (const std::string& difference : trust::compare_variant_digest(actual, *metadata_.digest)) {
      add("metadata.json", kDigestCheck, "", difference, "the recorded files");
    }
  }

  void check_elf(const std::string& name, const fs::path& file, int fd) {
    try {
      const loader::ElfFacts facts = loader::read_elf(fd, file.string());
      check_binary({name, file, facts, variant_, metadata_}, options_, findings_);
    } catch (const LoadError& error) {
      add(name, "elf", std::string(error_code_name(error.code())), error.what(),
          "a well-formed shared library");
    }
  }

  fs::path directory_;
  const CheckOptions& options_;
  Variant variant_;
  Metadata metadata_;
  std::vector<CheckFinding> findings_;
};

std::vector<fs::path> variants_in(const fs::path& folder) {
  std::vector<fs::path> variants;
  if (!fs::is_directory(folder)) return variants;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && fs::exists(entry.path() / "metadata.json") &&
        entry.path().filename().string().front() != '.') {
      variants.push_back(entry.path());
    }
  }
  std::sort(variants.begin(), variants.end());
  return variants;
}

}  // namespace

std::string CheckFinding::str() const {
  std::string text = fmt::format("{}: {}: ", file, check);
  if (!symbol.empty()) text += symbol + ": ";
  text += fmt::format("found {}, allowed {}", found, allowed);
  return severity == Severity::kWarning ? "warning: " + text : text;
}

std::vector<CheckFinding> check_variant(const fs::path& directory, const CheckOptions& options) {
  if (!fs::is_directory(directory)) {
    throw builder_errors::package_invalid(directory, "no such folder");
  }
  return DirectoryChecker(fs::canonical(directory), options).run();
}

Metadata read_metadata(const fs::path& variant_directory) {
  const fs::path file = variant_directory / "metadata.json";
  if (!fs::is_regular_file(file)) {
    throw builder_errors::package_invalid(variant_directory,
                                          "no metadata.json, not a variant directory");
  }
  return Metadata::parse(read_file(file), file.string());
}

std::vector<fs::path> find_variants(const fs::path& directory) {
  for (const fs::path& folder : {directory / "result", directory / "build", directory}) {
    std::vector<fs::path> variants = variants_in(folder);
    if (!variants.empty()) return variants;
  }
  if (fs::exists(directory / "metadata.json")) return {fs::canonical(directory)};
  throw builder_errors::package_invalid(
      directory, "no variant directory in result/, build/ or the folder itself");
}

void require_clean(const fs::path& directory, const CheckOptions& options) {
  const std::vector<CheckFinding> findings = check_variant(directory, options);
  std::vector<std::string> differences;
  for (const CheckFinding& finding : findings) {
    if (finding.check == kDigestCheck) differences.push_back(finding.found);
  }
  if (!differences.empty()) throw builder_errors::stale_digest(directory, differences);
  if (has_errors(findings)) {
    throw builder_errors::check_failed(directory.filename().string(), findings);
  }
}

bool has_errors(const std::vector<CheckFinding>& findings) noexcept {
  return std::any_of(findings.begin(), findings.end(), [](const CheckFinding& finding) {
    return finding.severity == Severity::kError;
  });
}

}  // namespace kernelhub::builder
