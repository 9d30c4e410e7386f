// SPDX-License-Identifier: Apache-2.0
// elementwise.cuh on a CPU: every width, height and layout, over small whole numbers, with a
// function that has a short form for some of them only; and launch shapes that no CPU could run.
// Prints one line per failing case, then the counts.
#include <initializer_list>
#include <random>

#include "primitives/elementwise.cuh"

using namespace kernelhub::primitives;

namespace {

constexpr float kUnordinary = 7.0f;
constexpr float kPoison = 77.0f;

/// out[i] = the weighted sum of the inputs, never an input itself: an element that is computed
/// twice in place shows. `vector` is wrong beside a first input of kUnordinary.
template <class T, int kInputs, int kOutputs>
struct WeightedSums : Lanewise<WeightedSums<T, kInputs, kOutputs>, T, kInputs, kOutputs> {
  using Base = Lanewise<WeightedSums<T, kInputs, kOutputs>, T, kInputs, kOutputs>;

  void element(const T (&in)[kInputs], T (&out)[kOutputs]) const {
    for (int i = 0; i < kOutputs; ++i) {
      float sum = 0.0f;
      for (int k = 0; k < kInputs; ++k) sum += static_cast<float>(2 + i + k) * widen(in[k]);
      out[i] = narrow<T>(sum);
    }
  }
  bool is_ordinary(const Vec128<T> (&in)[kInputs]) const {
    bool is_any = false;
    for (const T& lane : in[0].lane) is_any = is_any || widen(lane) == kUnordinary;
    return !is_any;
  }
  void vector(const Vec128<T> (&in)[kInputs], Vec128<T> (&out)[kOutputs]) const {
    Base::vector(in, out);
    if (!is_ordinary(in)) out[0].lane[0] = narrow<T>(kPoison);
  }
};

/// [rows, cols] with canaries between and around the rows.
template <class T>
struct Matrix {
  std::vector<T> memory;
  T* data;
  std::int64_t pitch;

  Matrix(std::int64_t rows, std::int64_t cols, std::int64_t pad, std::int64_t offset)
      : memory(static_cast<std::size_t>(rows * (cols + pad) + 64), narrow<T>(kPoison)),
        data(memory.data() + 8),
        pitch(cols + pad) {
    while (reinterpret_cast<std::uintptr_t>(data) % kVectorBytes != 0) ++data;
    data += offset;
  }
  T& at(std::int64_t row, std::int64_t col) { return data[row * pitch + col]; }
  std::size_t bytes() const { return memory.size() * sizeof(T); }
  Matrix copy() const {
    Matrix other = *this;
    other.data = other.memory.data() + (data - memory.data());
    return other;
  }
};

struct Layout {
  std::int64_t in_pad, out_pad, in_offset, out_offset;
};

struct Tally {
  int cases = 0;
  int wrong = 0;

  void add(bool is_right, const char* what, std::int64_t rows, std::int64_t cols,
           const Layout& layout) {
    ++cases;
    if (is_right) return;
    ++wrong;
    std::printf("wrong: %s, %ld rows, %ld columns, pads %ld and %ld, offsets %ld and %ld\n", what,
                rows, cols, layout.in_pad, layout.out_pad, layout.in_offset, layout.out_offset);
  }
};

template <class T, int kInputs, int kOutputs>
struct Case {
  std::int64_t rows, cols;
  std::vector<Matrix<T>> in, out, expected;
  ElementwiseRows<T, kInputs, kOutputs> tensors{};

