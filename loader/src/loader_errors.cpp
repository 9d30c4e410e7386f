// SPDX-License-Identifier: Apache-2.0
#include "loader_errors.h"

#include "kernelhub/core/core_errors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <system_error>

namespace kernelhub::loader_errors {
namespace {

using core_errors::facts_json;
using core_errors::printable;

constexpr std::string_view kDownloadAgain =
    "download the package again: kernelhub download <repo> --force";

std::string joined(const Names& names) { return fmt::format("{}", fmt::join(names, ", ")); }

/// "a, b, c and 4 more"
std::string shortened(const Names& names) {
  constexpr std::size_t kShown = 5;
  if (names.size() <= kShown) return joined(names);
  const Names first(names.begin(), names.begin() + kShown);
  return fmt::format("{} and {} more", joined(first), names.size() - kShown);
}

std::string text(std::string_view view) { return std::string(view); }

ErrorCode code_named(std::string_view name) {
  for (int value = static_cast<int>(ErrorCode::kNotElf);
       value <= static_cast<int>(ErrorCode::kNoBinary); ++value) {
    if (error_code_name(static_cast<ErrorCode>(value)) == name) {
      return static_cast<ErrorCode>(value);
    }
  }
  return ErrorCode::kUnsafeElf;
}

}  // namespace

LoadError not_elf(std::string_view path, std::string_view found) {
  std::string hint(kDownloadAgain);
  if (found == "a git-lfs pointer") hint = "fetch the file's content: git lfs pull";
  return LoadError(ErrorCode::kNotElf,
                   fmt::format("{}: expected an ELF shared library, found {}", path, found), hint,
                   facts_json({{"path", text(path)}, {"found", text(found)}}));
}

LoadError wrong_elf_class(std::string_view path, std::string_view found) {
  return LoadError(ErrorCode::kWrongElfClass,
                   fmt::format("{}: expected a 64-bit little-endian object, found {}", path, found),
                   "use a variant that was built for this machine",
                   facts_json({{"path", text(path)}, {"found", text(found)}}));
}

LoadError not_shared_library(std::string_view path, std::string_view found) {
  return LoadError(ErrorCode::kNotSharedLibrary,
                   fmt::format("{}: expected a shared library, found {}", path, found),
                   "link the package with -shared",
                   facts_json({{"path", text(path)}, {"found", text(found)}}));
}

LoadError truncated_elf(std::string_view path, std::string_view part, std::uint64_t need,
                        std::uint64_t have) {
  return LoadError(
      ErrorCode::kTruncatedElf,
      fmt::format("{}: {} ends at byte {}, but only {} bytes are there", path, part, need, have),
      text(kDownloadAgain),
      facts_json({{"path", text(path)},
                  {"segment", text(part)},
                  {"need", std::to_string(need)},
                  {"have", std::to_string(have)}}));
}

LoadError malformed_elf(std::string_view path, std::string_view part, std::string_view reason) {
  return LoadError(
      ErrorCode::kTruncatedElf, fmt::format("{}: {} is damaged: {}", path, part, reason),
      text(kDownloadAgain),
      facts_json({{"path", text(path)}, {"segment", text(part)}, {"reason", text(reason)}}));
}

LoadError preflight_failed(std::string_view path, const std::vector<loader::Finding>& findings) {
  const auto first = std::find_if(findings.begin(), findings.end(), [](const auto& finding) {
    return finding.severity == loader::Finding::Severity::kError;
  });
  Names all;
  for (const loader::Finding& finding : findings) {
    all.push_back(finding.check + ": " + finding.message);
  }
  return LoadError(code_named(first->check), fmt::format("{}: {}", path, first->message),
                   fmt::format("see every finding: kernelhub check {}", path),
                   facts_json({{"path", text(path)},
                               {"check", first->check},
                               {"findings", fmt::format("{}", fmt::join(all, "; "))}}));
}

LoadError ambiguous_package(const std::filesystem::path& directory, const Names& candidates) {
  return LoadError(
      ErrorCode::kAmbiguousPackage,
      fmt::format("{}: expected one shared library, or one named after the package's id; found {}",
                  directory.string(), joined(candidates)),
      "keep the library whose name is the id of metadata.json",
      facts_json({{"path", directory.string()}, {"candidates", joined(candidates)}}));
}

LoadError python_only(const std::filesystem::path& directory) {
  return LoadError(ErrorCode::kPythonOnly,
                   fmt::format("{}: a noarch variant holds Python code only", directory.string()),
                   "load it from Python: kernelhub.get_kernel",
                   facts_json({{"path", directory.string()}}));
}

LoadError no_binary(const std::filesystem::path& directory, std::string_view id) {
  return LoadError(ErrorCode::kNoBinary,
                   fmt::format("{}: found no shared library, expected {}.abi3.so or {}.so",
                               directory.string(), id, id),
                   text(kDownloadAgain),
                   facts_json({{"path", directory.string()}, {"id", text(id)}}));
}

LoadError python_required(std::string_view path, const Names& symbols) {
  return LoadError(ErrorCode::kPythonRequired,
                   fmt::format("{}: needs Python, which this process does not run: {}", path,
                               shortened(symbols)),
                   "load it from Python, or ask its author for a build without Python objects",
                   facts_json({{"path", text(path)}, {"symbols", joined(symbols)}}));
}

LoadError namespace_conflict(std::string_view op_namespace, std::string_view path,
                             std::string_view digest, std::string_view owner_path,
                             std::string_view owner_digest) {
  return LoadError(
      ErrorCode::kNamespaceConflict,
      fmt::format("{}: op namespace '{}' already belongs to {}, whose content differs or "
                  "may be changed by other users",
                  path, op_namespace, owner_path),
      "rebuild one of them under another id, or load them in two processes",
      facts_json({{"namespace", text(op_namespace)},
                  {"path", text(path)},
                  {"digest", text(digest)},
                  {"owner", text(owner_path)},
                  {"owner_digest", text(owner_digest)}}));
}

LoadError no_ops_registered(std::string_view path, std::string_view expected) {
  return LoadError(ErrorCode::kNoOpsRegistered,
                   fmt::format("{}: loaded, but it offers no {}", path, expected),
                   "rebuild the package with its op namespace equal to its file name",
                   facts_json({{"path", text(path)}, {"expected", text(expected)}}));
}

LoadError metadata_mismatch(std::string_view path, std::string_view field, std::string_view wanted,
                            std::string_view found) {
  return LoadError(ErrorCode::kMetadataMismatch,
                   fmt::format("{}: {} is '{}' in metadata.json and '{}' in the library", path,
                               field, printable(wanted), printable(found)),
                   "rebuild the package, so that both come from one build",
                   facts_json({{"path", text(path)},
                               {"field", text(field)},
                               {"wanted", text(wanted)},
                               {"found", text(found)}}));
}

LoadError identity_mismatch(std::string_view path, std::string_view mapped) {
  return LoadError(
      ErrorCode::kIdentityMismatch,
      fmt::format("{}: the dynamic linker mapped another file than the verified one: {}", path,
                  mapped),
      "do not replace package files while they load",
      facts_json({{"path", text(path)}, {"mapped", text(mapped)}}));
}

LoadError file_changed(std::string_view path, std::string_view what) {
  return LoadError(ErrorCode::kFileChanged,
                   fmt::format("{}: changed after it was verified ({})", path, what),
                   "do not write to package files while they load",
                   facts_json({{"path", text(path)}, {"changed", text(what)}}));
}

LoadError recursive_load(std::string_view path) {
  return LoadError(ErrorCode::kRecursiveLoad,
                   fmt::format("{}: its own initialisation asked to load it again", path), {},
                   facts_json({{"path", text(path)}}));
}

LoadError dlopen_failed(std::string_view path, std::string_view dlerror_text) {
  return LoadError(ErrorCode::kDlopenFailed, fmt::format("{}: {}", path, printable(dlerror_text)),
                   fmt::format("see every finding: kernelhub check {}", path),
                   facts_json({{"path", text(path)}, {"dlerror", text(dlerror_text)}}));
}

LoadError seal_failed(std::string_view path, std::string_view step, int error_number) {
  return LoadError(ErrorCode::kDlopenFailed,
                   fmt::format("{}: cannot make a sealed copy in memory: {}: {}", path, step,
                               std::generic_category().message(error_number)),
                   "free memory, or give the file and its folders to this user only",
                   facts_json({{"path", text(path)}, {"step", text(step)}}));
}

LoadError torch_bridge_missing(std::string_view path) {
  return LoadError(ErrorCode::kTorchBridgeMissing,
                   fmt::format("{}: a torch package, but this program has no torch support", path),
                   "link kernelhub::torch, or use a tvm-ffi variant of the package",
                   facts_json({{"path", text(path)}}));
}

LoadError tvm_ffi_mismatch(std::string_view library, std::string_view found,
                           std::string_view wanted) {
  return LoadError(
      ErrorCode::kTvmFfiMismatch,
      fmt::format("{}: expected tvm-ffi {}, found {}", library, wanted, found),
      "install that version of apache-tvm-ffi, or name its library in KERNELHUB_TVM_FFI_LIB",
      facts_json({{"library", text(library)}, {"found", text(found)}, {"wanted", text(wanted)}}));
}

LoadError attach_failed(std::string_view path, std::string_view kind, std::string_view message) {
  return LoadError(
      ErrorCode::kKernelFailed,
      fmt::format("{}: refused to attach to this host: {}: {}", path, kind, printable(message)), {},
      facts_json({{"path", text(path)}, {"kind", text(kind)}, {"message", text(message)}}));
}

LoadError kernel_failed(std::string_view package, std::string_view function, std::string_view kind,
                        std::string_view message, std::string_view backtrace) {
  return LoadError(ErrorCode::kKernelFailed,
                   fmt::format("{} of {}: {}: {}", function, package, kind, message), {},
                   facts_json({{"package", text(package)},
                               {"function", text(function)},
                               {"kind", text(kind)},
                               {"message", text(message)},
                               {"backtrace", text(backtrace)}}));
}

LoadError kernel_threw(std::string_view package, std::string_view function, std::string_view what) {
  return LoadError(
      ErrorCode::kKernelThrew,
      fmt::format("{} of {}: let a C++ exception out of a C function: {}", function, package,
                  printable(what)),
      "report it to the package's author: exceptions must become error codes there",
      facts_json({{"package", text(package)}, {"function", text(function)}, {"what", text(what)}}));
}

LoadError device_mismatch(std::string_view function, std::size_t argument, std::string_view wanted,
                          std::string_view found) {
  return LoadError(
      ErrorCode::kDeviceMismatch,
      fmt::format("{}: argument {}: expected a tensor on {}, found {}", function, argument, wanted,
                  found),
      "move all tensors of one call to one device",
      facts_json({{"function", text(function)}, {"wanted", text(wanted)}, {"found", text(found)}}));
}

LoadError op_not_found(std::string_view package, std::string_view name, const Names& near,
                       std::string_view kind) {
  const std::string hint = near.empty() ? std::string() : "did you mean " + joined(near);
  return LoadError(
      ErrorCode::kOpNotFound, fmt::format("{}: has no {} '{}'", package, kind, printable(name)),
      hint, facts_json({{"package", text(package)}, {"name", text(name)}, {"near", joined(near)}}));
}

LoadError result_type(std::string_view wanted, std::int32_t found) {
  return LoadError(ErrorCode::kInvalidArgument,
                   fmt::format("result of a call: expected {}, found type code {}", wanted, found),
                   {}, facts_json({{"wanted", text(wanted)}, {"found", std::to_string(found)}}));
}

}  // namespace kernelhub::loader_errors
