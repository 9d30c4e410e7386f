// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/abi/package.h"
#include "kernelhub/core/backend.h"

#include <filesystem>
#include <optional>
#include <string>

namespace kernelhub::loader {

constexpr const char* kTvmFfiSoname = "libtvm_ffi.so";

/// Maps libtvm_ffi.so unless one is mapped: `configured`, else the one beside this library. There
/// is at most one per process, because each copy has errors of its own (loader spec V1). Leaves it
/// unmapped when none is found. Throws kTvmFfiMismatch for another ABI than 0.1.
void map_tvm_ffi_library(const std::filesystem::path& configured);
/// Version of the mapped libtvm_ffi; nothing when none is mapped.
std::optional<MajorMinor> mapped_tvm_ffi_version();

/// An error that a function left behind.
struct RaisedError {
  std::string kind;
  std::string message;
  std::string backtrace;
};
/// Moves the calling thread's error out of the mapped libtvm_ffi, so that nothing of the package
/// stays behind (loader spec V3); nothing when there is none.
std::optional<RaisedError> take_tvm_ffi_error();
/// Sets the calling thread's error in the mapped libtvm_ffi; nothing happens without one.
void raise_tvm_ffi_error(const char* kind, const char* message);
/// Drops one reference of a counted object, as libtvm_ffi does; works without that library.
void release_object(kh_object* object) noexcept;
/// Sets the stream for device work of the calling thread and returns the former one; nothing when
/// libtvm_ffi is not mapped.
std::optional<void*> exchange_tvm_ffi_stream(DLDevice device, void* stream);

}  // namespace kernelhub::loader
