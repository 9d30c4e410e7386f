// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of rmsnorm on a CPU against fp64. Prints one line per failing case, then the
// counts.
#include <initializer_list>
#include <random>

#include "rmsnorm_cuda/rmsnorm.cu"
#include "rmsnorm_cuda/rmsnorm_backward.cu"

using namespace kernelhub;
using primitives::DType;
using primitives::narrow;
using primitives::widen;

namespace {

constexpr double kEps = 1e-6;

template <class T>
constexpr double kTolerance = sizeof(T) == 4              ? 2e-6
                              : std::is_same_v<T, __half> ? 2e-3
                                                          : 1.6e-2;

/// [rows, cols] of N(0, 1) or of one value, its first element `offset` elements past a boundary.
template <class T>
struct Matrix {
  T* data;
  std::vector<T> memory;
  std::int64_t rows, cols, pitch;

  Matrix(std::int64_t r, std::int64_t c, std::int64_t extra, std::int64_t offset)
      : memory(static_cast<std::size_t>(r * (c + extra) + 64), narrow<T>(77.0f)),
        rows(r),
        cols(c),
        pitch(c + extra) {
    data = memory.data();
    while (reinterpret_cast<std::uintptr_t>(data) % 16 != 0) ++data;
    data += offset;
  }
  void fill(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (T& value : memory) value = narrow<T>(normal(random));
  }
  T& at(std::int64_t row, std::int64_t col) { return data[row * pitch + col]; }
  double value(std::int64_t row, std::int64_t col) { return widen(at(row, col)); }
  /// Whether everything beside the matrix is as it was made.
  bool is_unharmed() {
    std::vector<char> is_inside(memory.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) {
        is_inside[static_cast<std::size_t>(&at(r, c) - memory.data())] = 1;
      }
    }
    for (std::size_t i = 0; i < memory.size(); ++i) {
      if (!is_inside[i] && widen(memory[i]) != 77.0f) return false;
    }
    return true;
  }
};

/// `scale`: that of the terms which `expected` is the sum of.
bool is_near(double got, double expected, double tolerance, double scale = 0.1) {
  return std::abs(got - expected) <= tolerance * (std::abs(expected) + scale);
}

struct Case {
  std::int64_t rows, cols, extra, offset;
  bool has_residual;
  bool has_weight = true;
};