  Case(std::int64_t r, std::int64_t c, const Layout& layout) : rows(r), cols(c) {
    std::mt19937 random(1);
    for (int i = 0; i < kInputs; ++i) {
      in.emplace_back(r, c, layout.in_pad, layout.in_offset);
      for (T& value : in.back().memory) {
        // One column in a hundred has no short form.
        value = narrow<T>(random() % 100 == 0 ? kUnordinary : static_cast<float>(random() % 5));
      }
    }
    for (int i = 0; i < kOutputs; ++i) {
      out.emplace_back(r, c, layout.out_pad, layout.out_offset);
      expected.push_back(out.back().copy());
    }
    tensors.rows = r;
    tensors.cols = c;
    for (int i = 0; i < kInputs; ++i) {
      tensors.in[i] = in[i].data;
      tensors.in_stride[i] = in[i].pitch;
    }
    for (int i = 0; i < kOutputs; ++i) {
      tensors.out[i] = out[i].data;
      tensors.out_stride[i] = out[i].pitch;
    }
    fill_expected();
  }

  /// The first output is the first input itself, whose values `in` keeps.
  void make_in_place() {
    out[0] = in[0].copy();
    expected[0] = in[0].copy();
    tensors.in[0] = tensors.out[0] = out[0].data;
    tensors.out_stride[0] = tensors.in_stride[0];
    fill_expected();
  }

  void fill_expected() {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) {
        T values[kInputs];
        T results[kOutputs];
        for (int i = 0; i < kInputs; ++i) values[i] = in[i].at(r, c);
        WeightedSums<T, kInputs, kOutputs>{}.element(values, results);
        for (int i = 0; i < kOutputs; ++i) expected[i].at(r, c) = results[i];
      }
    }
  }

  bool is_right() const {
    bool is_same = true;
    for (int i = 0; i < kOutputs; ++i) {
      is_same = is_same &&
                std::memcmp(out[i].memory.data(), expected[i].memory.data(), out[i].bytes()) == 0;
    }
    return is_same;
  }
};

constexpr Layout kLayouts[] = {
    {0, 0, 0, 0}, {8, 16, 0, 0}, {3, 5, 1, 1}, {8, 8, 1, 1},
    {1, 0, 0, 0}, {0, 0, 3, 3},  {8, 8, 0, 1}, {1, 9, 0, 0},
};

template <int kUnroll, class T, int kInputs, int kOutputs>
void run_layouts(const char* what, std::int64_t rows, std::int64_t cols, Tally& tally) {
  for (const Layout& layout : kLayouts) {
    Case<T, kInputs, kOutputs> test(rows, cols, layout);
    const cudaError_t status =
        launch_elementwise<kUnroll>(test.tensors, WeightedSums<T, kInputs, kOutputs>{}, nullptr);
    tally.add(status == cudaSuccess && test.is_right(), what, rows, cols, layout);
  }
}

/// Of the layouts only those of inputs matter here.
template <int kUnroll, class T>
void run_in_place(std::int64_t rows, std::int64_t cols, Tally& tally) {
  for (const Layout& layout : kLayouts) {
    Case<T, 1, 1> test(rows, cols, layout);
    test.make_in_place();
    const cudaError_t status =
        launch_elementwise<kUnroll>(test.tensors, WeightedSums<T, 1, 1>{}, nullptr);
    tally.add(status == cudaSuccess && test.is_right(), "in place", rows, cols, layout);
  }
}

/// Calls of few units, and of so many that a thread has several.
template <int kUnroll, class T, int kInputs, int kOutputs>
void run_shapes(const char* what, Tally& tally) {
  for (const std::int64_t cols : {1, 4, 7, 8, 9, 64, 72, 256, 512, 520, 1023, 2048, 4096, 9001}) {
    for (const std::int64_t rows : {1, 2, 19}) {
      run_layouts<kUnroll, T, kInputs, kOutputs>(what, rows, cols, tally);
      if constexpr (kInputs == 1) run_in_place<kUnroll, T>(rows, cols, tally);
    }
  }
  constexpr std::int64_t kMany = kFewUnits * Vec128<T>::kLanes;
  for (const std::int64_t cols : {16, 4160, 4175}) {
    run_layouts<kUnroll, T, kInputs, kOutputs>(what, kMany / cols + 2, cols, tally);
  }
  run_layouts<kUnroll, T, kInputs, kOutputs>(what, 1, kMany + 1040, tally);
}

