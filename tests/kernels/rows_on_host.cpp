// SPDX-License-Identifier: Apache-2.0
// rows.cuh and column_sums.cuh on a CPU: every row gets its sum added, every column is summed, over
// small whole numbers, whose sums are exact. Prints one line per failing case, then the counts.
#include <initializer_list>
#include <random>

#include "primitives/check_cuda.h"
#include "primitives/column_sums.cuh"

using namespace kernelhub::primitives;

namespace {

template <class T>
struct Matrix {
  T* data;  // [rows, cols], the first element `offset` elements past a 16-byte boundary
  std::vector<T> memory;
  std::int64_t rows, cols, pitch;

  Matrix(std::int64_t r, std::int64_t c, std::int64_t extra, std::int64_t offset, float fill)
      : memory(static_cast<std::size_t>(r * (c + extra) + 64), narrow<T>(fill)),
        rows(r),
        cols(c),
        pitch(c + extra) {
    data = memory.data();
    while (reinterpret_cast<std::uintptr_t>(data) % kRowUnitBytes != 0) ++data;
    data += offset;
  }
  T& at(std::int64_t row, std::int64_t col) { return data[row * pitch + col]; }
};

template <class T, int kGroups, bool kIsClustered>
void add_row_sums(T* out, const T* x, float* partial, float* squares_partial, std::int64_t rows,
                  std::int64_t cols, std::int64_t out_pitch, std::int64_t x_pitch,
                  int threads_per_row) {
  __shared__ RowSumsMemory<float, 2> memory;
  __shared__ RowSumsMemory<double, 4> more_memory;
  RowPlace place = RowPlace::here<kIsClustered>(threads_per_row);
  RowSums<float, 2, kIsClustered> sums(memory, place.threads_per_row, kGroups == 4);
  RowSums<double, 4, false> more_sums(more_memory, place.threads_per_row);
  // Nobody asks for the sum in the middle.
  ColumnPartials<T, kGroups, 3> columns({partial, nullptr, squares_partial}, place.cluster, cols);
  for (int turn = 1; place.block_row < rows; ++turn) {
    const bool has_row = place.row < rows;
    Vec128<T> held[kGroups];
    load_slice(held, x + place.row * x_pitch, cols, place, has_row);
    float totals[2] = {};
    for (int k = 0; k < kGroups; ++k) {
      for (int i = 0; i < Vec128<T>::kLanes; ++i) {
        const float value = widen(held[k].lane[i]);
        totals[0] += value;
        totals[1] += value * value;
        columns.at(k, i) += value;
        columns.at(k, i, 1) += 1.0f;
        columns.at(k, i, 2) += value * value;
      }
    }
    const double of_thread = totals[0] + 2.0 * totals[1];
    double more[4] = {of_thread, -of_thread, 3.0, 4.0};
    more_sums.add_up(more);
    const auto threads = static_cast<double>(place.threads_per_row);
    const bool is_same =
        more[1] == -more[0] && more[2] == 3.0 * threads && more[3] == 4.0 * threads;
    sums.add_up(totals);
    if (!kIsClustered && (!is_same || more[0] != totals[0] + 2.0 * totals[1])) totals[0] = NAN;
    for (int k = 0; k < kGroups; ++k) {
      for (T& lane : held[k].lane) lane = narrow<T>(widen(lane) + totals[0] - totals[1]);
    }
    store_slice(held, out + place.row * out_pitch, cols, place, has_row);
    place.next_row();
    if (turn % kRowsPerFold == 0 || place.block_row >= rows) columns.fold(place);
  }
}

template <class T, int kGroups>
cudaError_t launch(const RowLaunch& shape, Matrix<T>& out, Matrix<T>& x,
                   std::vector<float>& column_sums, std::vector<float>& column_squares) {
  const auto kernel =
      shape.cluster > 1 ? &add_row_sums<T, kGroups, true> : &add_row_sums<T, kGroups, false>;
  std::int64_t partials = 0;
  cudaError_t status = device_partial_rows(
      &partials, kernel, shape, ColumnPartials<T, kGroups>::shared_bytes(shape), x.rows, x.cols);
  if (status != cudaSuccess) return status;
  const PartialLayout layout = partial_layout<T>(x.cols);
  std::vector<float> partial(static_cast<std::size_t>(partials * layout.row_elements()), NAN);
  std::vector<float> squares = partial;
  status = launch_rows(kernel, shape, static_cast<unsigned>(partials * shape.cluster),
                       ColumnPartials<T, kGroups>::shared_bytes(shape), nullptr, out.data, x.data,
                       partial.data(), squares.data(), x.rows, x.cols, out.pitch, x.pitch,
                       shape.threads_per_row);
  if (status != cudaSuccess) return status;
  ColumnSums sums;
  sums.add(column_sums.data(), partial.data());
  sums.add(nullptr, partial.data());
  sums.add(column_squares.data(), squares.data());
  return launch_column_sums(sums, DType::kFloat32, partials, layout, nullptr);
}

template <class T, int kGroups>
bool is_right(std::int64_t rows, std::int64_t cols, std::int64_t extra, std::int64_t x_offset,
              std::int64_t out_offset) {
  Matrix<T> x(rows, cols, extra, x_offset, 0.0f);
  Matrix<T> out(rows, cols, extra, out_offset, 77.0f);
  Matrix<T> expected(rows, cols, extra, out_offset, 77.0f);
  std::vector<float> column_sums(static_cast<std::size_t>(cols), NAN);
  std::vector<float> column_squares = column_sums;
  std::vector<float> expected_sums(static_cast<std::size_t>(cols), 0.0f);
  std::vector<float> expected_squares = expected_sums;
  std::mt19937 random(1);
  for (T& value : x.memory) value = narrow<T>(static_cast<float>(random() % 3) - 1.0f);
  for (std::int64_t r = 0; r < rows; ++r) {
    float sum = 0.0f;
    for (std::int64_t c = 0; c < cols; ++c) {
      const float value = widen(x.at(r, c));
      sum += value - value * value;
      expected_sums[static_cast<std::size_t>(c)] += value;
      expected_squares[static_cast<std::size_t>(c)] += value * value;
    }
    for (std::int64_t c = 0; c < cols; ++c) {
      expected.at(r, c) = narrow<T>(widen(x.at(r, c)) + sum);
    }
  }
  RowLaunch shape{};
  return device_row_launch(&shape, cols, sizeof(T), kGroups, &add_row_sums<T, kGroups, true>) ==
             cudaSuccess &&
         launch<T, kGroups>(shape, out, x, column_sums, column_squares) == cudaSuccess &&
         std::memcmp(out.data - out_offset, expected.data - out_offset,
                     static_cast<std::size_t>(rows * out.pitch + 8) * sizeof(T)) == 0 &&
         column_sums == expected_sums && column_squares == expected_squares;
}

bool throws(cudaError_t status) {
  try {
    check_launch("rows", "sum", 1, 1, status);
  } catch (const std::runtime_error&) {
    return true;
  }
  return false;
}

/// A launch answers for itself: what it was refused for is thrown and then gone, and what somebody
/// else left in the runtime is neither thrown nor taken.
bool errors_stay_with_their_owners() {
  const RowLaunch sixteen{512, 1, 8, 16};
  float none = 0.0f;
  const cudaError_t refused =
      launch_rows(&add_row_sums<float, 2, true>, sixteen, 15, 0, nullptr, &none, &none, &none,
                  &none, 0, 0, 0, 0, sixteen.threads_per_row);
  if (refused != cudaErrorInvalidValue || !throws(refused)) return false;
  if (cudaGetLastError() != cudaSuccess) return false;
  cuda_on_host::last_error = cudaErrorInvalidValue;
  ColumnSums sums;
  sums.add(&none, &none);
  if (throws(launch_column_sums(sums, DType::kFloat32, 1, {1, 1}, nullptr))) return false;
  return throws(cudaErrorInvalidClusterSize) && cudaGetLastError() == cudaErrorInvalidValue;
}

/// What a device holds of a kernel is asked once; rows are read again where it holds no cluster.
bool devices_are_asked_once() {
  auto* kernel = &add_row_sums<__half, 4, false>;
  const auto resident = [&](const RowLaunch& shape) {
    int count = 0;
    const cudaError_t status =
        count_resident(&count, reinterpret_cast<const void*>(kernel), shape, 0);
    return status == cudaSuccess ? count : -1;
  };
  const cuda_on_host::Device before = cuda_on_host::device;
  const int first = resident({128, 1, 4, 1});
  cuda_on_host::device.resident_blocks = 5;
  cuda_on_host::device.clusters = 0;
  RowLaunch wide{};
  const bool is_right =
      first == 6 && resident({128, 1, 4, 1}) == 6 && resident({256, 1, 4, 1}) == 15 &&
      device_row_launch(&wide, 17'000, 2, 4, &add_row_sums<__half, 4, true>) == cudaSuccess &&
      wide.groups == 0 && wide.cluster == 1;
  cuda_on_host::device = before;
  return is_right;
}

struct Tally {
  int cases = 0;
  int wrong = 0;

  void add(bool is_case_right, std::int64_t rows, std::int64_t cols, std::int64_t extra,
           std::int64_t x_offset, std::int64_t out_offset) {
    ++cases;
    if (is_case_right) return;
    ++wrong;
    std::printf("wrong: %ld rows, %ld columns and %ld, x off by %ld, out by %ld\n", rows, cols,
                extra, x_offset, out_offset);
  }
};

}  // namespace

int main() {
  Tally tally;
  if (!errors_stay_with_their_owners()) std::printf("wrong: an error is not with its owner\n");
  if (!devices_are_asked_once()) std::printf("wrong: a device is asked twice, or in vain\n");
  // Blocks add to their partial rows more than once.
  tally.add(is_right<__nv_bfloat16, 4>(900, 1025, 0, 0, 0), 900, 1025, 0, 0, 0);
  tally.add(is_right<float, 8>(3200, 33, 0, 0, 0), 3200, 33, 0, 0, 0);
  for (const long cols : {1, 7, 8, 17, 64, 255, 257, 1025, 4097, 16385, 33001}) {
    for (const long rows : {1, 67}) {
      if (rows * cols > 80000) continue;
      for (const long extra : {0, 5}) {
        if (cols > 4000 && extra != 0) continue;
        for (const long x_offset : {0, 3}) {
          for (const long out_offset : {0, 1}) {
            tally.add(is_right<__nv_bfloat16, 4>(rows, cols, extra, x_offset, out_offset), rows,
                      cols, extra, x_offset, out_offset);
            tally.add(is_right<float, 8>(rows, cols, extra, x_offset, out_offset), rows, cols,
                      extra, x_offset, out_offset);
          }
        }
      }
    }
  }
  // As many turns as a thread adds up before it folds, one more, and many more.
  tally.add(is_right<__nv_bfloat16, 4>(386, 1025, 0, 0, 0), 386, 1025, 0, 0, 0);
  tally.add(is_right<float, 8>(50'000, 7, 0, 0, 0), 50'000, 7, 0, 0, 0);
  std::printf("cases %d wrong %d\n", tally.cases, tally.wrong);
}
