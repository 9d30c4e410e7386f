// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/core/export.h"
#include "kernelhub/loader/preflight.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

/// Every error text of the loader and of torch_bridge, made from facts.
namespace kernelhub::loader_errors {

using Names = std::vector<std::string>;

/// `found`: what the bytes look like ("a git-lfs pointer", "a HTML page", ...).
LoadError not_elf(std::string_view path, std::string_view found);
LoadError wrong_elf_class(std::string_view path, std::string_view found);
LoadError not_shared_library(std::string_view path, std::string_view found);
/// `need` and `have` are file offsets in bytes.
LoadError truncated_elf(std::string_view path, std::string_view part, std::uint64_t need,
                        std::uint64_t have);
LoadError malformed_elf(std::string_view path, std::string_view part, std::string_view reason);
/// The first error finding of a report; all of them are in details().
LoadError preflight_failed(std::string_view path, const std::vector<loader::Finding>& findings);

LoadError ambiguous_package(const std::filesystem::path& directory, const Names& candidates);
LoadError python_only(const std::filesystem::path& directory);
LoadError no_binary(const std::filesystem::path& directory, std::string_view id);
LoadError python_required(std::string_view path, const Names& symbols);
LoadError namespace_conflict(std::string_view op_namespace, std::string_view path,
                             std::string_view digest, std::string_view owner_path,
                             std::string_view owner_digest);
LoadError no_ops_registered(std::string_view path, std::string_view expected);
LoadError metadata_mismatch(std::string_view path, std::string_view field, std::string_view wanted,
                            std::string_view found);
LoadError identity_mismatch(std::string_view path, std::string_view mapped);
LoadError file_changed(std::string_view path, std::string_view what);
LoadError recursive_load(std::string_view path);
LoadError dlopen_failed(std::string_view path, std::string_view text);
LoadError seal_failed(std::string_view path, std::string_view step, int error_number);
LoadError torch_bridge_missing(std::string_view path);
LoadError tvm_ffi_mismatch(std::string_view library, std::string_view found,
                           std::string_view wanted);
LoadError attach_failed(std::string_view path, std::string_view kind, std::string_view message);
LoadError kernel_failed(std::string_view package, std::string_view function, std::string_view kind,
                        std::string_view message, std::string_view backtrace);
LoadError kernel_threw(std::string_view package, std::string_view function, std::string_view what);
LoadError device_mismatch(std::string_view function, std::size_t argument, std::string_view wanted,
                          std::string_view found);
LoadError op_not_found(std::string_view package, std::string_view name, const Names& near,
                       std::string_view kind);
LoadError result_type(std::string_view wanted, std::int32_t found);

}  // namespace kernelhub::loader_errors
