// SPDX-License-Identifier: Apache-2.0
// Rows held in the registers of a warp, a block or a cluster, and deterministic sums over them.
#pragma once

#include <cuda_runtime_api.h>
#include <mutex>

#include "primitives/cluster.cuh"
#include "primitives/rows.h"
#include "primitives/vec128.cuh"

namespace kernelhub::primitives {

constexpr unsigned kWholeWarp = 0xffffffffu;

/// Where a thread stands. All threads of a block make the same turns over rows, so that shuffles
/// and barriers meet; a thread whose row is past the last one takes part without a row.
struct RowPlace {
  std::int64_t row;          // of this thread
  std::int64_t row_step;     // rows that all blocks take a turn
  std::int64_t block_row;    // first row of the block; the turns of a block end by it
  unsigned unit;             // first 16-byte unit of this thread
  unsigned unit_step;        // units that the threads of a row take a turn
  unsigned threads_per_row;  // of this block
  unsigned cluster;          // index of the blocks that share rows
  unsigned clusters;

  /// `threads_per_row` is that of the launch; blocks are clusters of `cluster_blocks()`.
  template <bool kIsClustered>
  __device__ __forceinline__ static RowPlace here(int threads_per_row) {
    const unsigned threads = static_cast<unsigned>(threads_per_row);
    const unsigned blocks = kIsClustered ? cluster_blocks() : 1;
    const unsigned rank = kIsClustered ? cluster_rank() : 0;
    const unsigned rows = blockDim.x / threads;
    RowPlace place;
    place.cluster = blockIdx.x / blocks;
    place.clusters = gridDim.x / blocks;
    place.block_row = std::int64_t{place.cluster} * rows;
    place.row = place.block_row + threadIdx.x / threads;
    place.row_step = std::int64_t{place.clusters} * rows;
    place.unit = rank * threads + (threadIdx.x & (threads - 1));
    place.unit_step = threads * blocks;
    place.threads_per_row = threads;
    return place;
  }

  __device__ __forceinline__ void next_row() {
    row += row_step;
    block_row += row_step;
  }
};

// -- sums ------------------------------------------------------------------------------------

/// Shared memory of RowSums.
template <class Sum, int kCount>
struct RowSumsMemory {
  Sum of_warps[2][kMaxRowThreads / kRowWarp][kCount];
  Sum of_blocks[2][kMaxCluster][kCount];
};

/// Sums over rows, the same bits in every thread of a row. The order of the additions depends on
/// the launch shape only. Needs every thread of the block, or of the cluster. kIsClustered: blocks
/// may share a row; whether they do, the launch says.
template <class Sum, int kCount, bool kIsClustered>
class RowSums {
 public:
  /// `are_only`: the kernel has no other sums. Then blocks do not wait for each other to start
  /// before they load, but once they have something to store.
  __device__ __forceinline__ RowSums(RowSumsMemory<Sum, kCount>& memory, unsigned threads_per_row,
                                     bool are_only = false)
      : memory_(memory), threads_(threads_per_row), must_wait_(kIsClustered && are_only) {
    // Memory of a block that has not started yet must not be written.
    if constexpr (kIsClustered) {
      cluster_arrive();
      if (!are_only) cluster_wait();
    }
  }

  /// Each thread brings its share and gets the sum of its row.
  __device__ __forceinline__ void add_up(Sum (&values)[kCount]) {
    if (threads_ < kRowWarp) {
      for (unsigned offset = threads_ / 2; offset > 0; offset /= 2) add_lanes(values, offset);
      return;
    }
    split_lanes(values);
    if (threads_ == kRowWarp) return spread(values);
    add_warps(values);
    spread(values);
    if (kIsClustered && must_wait_) cluster_wait();
    must_wait_ = false;
    if (kIsClustered && cluster_blocks() > 1) add_blocks(values);
    // The next turn's stores must not meet this one's loads; those of the turn after it cannot.
    turn_ ^= 1;
  }

 private:
  // Lanes of a warp share out four sums: each is left with one, which kSpan neighbours have in
  // common. The additions are those of a tree for each sum, and less than a third as many.
  static constexpr unsigned kSpan = kCount == 4 ? 8 : kRowWarp;
  static constexpr int kKept = kCount * static_cast<int>(kSpan) / kRowWarp;

  /// Which sum a lane's first one is.
  __device__ __forceinline__ static unsigned first_kept() {
    return threadIdx.x % kRowWarp / kSpan * kKept;
  }