template <class T, class W, class Out>
bool forward_and_backward_are_right(const Case& c) {
  Matrix<T> x(c.rows, c.cols, c.extra, c.offset);
  Matrix<T> residual(c.rows, c.cols, 0, 0);
  Matrix<T> sum(c.rows, c.cols, c.extra, 1);
  Matrix<W> weight(1, c.cols, 0, 0);
  Matrix<Out> grad(c.rows, c.cols, c.extra, c.offset);
  Matrix<Out> out(c.rows, c.cols, c.extra, c.offset);
  Matrix<T> grad_x(c.rows, c.cols, c.extra, c.offset);
  Matrix<W> grad_weight(1, c.cols, 0, 0);
  std::vector<float> rstd(static_cast<std::size_t>(c.rows), NAN);
  x.fill(1);
  residual.fill(2);
  weight.fill(3);
  grad.fill(4);

  rmsnorm::Params params{};
  params.dtype = rmsnorm::cuda::dtype_of<T>;
  params.weight_dtype = rmsnorm::cuda::dtype_of<W>;
  params.out_dtype = rmsnorm::cuda::dtype_of<Out>;
  params.out = out.data;
  params.rstd = rstd.data();
  params.x = x.data;
  params.residual = c.has_residual ? residual.data : nullptr;
  params.sum = c.has_residual ? sum.data : nullptr;
  params.weight = c.has_weight ? weight.data : nullptr;
  params.rows = c.rows;
  params.cols = c.cols;
  params.out_stride = out.pitch;
  params.x_stride = x.pitch;
  params.residual_stride = residual.pitch;
  params.sum_stride = sum.pitch;
  params.eps = kEps;
  params.offset = 0.5;
  if (rmsnorm::cuda::launch(params, nullptr) != cudaSuccess) return false;
  Matrix<T>& normalised = c.has_residual ? sum : x;

  rmsnorm::BackwardParams backward{};
  backward.dtype = params.dtype;
  backward.weight_dtype = params.weight_dtype;
  backward.grad_dtype = params.out_dtype;
  backward.grad_x = grad_x.data;
  backward.grad_weight = c.has_weight ? grad_weight.data : nullptr;
  backward.grad_out = grad.data;
  backward.x = normalised.data;
  backward.weight = params.weight;
  backward.rstd = rstd.data();
  backward.rows = c.rows;
  backward.cols = c.cols;
  backward.grad_x_stride = grad_x.pitch;
  backward.grad_out_stride = grad.pitch;
  backward.x_stride = normalised.pitch;
  backward.eps = kEps;
  backward.offset = 0.5;
  rmsnorm::cuda::BackwardPlan plan{};
  if (rmsnorm::cuda::plan_backward(backward, &plan) != cudaSuccess) return false;
  std::int64_t most_bytes = 0;
  if (rmsnorm::cuda::backward_workspace(params.dtype, c.rows, c.cols, &most_bytes) != cudaSuccess ||
      most_bytes < plan.workspace_bytes) {
    return false;
  }
  std::vector<float> workspace(static_cast<std::size_t>(plan.workspace_bytes) / sizeof(float), NAN);
  backward.workspace = workspace.data();
  if (rmsnorm::cuda::launch_backward(backward, plan, nullptr) != cudaSuccess) return false;

  const double share = 1.0 / static_cast<double>(c.cols);
  std::vector<double> column_sums(static_cast<std::size_t>(c.cols));
  for (std::int64_t r = 0; r < c.rows; ++r) {
    double squares = 0.0;
    double product = 0.0;
    for (std::int64_t i = 0; i < c.cols; ++i) {
      if (c.has_residual) {
        const auto total = static_cast<float>(x.value(r, i) + residual.value(r, i));
        if (widen(sum.at(r, i)) != primitives::rounded<T>(total)) return false;
      }
      squares += normalised.value(r, i) * normalised.value(r, i);
    }
    const double scale = 1.0 / std::sqrt(squares * share + kEps);
    if (!is_near(rstd[static_cast<std::size_t>(r)], scale, 3e-7)) return false;
    for (std::int64_t i = 0; i < c.cols; ++i) {
      const double n = normalised.value(r, i) * scale;
      const double w = c.has_weight ? weight.value(0, i) + 0.5 : 1.0;
      if (!is_near(out.value(r, i), n * w, kTolerance<Out>)) return false;
      product += grad.value(r, i) * w * n;
      column_sums[static_cast<std::size_t>(i)] += grad.value(r, i) * n;
    }
    for (std::int64_t i = 0; i < c.cols; ++i) {
      const double n = normalised.value(r, i) * scale;
      const double w = c.has_weight ? weight.value(0, i) + 0.5 : 1.0;
      const double g = grad.value(r, i) * w;
      const double slack = 1e-4 * scale;  // where the difference cancels
      const double expected = scale * (g - n * product * share);
      if (std::abs(grad_x.value(r, i) - expected) > slack + kTolerance<T> * std::abs(expected)) {
        return false;
      }
    }
  }
  for (std::int64_t i = 0; c.has_weight && i < c.cols; ++i) {
    if (!is_near(grad_weight.value(0, i), column_sums[static_cast<std::size_t>(i)], kTolerance<W>,
                 std::sqrt(static_cast<double>(c.rows)))) {
      return false;
    }
  }
  return out.is_unharmed() && grad_x.is_unharmed() && (!c.has_residual || sum.is_unharmed());
}

struct Tally {
  int cases = 0;
  int wrong = 0;

  void add(const char* what, bool is_right, const Case& c) {
    ++cases;
    if (is_right) return;
    ++wrong;
    std::printf("wrong: %s, %ld rows, %ld columns and %ld, off by %ld, residual %d\n", what, c.rows,
                c.cols, c.extra, c.offset, c.has_residual);
  }
};

void run_all(Tally& tally, const Case& c) {
  tally.add("bf16", forward_and_backward_are_right<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16>(c),
            c);
  tally.add("bf16 by fp32", forward_and_backward_are_right<__nv_bfloat16, float, float>(c), c);
  tally.add("fp16 by bf16", forward_and_backward_are_right<__half, __nv_bfloat16, __half>(c), c);
  tally.add("fp32 by fp16", forward_and_backward_are_right<float, __half, float>(c), c);
}

}  // namespace

int main() {
  Tally tally;
  for (const long cols : {1, 7, 8, 64, 129, 1023, 4097}) {
    for (const long rows : {1, 67}) {
      if (rows * cols > 70000) continue;
      run_all(tally, {rows, cols, 0, 0, false});
      run_all(tally, {rows, cols, 5, 3, rows > 1});
    }
  }
  run_all(tally, {3, 1024, 0, 0, false, false});
  run_all(tally, {3, 129, 5, 3, false, false});
  // A cluster, and on a device without clusters a row that is read twice.
  for (const int major : {9, 8}) {
    cuda_on_host::device.capability_major = major;
    run_all(tally, {3, 17000, 0, 0, false});
    run_all(tally, {2, 17001, 1, 1, true});
  }
  // Sixteen blocks share a row.
  cuda_on_host::device.capability_major = 9;
  for (const long extra : {0, 1}) {
    const Case wide{1, 132'096, extra, extra, false};
    tally.add("bf16",
              forward_and_backward_are_right<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16>(wide),
              wide);
    tally.add("fp16 by fp32", forward_and_backward_are_right<__half, float, float>(wide), wide);
  }
  std::printf("cases %d wrong %d\n", tally.cases, tally.wrong);
}
