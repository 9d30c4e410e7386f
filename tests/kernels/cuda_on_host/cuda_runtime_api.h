// SPDX-License-Identifier: Apache-2.0
// Enough of CUDA to run row kernels on a CPU, so that their index arithmetic and barriers are
// tested where no GPU is. The threads of a block are fibers of one OS thread, which swap at
// barriers and shuffles only; the blocks of a cluster are OS threads; clusters run one after the
// other.
//
// Says nothing about speed, memory ordering, or the rounding of the device's approximate units.
#pragma once

#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <setjmp.h>
#include <thread>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static thread_local

struct uint4 {
  unsigned x, y, z, w;
};
struct float2 {
  float x, y;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidClusterSize = 912 };
using cudaStream_t = void*;
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMultiProcessorCount
};
enum cudaFuncAttribute { cudaFuncAttributeNonPortableClusterSizeAllowed };
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

namespace cuda_on_host {

/// What the device says of itself; a test may change it.
struct Device {
  int capability_major = 9;
  int multiprocessors = 3;
  int resident_blocks = 2;  // of a multiprocessor, whatever the kernel
  int clusters = 1;         // that it holds at once, whatever the kernel
};
inline Device device;
inline int current_device = 0;
inline int devices_set = 0;  // calls of cudaSetDevice

constexpr unsigned kPortableCluster = 8;
inline std::set<const void*> kernels_of_any_cluster;  // cudaFuncSetAttribute was called for them
inline cudaError_t last_error = cudaSuccess;

/// What a call of the runtime that failed also leaves behind.
inline cudaError_t failed(cudaError_t error) {
  last_error = error;
  return error;
}

struct Warp {
  std::uint64_t slots[2][32];
  unsigned arrived[2] = {0, 0};
};

struct Block;
struct Fiber {
  ucontext_t context;  // of its first turn; later ones need no system call
  jmp_buf resume;
  bool has_started = false;
  dim3 thread;
  unsigned index = 0;
  unsigned exchanges = 0;
  unsigned barriers = 0;
  bool is_done = false;
  bool has_arrived = false;  // at the cluster's barrier
};

struct Cluster {
  explicit Cluster(unsigned blocks) : barrier(blocks), anchors(blocks) {}
  std::barrier<> barrier;
  std::vector<char*> anchors;
};

struct Block {
  dim3 grid, size, index;
  unsigned rank = 0;
  Cluster* cluster = nullptr;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<float> dynamic_shared;
  unsigned arrived = 0;
  bool has_moved = false;
  jmp_buf scheduler;
  Fiber* current = nullptr;
  void (*entry)(const void*) = nullptr;
  const void* arguments = nullptr;
};
inline thread_local Block* block = nullptr;
inline thread_local char anchor;  // thread-local variables lie at the same distance from it

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "cuda_on_host: %s\n", what);
  std::abort();
}

/// Back to the scheduler until the fiber's next turn.
inline void yield() {
  if (_setjmp(block->current->resume) == 0) _longjmp(block->scheduler, 1);
}

/// One turn of a fiber.
inline void resume(Fiber& fiber) {
  block->current = &fiber;
  if (_setjmp(block->scheduler) != 0) return;
  if (fiber.has_started) _longjmp(fiber.resume, 1);
  fiber.has_started = true;
  setcontext(&fiber.context);
}

template <class Condition>
void wait_until(const Condition& condition) {
  block->has_moved = true;
  while (!condition()) yield();
  block->has_moved = true;
}

inline void enter() {
  block->entry(block->arguments);
  block->current->is_done = true;
  block->has_moved = true;
  _longjmp(block->scheduler, 1);
}

inline thread_local std::vector<char> stacks;  // kept: a page is dear when it is touched first