  __device__ __forceinline__ static void add_lanes(Sum (&values)[kCount], unsigned offset) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] += __shfl_xor_sync(kWholeWarp, values[i], offset);
  }

  __device__ __forceinline__ static void add_kept(Sum (&values)[kCount], unsigned offset) {
#pragma unroll
    for (int i = 0; i < kKept; ++i) values[i] += __shfl_xor_sync(kWholeWarp, values[i], offset);
  }

  /// Adds up the warp's values, and leaves the sums of first_kept() in front.
  __device__ __forceinline__ static void split_lanes(Sum (&values)[kCount]) {
    int count = kCount;
#pragma unroll
    for (unsigned offset = kRowWarp / 2; offset >= kSpan; offset /= 2) {
      count /= 2;
      const bool is_upper = (threadIdx.x & offset) != 0;
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i) {
        if (i >= count) continue;
        const Sum given = is_upper ? values[i] : values[count + i];
        const Sum kept = is_upper ? values[count + i] : values[i];
        values[i] = kept + __shfl_xor_sync(kWholeWarp, given, offset);
      }
    }
#pragma unroll
    for (unsigned offset = kSpan / 2; offset > 0; offset /= 2) add_kept(values, offset);
  }

  /// All sums of a warp whose lanes have those of first_kept().
  __device__ __forceinline__ static void spread(Sum (&values)[kCount]) {
    if constexpr (kKept == kCount) return;
    const Sum kept = values[0];
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = __shfl_sync(kWholeWarp, kept, i * kSpan);
  }

  /// A lane takes some warps' sums, zero in place of warps that the row has not: as many loads and
  /// additions as a tree has levels, whatever the number of warps.
  __device__ __forceinline__ void add_warps(Sum (&values)[kCount]) {
    constexpr unsigned kMaxWarps = kMaxRowThreads / kRowWarp;
    constexpr unsigned kLanes = kSpan < kMaxWarps ? kSpan : kMaxWarps;
    auto& sums = memory_.of_warps[turn_];
    const unsigned first = first_kept();
    if (threadIdx.x % kSpan == 0) {
#pragma unroll
      for (int i = 0; i < kKept; ++i) sums[threadIdx.x / kRowWarp][first + i] = values[i];
    }
    __syncthreads();
#pragma unroll
    for (unsigned past = 0; past < kMaxWarps; past += kLanes) {
      const unsigned warp = threadIdx.x % kLanes + past;
      const bool has_warp = warp < threads_ / kRowWarp;
#pragma unroll
      for (int i = 0; i < kKept; ++i) {
        const Sum sum = has_warp ? sums[warp][first + i] : Sum{0};
        values[i] = past == 0 ? sum : values[i] + sum;
      }
    }
#pragma unroll
    for (unsigned offset = kLanes / 2; offset > 0; offset /= 2) add_kept(values, offset);
  }

  __device__ __forceinline__ void add_blocks(Sum (&values)[kCount]) {
    auto& sums = memory_.of_blocks[turn_];
    const unsigned blocks = cluster_blocks();
    if (threadIdx.x < blocks) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        store_at_rank(&sums[cluster_rank()][i], threadIdx.x, values[i]);
      }
    }
    cluster_sync();
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = sums[0][i];
    for (unsigned block = 1; block < blocks; ++block) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[i] += sums[block][i];
    }
  }

  RowSumsMemory<Sum, kCount>& memory_;
  unsigned threads_;
  bool must_wait_;  // for the blocks of the cluster to start
  int turn_ = 0;
};

// -- slices ----------------------------------------------------------------------------------

/// 16 bytes that begin `bytes` (0..15) behind the first of `low`; `high` follows `low`.
__device__ __forceinline__ uint4 bytes_from(uint4 low, uint4 high, unsigned bytes) {
  if (bytes & 8) {
    low = {low.z, low.w, high.x, high.y};
    high = {high.z, high.w, high.w, high.w};
  }
  if (bytes & 4) {
    low = {low.y, low.z, low.w, high.x};
    high.x = high.y;
  }
  const unsigned bits = bytes % 4 * 8;
  return {__funnelshift_r(low.x, low.y, bits), __funnelshift_r(low.y, low.z, bits),
          __funnelshift_r(low.z, low.w, bits), __funnelshift_r(low.w, high.x, bits)};
}

template <class T>
__device__ __forceinline__ uint4 bits_of(const Vec128<T>& vec) {
  uint4 bits;
  memcpy(&bits, &vec, sizeof(bits));
  return bits;
}