/// Rows on both axes of the grid, the last block of it past the last row.
template <class T>
void run_on_three_axes(Tally& tally) {
  for (const std::int64_t cols : {64, 65}) {
    Case<T, 1, 1> test(19, cols, kLayouts[0]);
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(1, 2, 3);
    config.blockDim = dim3(32, 4);
    const WeightedSums<T, 1, 1> function{};
    const cudaError_t status =
        cols == 64
            ? cudaLaunchKernelEx(
                  &config,
                  &elementwise_vectors<RowEdges::kAligned, 2, T, 1, 1, WeightedSums<T, 1, 1>>,
                  test.tensors, 2u, 0u, function)
            : cudaLaunchKernelEx(&config, &elementwise_elements<T, 1, 1, WeightedSums<T, 1, 1>>,
                                 test.tensors, function);
    tally.add(status == cudaSuccess && test.is_right(), "three axes", 19, cols, kLayouts[0]);
  }
}

/// Whether a grid has every unit of every row once, and no more idle blocks than it must.
bool covers(const GroupCut& cut, std::int64_t rows, std::int64_t unroll,
            const GroupLaunch& launch) {
  const std::int64_t threads = std::int64_t{launch.threads_x} * launch.threads_y;
  const std::int64_t per_block = std::int64_t{launch.threads_x} * launch.units;
  const std::int64_t row_blocks = (rows + launch.threads_y - 1) / launch.threads_y;
  const std::int64_t full_units = std::int64_t{launch.full_warps} * kWarp * unroll;
  const std::int64_t sure_units = cut.has_edges ? cut.units - 1 : cut.units;
  return threads <= kElementwiseThreads && threads % kWarp == 0 && launch.blocks_x < 1u << 31 &&
         launch.threads_x < 2 * cut.units && launch.blocks_x * per_block >= cut.units &&
         (launch.blocks_x - 1) * per_block < cut.units && launch.blocks_y <= kMaxBlocksY &&
         launch.blocks_z <= kMaxBlocksY &&
         std::int64_t{launch.blocks_y} * launch.blocks_z >= row_blocks &&
         std::int64_t{launch.blocks_y} * launch.blocks_z < row_blocks + launch.blocks_z &&
         (launch.full_warps == 0 || (launch.units == unroll && full_units <= sure_units)) &&
         (rows * cut.units > kFewUnits || (launch.units == 1 && threads == kFewThreads));
}

void run_launches(Tally& tally) {
  constexpr std::int64_t kAddressable = std::int64_t{1} << 43;
  for (const std::int64_t cols :
       {1L, 8L, 9L, 64L, 512L, 4096L, 13824L, 1L << 20, (1L << 31) + 64, 1L << 40}) {
    for (const std::int64_t rows :
         {1L, 3L, 2048L, 65535L, 65536L, 1L << 24, (1L << 31) + 1, 1L << 33}) {
      for (const std::int64_t element : {2, 4}) {
        if (rows > kAddressable / element / cols) continue;
        for (const std::int64_t unroll : {1, 2}) {
          for (const std::uintptr_t address : {0, 4}) {
            const RowSpan spans[] = {{address, cols}, {address, cols}};
            const GroupCut cut = cut_groups(spans, 2, rows, cols, element);
            const GroupLaunch launch = group_launch(cut, rows, unroll);
            tally.add(covers(cut, rows, unroll, launch), "launch", rows, cols, kLayouts[0]);
          }
        }
      }
    }
  }
}

}  // namespace

int main() {
  Tally tally;
  run_shapes<2, float, 1, 1>("fp32, one in", tally);
  run_shapes<2, __nv_bfloat16, 1, 1>("bf16, one in", tally);
  run_shapes<2, __nv_bfloat16, 2, 1>("bf16, two in", tally);
  run_shapes<1, __half, 3, 2>("fp16, three in, two out", tally);
  run_on_three_axes<__nv_bfloat16>(tally);
  run_launches(tally);
  std::printf("cases %d wrong %d\n", tally.cases, tally.wrong);
}
