// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/system.h"

#include "needed_libraries.h"
#include "never_destroyed.h"
#include "probe.h"
#include "shared_object.h"
#include "tvm_ffi_library.h"

#include <atomic>
#include <deque>
#include <gnu/libc-version.h>
#include <mutex>

namespace kernelhub {
namespace {

using loader::TorchFacts;

/// The C ABI that the loader speaks itself where no libtvm_ffi is in the process.
constexpr MajorMinor kOwnTvmFfi{0, 1};

std::optional<TorchFacts> probe_torch(const Config& config) {
  if (!config.torch_version.empty()) return loader::parse_torch_version(config.torch_version);
  if (auto mapped = loader::probe_mapped_torch()) return mapped;
  if (!config.torch_prefix.empty()) return loader::probe_torch_prefix(config.torch_prefix);
  return std::nullopt;
}

/// What can appear in a process after it was probed.
struct Arrivals {
  bool torch = loader::find_mapped_library("libtorch_cpu.so").has_value();
  bool tvm_ffi = loader::find_mapped_library(loader::kTvmFfiSoname).has_value();
  bool python = loader::is_python_in_process();
  friend bool operator==(const Arrivals&, const Arrivals&) = default;
};

struct Snapshot {
  Snapshot(std::uint64_t added, Arrivals seen, SystemInfo probed)
      : objects_added(added), arrivals(seen), info(std::move(probed)) {}
  std::atomic<std::uint64_t> objects_added;  // of the last look; while it stands, nothing arrived
  Arrivals arrivals;
  SystemInfo info;
};

}  // namespace

SystemInfo probe_system(const Config& config) {
  SystemInfo info;
  info.cpu = loader::cpu_name();
  if (const auto torch = probe_torch(config)) {
    info.backend = torch->backend;
    info.torch = torch->version;
    info.torch_cxx11_abi = torch->cxx11_abi;
    info.torch_library_dir = torch->library_dir;
  } else if (const auto cuda = loader::cuda_runtime_version()) {
    info.backend = Backend{BackendKind::kCuda, cuda};
  }
  const auto tvm_ffi = loader::mapped_tvm_ffi_version();
  info.tvm_ffi = tvm_ffi ? tvm_ffi : kOwnTvmFfi;
  info.cuda_driver = loader::cuda_driver_version();
  info.cuda_devices = loader::cuda_devices();
  info.glibc = gnu_get_libc_version();
  info.x86_level = loader::x86_level();
  info.python_in_process = loader::is_python_in_process();
  return info;
}

const SystemInfo& system() {
  static std::mutex mutex;
  static loader::NeverDestroyed<std::deque<Snapshot>> snapshots;  // references to all stay good
  static std::atomic<Snapshot*> newest{nullptr};
  const std::uint64_t added = loader::count_mapped_ever();
  const Snapshot* current = newest.load(std::memory_order_acquire);
  if (current != nullptr && current->objects_added == added) return current->info;
  const std::lock_guard lock(mutex);
  Snapshot* last = newest.load(std::memory_order_acquire);
  if (last != nullptr && last->arrivals == Arrivals()) {
    last->objects_added = added;
    return last->info;
  }
  SystemInfo info = probe_system(Config::from_env());
  Snapshot& probed =
      snapshots->emplace_back(loader::count_mapped_ever(), Arrivals(), std::move(info));
  newest.store(&probed, std::memory_order_release);
  return probed.info;
}

}  // namespace kernelhub