/// The value, of which the compiler knows nothing any more: it computes again what follows from it
/// instead of keeping it in registers across a phase, where there are none to spare.
__device__ __forceinline__ void forget(unsigned& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void forget(std::int64_t& value) { asm volatile("" : "+l"(value)); }

template <class T, int kGroups>
__device__ __forceinline__ void forget(Vec128<T> (&held)[kGroups]) {
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    uint4 bits = bits_of(held[k]);
    forget(bits.x);
    forget(bits.y);
    forget(bits.z);
    forget(bits.w);
    memcpy(&held[k], &bits, sizeof(bits));
  }
}

template <class T>
__device__ __forceinline__ unsigned bytes_off(const T* pointer) {
  return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(pointer) % kRowUnitBytes);
}

/// The columns of one unit one by one; zeros past the end of the row.
template <class T>
__device__ __forceinline__ Vec128<T> load_columns(const T* row, std::int64_t col,
                                                  std::int64_t cols) {
  Vec128<T> vec;
#pragma unroll
  for (int i = 0; i < Vec128<T>::kLanes; ++i) {
    vec.lane[i] = col + i < cols ? row[col + i] : narrow<T>(0.0f);
  }
  return vec;
}

/// Whether a unit of a row that starts inside a 16-byte word lies in two words of that row.
template <class T>
__device__ __forceinline__ bool is_split(const T* row, std::int64_t unit, std::int64_t cols) {
  constexpr int kLanes = Vec128<T>::kLanes;
  const std::int64_t col = unit * kLanes;
  return bytes_off(row) != 0 && col >= kLanes && col + 2 * kLanes <= cols;
}

/// One unit of a row at any address, or the first of the two words that it is split into.
template <class T>
__device__ __forceinline__ Vec128<T> load_first_word(const T* row, std::int64_t unit,
                                                     std::int64_t cols) {
  constexpr int kLanes = Vec128<T>::kLanes;
  const std::int64_t col = unit * kLanes;
  const unsigned off = bytes_off(row);
  if (off == 0 && col + kLanes <= cols) return load_vec128(row + col);
  if (is_split(row, unit, cols)) return load_vec128(row + col - off / sizeof(T));
  return load_columns(row, col, cols);
}

/// The unit whose first word was loaded. The second word, the first of the unit behind, is in L1 as
/// a rule.
template <class T>
__device__ __forceinline__ Vec128<T> load_rest(const Vec128<T>& first, const T* row,
                                               std::int64_t unit, std::int64_t cols) {
  constexpr int kLanes = Vec128<T>::kLanes;
  if (!is_split(row, unit, cols)) return first;
  const unsigned off = bytes_off(row);
  const T* second = row + (unit + 1) * kLanes - off / sizeof(T);
  const uint4 bits = bytes_from(bits_of(first), bits_of(load_vec128(second)), off);
  Vec128<T> vec;
  memcpy(&vec, &bits, sizeof(vec));
  return vec;
}

/// One unit of a row at any address.
template <class T>
__device__ __forceinline__ Vec128<T> load_unit(const T* row, std::int64_t unit, std::int64_t cols) {
  return load_rest(load_first_word(row, unit, cols), row, unit, cols);
}

/// Whether every row of a matrix consists of whole, aligned 16-byte units.
template <class T>
bool has_aligned_rows(const T* data, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
  constexpr std::int64_t kLanes = kRowUnitBytes / static_cast<std::int64_t>(sizeof(T));
  return reinterpret_cast<std::uintptr_t>(data) % kRowUnitBytes == 0 && cols % kLanes == 0 &&
         (rows == 1 || stride % kLanes == 0);
}

/// The units of this thread, zeros where it has fewer than kGroups or no row; in rows that are not
/// aligned the first words of some, until complete_slice. kIsAligned: the caller knows
/// has_aligned_rows, and saves the code and registers of other rows; the values are the same.
template <bool kIsAligned, class T, int kGroups>
__device__ __forceinline__ void begin_slice(Vec128<T> (&held)[kGroups], const T* row,
                                            std::int64_t cols, const RowPlace& place,
                                            bool has_row) {
  constexpr int kLanes = Vec128<T>::kLanes;
  const unsigned units = has_row ? static_cast<unsigned>((cols + kLanes - 1) / kLanes) : 0;
  if (kIsAligned || (bytes_off(row) == 0 && cols % kLanes == 0)) {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      held[k] = Vec128<T>{};
      if (unit < units) held[k] = load_vec128(row + std::int64_t{unit} * kLanes);
    }
    return;
  }
  if constexpr (!kIsAligned) {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      held[k] = Vec128<T>{};
      if (unit < units) held[k] = load_first_word(row, unit, cols);
    }
  }
}

