// SPDX-License-Identifier: Apache-2.0
#include "builder_errors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>

namespace kernelhub::builder::builder_errors {
namespace {

/// Joins lines below a headline; what() of a builder error may have several lines because compiler
/// output has.
std::string with_lines(std::string headline, const std::vector<std::string>& lines) {
  for (const std::string& line : lines) headline += "\n  " + line;
  return headline;
}

}  // namespace

BuildError invalid_build_toml(const std::filesystem::path& file,
                              const std::vector<Diagnostic>& findings) {
  std::vector<std::string> lines;
  for (const Diagnostic& finding : findings) {
    if (finding.severity == Diagnostic::Severity::kError) lines.push_back(finding.str());
  }
  return BuildError(
      ErrorCode::kBuildTomlInvalid,
      with_lines(fmt::format("{} has {} error(s)", file.string(), lines.size()), lines),
      "the keys are listed in docs/formats/build-toml.md");
}

BuildError invalid_toml(const std::filesystem::path& file, int line, std::string_view reason) {
  return BuildError(ErrorCode::kInvalidToml,
                    fmt::format("{}:{}: not valid TOML: {}", file.string(), line, reason));
}

BuildError unsupported_edition(const std::filesystem::path& file, std::string_view found) {
  return BuildError(ErrorCode::kUnsupportedEdition,
                    fmt::format("{}: found {}, supported are edition 5 and files of edition 4 "
                                "without the key `edition`",
                                file.string(), found),
                    "write the project in edition 5 (docs/formats/build-toml.md)");
}

BuildError missing_source(const std::filesystem::path& file, std::string_view listed_as) {
  return BuildError(
      ErrorCode::kBuildTomlInvalid,
      fmt::format("source file {} does not exist, listed in {}", file.string(), listed_as),
      "correct the path or remove it from build.toml");
}

BuildError source_outside(const std::filesystem::path& file, const std::filesystem::path& limit) {
  return BuildError(
      ErrorCode::kUnsafePath,
      fmt::format("source file {} lies outside {}", file.string(), limit.string()),
      "a project may list files of its own git work tree, or of its parent folder without git");
}

BuildError unsafe_source(const std::filesystem::path& file, std::string_view what) {
  return BuildError(ErrorCode::kUnsafePath,
                    fmt::format("cannot package {}: {}", file.string(), what));
}

BuildError stage_not_private(const std::filesystem::path& directory, std::string_view found) {
  return BuildError(ErrorCode::kUnsafePath,
                    fmt::format("the build stage {} is not private: {}", directory.string(), found),
                    fmt::format("look at it, then remove it: rm -r {}", directory.string()));
}

BuildError git_failed(const std::filesystem::path& directory, std::string_view reason) {
  return BuildError(
      ErrorCode::kIo,
      fmt::format("cannot read the git repository of {}: {}", directory.string(), reason),
      "repair it, or name the build yourself with --unique-id");
}

BuildError tool_missing(std::string_view tool, std::string_view needed_for, std::string_view hint) {
  return BuildError(ErrorCode::kToolchainMissing,
                    fmt::format("{} not found, needed for {}", tool, needed_for),
                    std::string(hint));
}

BuildError tool_failed(std::string_view tool, std::string_view output) {
  return BuildError(ErrorCode::kToolchainMissing, fmt::format("{} failed: {}", tool, output));
}

BuildError dependency_missing(std::string_view dependency, std::string_view component) {
  return BuildError(
      ErrorCode::kToolchainMissing,
      fmt::format("kernel.{} depends on {}, of which no folder is known", component, dependency),
      fmt::format("pass --dep {}=DIR, the folder with its headers", dependency));
}

BuildError bad_option(std::string_view option, std::string_view found, std::string_view expected) {
  return BuildError(ErrorCode::kInvalidArgument,
                    fmt::format("{}: found '{}', expected {}", option, found, expected));
}

BuildError no_common_archs(std::string_view component, const std::vector<std::string>& wanted,
                           const std::vector<std::string>& supported) {
  return BuildError(
      ErrorCode::kBuildTomlInvalid,
      fmt::format("kernel.{}: none of the cuda-capabilities {} can be built, supported are {}",
                  component, fmt::join(wanted, " "), fmt::join(supported, " ")),
      "add a supported capability to kernel." + std::string(component) + ".cuda-capabilities");
}

BuildError compile_failed(std::string_view variant, const std::vector<std::string>& labels,
                          const std::vector<std::string>& outputs) {
  std::string text = fmt::format("{}: compiling failed for {}", variant, fmt::join(labels, ", "));
  for (const std::string& output : outputs) text += "\n" + output;
  return BuildError(ErrorCode::kCompileFailed, text);
}

BuildError cancelled(std::string_view variant) {
  return BuildError(ErrorCode::kCancelled, fmt::format("{}: the build was cancelled", variant));
}

BuildError link_failed(std::string_view variant, std::string_view output) {
  return BuildError(ErrorCode::kCompileFailed,
                    fmt::format("{}: linking failed\n{}", variant, output));
}

BuildError check_failed(std::string_view variant, const std::vector<CheckFinding>& findings) {
  std::vector<std::string> lines;
  for (const CheckFinding& finding : findings) {
    if (finding.severity == CheckFinding::Severity::kError) lines.push_back(finding.str());
  }
  return BuildError(
      ErrorCode::kCheckFailed,
      with_lines(fmt::format("{}: {} check finding(s)", variant, lines.size()), lines),
      "the checks are described in docs/formats/build-toml.md");
}

BuildError import_failed(std::string_view variant, std::string_view how, std::string_view output) {
  return BuildError(
      ErrorCode::kImportTestFailed,
      fmt::format("{}: the built package does not load ({})\n{}", variant, how, output));
}

BuildError nothing_to_build(const std::filesystem::path& directory,
                            const std::vector<std::string>& reasons) {
  return BuildError(ErrorCode::kNothingToBuild,
                    with_lines(fmt::format("nothing to build in {}", directory.string()), reasons),
                    "loosen --backend and --variant, or install what the reasons name");
}

BuildError package_invalid(const std::filesystem::path& directory, std::string_view reason) {
  return BuildError(ErrorCode::kPackageInvalid, fmt::format("{}: {}", directory.string(), reason));
}

BuildError stale_digest(const std::filesystem::path& directory,
                        const std::vector<std::string>& differences) {
  return BuildError(
      ErrorCode::kStaleDigest,
      with_lines(fmt::format("{} differs from the digest in its metadata.json", directory.string()),
                 differences),
      "build it again with kernelhub build --force");
}

BuildError system_call_failed(std::string_view call, const std::filesystem::path& path,
                              int error_number) {
  return BuildError(ErrorCode::kIo,
                    fmt::format("{} {}: {}", call, path.string(), std::strerror(error_number)));
}

}  // namespace kernelhub::builder::builder_errors