/// Runs the fibers of this OS thread's block to their end.
inline void run_block() {
  constexpr std::size_t kStack = 64 * 1024;
  const std::size_t threads = block->fibers.size();
  if (stacks.size() < threads * kStack) stacks.resize(threads * kStack);
  for (std::size_t i = 0; i < threads; ++i) {
    Fiber& fiber = block->fibers[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks.data() + i * kStack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  for (std::size_t left = threads; left > 0;) {
    block->has_moved = false;
    left = 0;
    for (Fiber& fiber : block->fibers) {
      if (fiber.is_done) continue;
      resume(fiber);
      left += fiber.is_done ? 0 : 1;
    }
    if (left > 0 && !block->has_moved) fail("threads wait at a barrier that others never reach");
  }
}

template <class T>
T exchange(T value, unsigned from) {
  static_assert(sizeof(T) <= 8);
  Fiber& fiber = *block->current;
  Warp& warp = block->warps[fiber.index / 32];
  const unsigned slot = fiber.exchanges % 2;
  const unsigned goal = 32 * (fiber.exchanges / 2 + 1);
  ++fiber.exchanges;
  std::memcpy(&warp.slots[slot][fiber.index % 32], &value, sizeof(T));
  ++warp.arrived[slot];
  wait_until([&] { return warp.arrived[slot] >= goal; });
  T result;
  std::memcpy(&result, &warp.slots[slot][from], sizeof(T));
  return result;
}

inline void block_barrier() {
  Fiber& fiber = *block->current;
  const auto goal = static_cast<unsigned>(block->fibers.size()) * ++fiber.barriers;
  ++block->arrived;
  wait_until([&] { return block->arrived >= goal; });
}

template <class... Params>
cudaError_t launch(const cudaLaunchConfig_t& config, void (*kernel)(Params...), Params... params) {
  const unsigned cluster_size = config.numAttrs > 0 ? config.attrs[0].val.clusterDim.x : 1;
  const auto call = [&] { kernel(params...); };
  using Call = decltype(call);
  const auto entry = [](const void* pointer) { (*static_cast<const Call*>(pointer))(); };
  if (config.gridDim.x % cluster_size != 0) return failed(cudaErrorInvalidValue);
  if (cluster_size > kPortableCluster &&
      kernels_of_any_cluster.count(reinterpret_cast<const void*>(kernel)) == 0) {
    return failed(cudaErrorInvalidClusterSize);
  }
  const dim3& grid = config.gridDim;
  for (unsigned at = 0; at < grid.x * grid.y * grid.z; at += cluster_size) {
    const unsigned first = at % grid.x;
    Cluster cluster(cluster_size);
    const auto run = [&](unsigned rank) {
      Block mine;
      block = &mine;
      mine.grid = grid;
      mine.size = config.blockDim;
      mine.index = {first + rank, at / grid.x % grid.y, at / grid.x / grid.y};
      mine.rank = rank;
      mine.cluster = &cluster;
      mine.fibers.resize(config.blockDim.x * config.blockDim.y);
      mine.warps.resize(mine.fibers.size() / 32);
      mine.dynamic_shared.assign(config.dynamicSmemBytes / sizeof(float), NAN);
      mine.entry = entry;
      mine.arguments = &call;
      for (unsigned i = 0; i < mine.fibers.size(); ++i) {
        mine.fibers[i].index = i;
        mine.fibers[i].thread = {i % config.blockDim.x, i / config.blockDim.x, 0};
      }
      cluster.anchors[rank] = &anchor;
      run_block();
    };
    std::vector<std::thread> others;
    for (unsigned rank = 1; rank < cluster_size; ++rank) others.emplace_back(run, rank);
    run(0);
    for (std::thread& thread : others) thread.join();
  }
  return cudaSuccess;
}

}  // namespace cuda_on_host

namespace cuda_on_host {

/// A built-in variable: `of()` is its value for the running thread.
template <dim3 (*of)()>
struct BuiltIn {
  struct X {
    operator unsigned() const { return of().x; }
  } x;
  struct Y {
    operator unsigned() const { return of().y; }
  } y;
  struct Z {
    operator unsigned() const { return of().z; }
  } z;
};
inline dim3 thread_index() { return block->current->thread; }
inline dim3 block_index() { return block->index; }
inline dim3 block_size() { return block->size; }
inline dim3 grid_size() { return block->grid; }

}  // namespace cuda_on_host

inline constexpr cuda_on_host::BuiltIn<cuda_on_host::thread_index> threadIdx{};
inline constexpr cuda_on_host::BuiltIn<cuda_on_host::block_index> blockIdx{};
inline constexpr cuda_on_host::BuiltIn<cuda_on_host::block_size> blockDim{};
inline constexpr cuda_on_host::BuiltIn<cuda_on_host::grid_size> gridDim{};

inline void __syncthreads() { cuda_on_host::block_barrier(); }
// Only memory would be ordered: threads of a warp take turns between barriers.
inline void __syncwarp(unsigned) {}
inline unsigned __activemask() { return ~0u; }

template <class T>
T __shfl_xor_sync(unsigned, T value, unsigned offset) {
  return cuda_on_host::exchange(value, (cuda_on_host::block->current->index % 32) ^ offset);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned offset) {
  const unsigned lane = cuda_on_host::block->current->index % 32;
  return cuda_on_host::exchange(value, lane + offset < 32 ? lane + offset : lane);
}
template <class T>
T __shfl_sync(unsigned, T value, unsigned from) {
  return cuda_on_host::exchange(value, from);
}
inline bool __all_sync(unsigned mask, bool value) {
  unsigned all = value ? 1 : 0;
  for (unsigned offset = 16; offset > 0; offset /= 2) all &= __shfl_xor_sync(mask, all, offset);
  return all != 0;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned bits) {
  return static_cast<unsigned>(((std::uint64_t{high} << 32) | low) >> (bits & 31));
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
// Build with -ffp-contract=off.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }

inline cudaError_t cudaGetDevice(int* device) {
  *device = cuda_on_host::current_device;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  cuda_on_host::current_device = device;
  ++cuda_on_host::devices_set;
  return cudaSuccess;
}
inline cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t) {
  *data = std::malloc(bytes);
  return cudaSuccess;
}
inline cudaError_t cudaFreeAsync(void* data, cudaStream_t) {
  std::free(data);
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? cuda_on_host::device.capability_major
           : attribute == cudaDevAttrComputeCapabilityMinor ? 0
                                                            : cuda_on_host::device.multiprocessors;
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemset2DAsync(void* to, std::size_t pitch, int value, std::size_t width,
                                     std::size_t height, cudaStream_t) {
  for (std::size_t row = 0; row < height; ++row) {
    std::memset(static_cast<char*>(to) + row * pitch, value, width);
  }
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int) {
  cuda_on_host::kernels_of_any_cluster.insert(kernel);
  return cudaSuccess;
}
inline cudaError_t cudaOccupancyMaxActiveClusters(int* count, const void*,
                                                  const cudaLaunchConfig_t*) {
  *count = cuda_on_host::device.clusters;
  return cudaSuccess;
}
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* count, const void*, int,
                                                                 std::size_t) {
  *count = cuda_on_host::device.resident_blocks;
  return cudaSuccess;
}
template <class... Params>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Params... params) {
  return cuda_on_host::launch(*config, kernel, params...);
}
inline cudaError_t cudaGetLastError() {
  return std::exchange(cuda_on_host::last_error, cudaSuccess);
}
inline cudaError_t cudaPeekAtLastError() { return cuda_on_host::last_error; }
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidClusterSize ? "invalid cluster size" : "invalid argument";
}
