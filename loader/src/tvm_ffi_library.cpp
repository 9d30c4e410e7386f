// SPDX-License-Identifier: Apache-2.0
#include "tvm_ffi_library.h"

#include "loader_errors.h"
#include "shared_object.h"

#include "kernelhub/loader/mapped_symbol.h"

#include <fmt/format.h>

#include <atomic>
#include <dlfcn.h>
#include <system_error>

namespace kernelhub::loader {
namespace {

namespace fs = std::filesystem;

struct Version {
  std::uint32_t major, minor, patch;
};
struct ErrorCell {
  kh_bytes kind, message, backtrace;
};

using GetVersion = void (*)(Version*);
using MoveFromRaised = void (*)(void**);
using SetRaised = void (*)(const char*, const char*);
using SetStream = int (*)(std::int32_t, std::int32_t, void*, void**);

// A bump of the middle number breaks the C ABI while the first is 0; the variant prefix says 0.1.
constexpr MajorMinor kSpoken{0, 1};

/// Functions of the mapped libtvm_ffi, which is never unmapped once found.
template <class F>
F tvm_ffi_function(std::atomic<void*>& cached, const char* name) {
  void* found = cached.load(std::memory_order_acquire);
  if (found == nullptr) {
    found = mapped_symbol(kTvmFfiSoname, name);
    cached.store(found, std::memory_order_release);
  }
  return reinterpret_cast<F>(found);
}

fs::path own_directory() {
  Dl_info info{};
  static const char marker = 0;
  if (dladdr(&marker, &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code error;
  return fs::canonical(info.dli_fname, error).parent_path();
}

std::string text_of(const kh_bytes& bytes) { return {bytes.data, bytes.size_bytes}; }

}  // namespace

std::optional<MajorMinor> mapped_tvm_ffi_version() {
  static std::atomic<void*> cached{nullptr};
  const auto get_version = tvm_ffi_function<GetVersion>(cached, "TVMFFIGetVersion");
  if (get_version == nullptr) return std::nullopt;
  Version version{};
  get_version(&version);
  return MajorMinor{static_cast<int>(version.major), static_cast<int>(version.minor)};
}

void map_tvm_ffi_library(const fs::path& configured) {
  if (!find_mapped_library(kTvmFfiSoname)) {
    const fs::path beside = own_directory() / kTvmFfiSoname;
    std::error_code error;
    if (!configured.empty()) {
      map_library(fs::absolute(configured));
    } else if (fs::exists(beside, error)) {
      map_library(beside);
    } else {
      return;
    }
  }
  const std::optional<MajorMinor> version = mapped_tvm_ffi_version();
  if (version && !(*version == kSpoken)) {
    throw loader_errors::tvm_ffi_mismatch(find_mapped_library(kTvmFfiSoname)->path, version->str(),
                                          kSpoken.str());
  }
}

std::optional<RaisedError> take_tvm_ffi_error() {
  static std::atomic<void*> cached{nullptr};
  const auto move = tvm_ffi_function<MoveFromRaised>(cached, "TVMFFIErrorMoveFromRaised");
  if (move == nullptr) return std::nullopt;
  void* raised = nullptr;
  move(&raised);
  if (raised == nullptr) return std::nullopt;
  auto* object = static_cast<kh_object*>(raised);
  const auto* cell = reinterpret_cast<const ErrorCell*>(object + 1);
  RaisedError error{text_of(cell->kind), text_of(cell->message), text_of(cell->backtrace)};
  release_object(object);
  return error;
}

void raise_tvm_ffi_error(const char* kind, const char* message) {
  static std::atomic<void*> cached{nullptr};
  const auto raise = tvm_ffi_function<SetRaised>(cached, "TVMFFIErrorSetRaisedFromCStr");
  if (raise != nullptr) raise(kind, message);
}

void release_object(kh_object* object) noexcept {
  constexpr std::uint64_t kStrong = 1, kWeak = std::uint64_t{1} << 32, kStrongMask = kWeak - 1;
  constexpr int kDeleteStrong = 1, kDeleteWeak = 2;
  const std::uint64_t before = __atomic_fetch_sub(&object->counts, kStrong, __ATOMIC_ACQ_REL);
  if (before == (kStrong | kWeak)) {
    if (object->deleter != nullptr) object->deleter(object, kDeleteStrong | kDeleteWeak);
    return;
  }
  if ((before & kStrongMask) != kStrong) return;
  if (object->deleter != nullptr) object->deleter(object, kDeleteStrong);
  const std::uint64_t weak = __atomic_fetch_sub(&object->counts, kWeak, __ATOMIC_ACQ_REL);
  if (weak == kWeak && object->deleter != nullptr) object->deleter(object, kDeleteWeak);
}

std::optional<void*> exchange_tvm_ffi_stream(DLDevice device, void* stream) {
  static std::atomic<void*> cached{nullptr};
  const auto set_stream = tvm_ffi_function<SetStream>(cached, "TVMFFIEnvSetStream");
  if (set_stream == nullptr) return std::nullopt;
  void* former = nullptr;
  set_stream(device.device_type, device.device_id, stream, &former);
  return former;
}

}  // namespace kernelhub::loader