/// Completes what begin_slice loaded, to the units of this thread.
template <bool kIsAligned, class T, int kGroups>
__device__ __forceinline__ void complete_slice(Vec128<T> (&held)[kGroups], const T* row,
                                               std::int64_t cols, const RowPlace& place,
                                               bool has_row) {
  if constexpr (!kIsAligned) {
    if (bytes_off(row) == 0 || !has_row) return;
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      held[k] = load_rest(held[k], row, place.unit + k * place.unit_step, cols);
    }
  }
}

/// The units of this thread, zeros where it has fewer than kGroups or no row.
template <bool kIsAligned = false, class T, int kGroups>
__device__ __forceinline__ void load_slice(Vec128<T> (&held)[kGroups], const T* row,
                                           std::int64_t cols, const RowPlace& place, bool has_row) {
  begin_slice<kIsAligned>(held, row, cols, place, has_row);
  complete_slice<kIsAligned>(held, row, cols, place, has_row);
}

/// Stores one unit of every lane of the warp, `vec` being units `unit` of their rows (>= `units`:
/// nothing to store). Needs the whole warp. Rows that start inside a 16-byte word are stored in
/// whole words too, which a lane completes from its neighbour's unit.
template <class T>
__device__ __forceinline__ void store_units(const Vec128<T>& vec, T* row, unsigned unit,
                                            unsigned units, std::int64_t cols,
                                            const RowPlace& place) {
  constexpr int kLanes = Vec128<T>::kLanes;
  const std::int64_t col = std::int64_t{unit} * kLanes;
  const unsigned off = bytes_off(row);
  const uint4 bits = bits_of(vec);
  const uint4 next = {
      __shfl_down_sync(kWholeWarp, bits.x, 1), __shfl_down_sync(kWholeWarp, bits.y, 1),
      __shfl_down_sync(kWholeWarp, bits.z, 1), __shfl_down_sync(kWholeWarp, bits.w, 1)};
  if (unit >= units) return;
  if (off == 0 && col + kLanes <= cols) {
    store_vec128(vec, row + col);
    return;
  }
  // Lanes of a warp that share a row hold neighbouring units.
  const unsigned lanes = place.threads_per_row < kRowWarp ? place.threads_per_row : kRowWarp;
  const unsigned lane = threadIdx.x % lanes;
  const int head = static_cast<int>((kRowUnitBytes - off) / sizeof(T)) % kLanes;
  const bool is_whole = col + kLanes <= cols;
  const bool gets_word = off != 0 && lane + 1 < lanes && col + 2 * kLanes <= cols;
  const bool gives_head = off != 0 && lane > 0 && is_whole;
  if (gets_word) {
    const uint4 word = bytes_from(bits, next, kRowUnitBytes - off);
    Vec128<T> whole;
    memcpy(&whole, &word, sizeof(whole));
    store_vec128(whole, row + col + head);
  }
#pragma unroll
  for (int i = 0; i < kLanes; ++i) {
    const bool is_stored = i < head ? gives_head : gets_word;
    if (!is_stored && col + i < cols) row[col + i] = vec.lane[i];
  }
}

/// Stores the units of this thread. Needs the whole warp. kIsAligned as for load_slice.
template <bool kIsAligned = false, class T, int kGroups>
__device__ __forceinline__ void store_slice(const Vec128<T> (&held)[kGroups], T* row,
                                            std::int64_t cols, const RowPlace& place,
                                            bool has_row) {
  constexpr int kLanes = Vec128<T>::kLanes;
  const unsigned units = has_row ? static_cast<unsigned>((cols + kLanes - 1) / kLanes) : 0;
  if (kIsAligned || (__all_sync(kWholeWarp, bytes_off(row) == 0) && cols % kLanes == 0)) {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      if (unit < units) store_vec128(held[k], row + std::int64_t{unit} * kLanes);
    }
    return;
  }
  if constexpr (!kIsAligned) {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      store_units(held[k], row, place.unit + k * place.unit_step, units, cols, place);
    }
  }
}

// -- launching -------------------------------------------------------------------------------

/// Multiprocessors of the current device.
inline cudaError_t count_multiprocessors(int* count) {
  int device = 0;
  const cudaError_t status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  return cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}

/// Blocks that may share a row on the current device: 16 on sm_90 and sm_100, else 1.
inline cudaError_t cluster_limit(int* limit) {
  int device = 0;
  int major = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  }
  *limit = major == 9 || major == 10 ? kMaxCluster : 1;
  return status;
}

