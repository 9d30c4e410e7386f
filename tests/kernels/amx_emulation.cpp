// SPDX-License-Identifier: Apache-2.0
// The AMX kernels of flash-attention on emulated tiles: their own source, and the instructions one
// by one.
#define HWY_COMPILE_ONLY_STATIC
#include "tile_emulator.h"

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "flash_attention_cpu/tile_products_simd.h"

namespace cpu = kernelhub::flash_attention::cpu;

namespace {

using kernelhub::emulation::TileState;

struct EmulatedTiles {
  static TileState& state() { return TileState::of_this_thread(); }
  static void configure(const cpu::TileConfig& config) { state().configure(&config); }
  static void release() { state().release(); }
  template <int kTile>
  static void zero() {
    state().zero(kTile);
  }
  template <int kTile>
  static void load(const void* rows, std::int64_t pitch) {
    state().load(kTile, rows, pitch);
  }
  template <int kTile>
  static void store(void* rows, std::int64_t pitch) {
    state().store(kTile, rows, pitch);
  }
  template <int kSum, int kA, int kB>
  static void add_product() {
    state().add_product(kSum, kA, kB);
  }
};

const cpu::Kernels kEmulatedKernels = {
    &cpu::HWY_NAMESPACE::attend_pairs<cpu::HWY_NAMESPACE::TileProducts<EmulatedTiles>>,
    &cpu::HWY_NAMESPACE::finish_pairs,
};

/// What went wrong in any thread of a call.
std::mutex mutex;
std::string problem;

template <class Work>
void noting_faults(const Work& work) {
  std::string found;
  try {
    work();
    if (!TileState::of_this_thread().is_released()) found = "tiles were left configured";
  } catch (const std::exception& fault) {
    found = fault.what();
  }
  if (found.empty()) return;
  const std::lock_guard<std::mutex> lock(mutex);
  if (problem.empty()) problem = found;
}

constexpr std::int64_t kThreads = 3;

/// A thread for each third, whatever the grain is.
void run_on_threads(std::int64_t begin, std::int64_t end, std::int64_t,
                    kernelhub::primitives::ParallelFor::Body body, void* context) {
  std::vector<std::thread> threads;
  for (std::int64_t n = 0; n < kThreads; ++n) {
    threads.emplace_back([=] {
      const std::int64_t first = begin + (end - begin) * n / kThreads;
      const std::int64_t last = begin + (end - begin) * (n + 1) / kThreads;
      if (first < last) noting_faults([&] { body(context, first, last); });
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// Null, or what the work threw.
template <class Work>
const char* fault_of(const Work& work) {
  static thread_local std::string text;
  try {
    work();
    return nullptr;
  } catch (const std::exception& fault) {
    text = fault.what();
    return text.c_str();
  }
}

}  // namespace

extern "C" {

/// Null, or what went wrong.
const char* emulate_attention(const kernelhub::flash_attention::Params* params, bool on_threads) {
  problem.clear();
  kernelhub::primitives::ParallelFor parallel_for;
  if (on_threads) parallel_for.run = &run_on_threads;
  noting_faults([&] { cpu::run(*params, kEmulatedKernels, parallel_for); });
  return problem.empty() ? nullptr : problem.c_str();
}

/// Instructions on the tiles of the calling thread: null, or the fault.
const char* tile_configure(const void* config) {
  return fault_of([&] { EmulatedTiles::state().configure(config); });
}
const char* tile_release() {
  return fault_of([] { EmulatedTiles::release(); });
}
const char* tile_zero(int tile) {
  return fault_of([&] { EmulatedTiles::state().zero(tile); });
}
const char* tile_load(int tile, const void* rows, std::int64_t pitch) {
  return fault_of([&] { EmulatedTiles::state().load(tile, rows, pitch); });
}
const char* tile_store(int tile, void* rows, std::int64_t pitch) {
  return fault_of([&] { EmulatedTiles::state().store(tile, rows, pitch); });
}
const char* tile_add_product(int sum, int a, int b) {
  return fault_of([&] { EmulatedTiles::state().add_product(sum, a, b); });
}

}  // extern "C"