namespace {  // internal to each translation unit: so are the kernels that are counted

/// How many blocks of a kernel, or clusters of them, a device holds at once. The runtime is asked
/// once and its answer kept. Thread-safe.
class ResidentCounts {
 public:
  /// Of the current device. `launch` and `shared_bytes` are those of the launch.
  cudaError_t count(int* count, const void* kernel, const RowLaunch& launch,
                    std::size_t shared_bytes) {
    Entry entry{kernel, shared_bytes, 0, threads_of(launch), launch.cluster, 0};
    cudaError_t status = cudaGetDevice(&entry.device);
    if (status != cudaSuccess) return status;
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < size_; ++i) {
      if (!entries_[i].is_of(entry)) continue;
      *count = entries_[i].count;
      return cudaSuccess;
    }
    status = launch.cluster > 1 ? ask_for_clusters(entry) : ask_for_blocks(entry);
    *count = entry.count;
    if (status == cudaSuccess && size_ < kMaxEntries) entries_[size_++] = entry;
    return status;
  }

 private:
  static constexpr int kMaxEntries = 256;

  struct Entry {
    const void* kernel;
    std::size_t shared_bytes;
    int device, threads, cluster;
    int count;

    bool is_of(const Entry& other) const {
      return kernel == other.kernel && shared_bytes == other.shared_bytes &&
             device == other.device && threads == other.threads && cluster == other.cluster;
    }
  };

  static cudaError_t ask_for_blocks(Entry& entry) {
    int blocks = 0;
    int multiprocessors = 0;
    cudaError_t status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &blocks, entry.kernel, entry.threads, entry.shared_bytes);
    if (status == cudaSuccess) status = count_multiprocessors(&multiprocessors);
    entry.count = blocks * multiprocessors;
    return status;
  }

  static cudaError_t ask_for_clusters(Entry& entry) {
    if (entry.cluster > kPortableCluster) {
      const cudaError_t status =
          cudaFuncSetAttribute(entry.kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
      if (status != cudaSuccess) return status;
    }
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(entry.cluster), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(entry.cluster));
    config.blockDim = dim3(static_cast<unsigned>(entry.threads));
    config.dynamicSmemBytes = entry.shared_bytes;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaOccupancyMaxActiveClusters(&entry.count, entry.kernel, &config);
  }

  std::mutex mutex_;
  Entry entries_[kMaxEntries];
  int size_ = 0;
};

inline cudaError_t count_resident(int* count, const void* kernel, const RowLaunch& launch,
                                  std::size_t shared_bytes) {
  static ResidentCounts counts;
  return counts.count(count, kernel, launch, shared_bytes);
}

}  // namespace

/// The launch shape for the current device. Where a row is so wide that blocks must share it, the
/// device is asked whether it holds so many of `clustered` at once; else rows are read again. Of
/// kernels that compute the same, the one that takes most room asks for all, so that they have one
/// shape and give the same bits.
template <class... Args>
cudaError_t device_row_launch(RowLaunch* launch, std::int64_t cols, std::int64_t element_size,
                              int max_groups, void (*clustered)(Args...)) {
  *launch = row_launch(cols, element_size, {max_groups, 1});
  if (launch->groups != 0) return cudaSuccess;
  int limit = 1;
  cudaError_t status = cluster_limit(&limit);
  if (status != cudaSuccess || limit == 1) return status;
  const RowLaunch shared = row_launch(cols, element_size, {max_groups, limit});
  if (shared.groups == 0) return cudaSuccess;
  // The blocks of a cluster must find room on neighbouring multiprocessors: a slice of a device may
  // have too few.
  int clusters = 0;
  status = count_resident(&clusters, reinterpret_cast<const void*>(clustered), shared, 0);
  if (status == cudaSuccess && clusters > 0) *launch = shared;
  return status;
}

/// Launches `kernel` in `blocks` blocks (row_blocks) of `launch`, with `shared_bytes` of dynamic
/// shared memory each.
template <class... Params, class... Args>
cudaError_t launch_rows(void (*kernel)(Params...), const RowLaunch& launch, unsigned blocks,
                        std::size_t shared_bytes, cudaStream_t stream, Args&&... args) {
  if (launch.cluster > kPortableCluster) {
    const cudaError_t status = cudaFuncSetAttribute(
        reinterpret_cast<const void*>(kernel), cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (status != cudaSuccess) return status;
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(launch.cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(static_cast<unsigned>(threads_of(launch)));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = launch.cluster > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
}

}  // namespace kernelhub::primitives
