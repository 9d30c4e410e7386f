// SPDX-License-Identifier: Apache-2.0
// The device code of rotary on a CPU: random shapes, strides, addresses and flags against the
// formula element by element. Prints one line per failing case, then the counts.
#include <algorithm>
#include <random>

#include "rotary/checks.h"
#include "rotary_cuda/rotary.cu"

using namespace kernelhub::primitives;
using namespace kernelhub::rotary;

namespace {

constexpr std::int32_t kCudaDevice = 2;
constexpr std::int64_t kTableRows = 20;

struct Random {
  std::mt19937 engine{7};

  std::int64_t one_of(std::initializer_list<std::int64_t> values) {
    return values.begin()[engine() % values.size()];
  }
  bool coin() { return engine() % 2 == 0; }
  float value() { return std::normal_distribution<float>()(engine); }
};

template <class T>
DTypeCode code_of() {
  if (std::is_same_v<T, __nv_bfloat16>) return {DTypeCode::kBFloat, 16, 1};
  const bool is_signed_integer = std::is_integral_v<T>;
  return {is_signed_integer ? DTypeCode::kInt : DTypeCode::kFloat, 8 * sizeof(T), 1};
}

/// A tensor of random strides in a buffer of its own, `offset` elements past a 16-byte boundary.
template <class T>
struct Tensor {
  std::vector<T> memory;
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;
  TensorArg arg;  // borrows them

  Tensor(Random& random, const char* name, std::vector<std::int64_t> shape)
      : sizes(std::move(shape)), strides(sizes.size(), 1) {
    std::vector<std::size_t> order(sizes.size() - 1);
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    if (random.coin()) std::shuffle(order.begin(), order.end(), random.engine);
    std::int64_t pitch = sizes.back() + random.one_of({0, 0, 0, 16 / sizeof(T), 1, 3});
    for (const std::size_t i : order) {
      strides[i] = pitch;
      pitch *= sizes[i];
    }
    memory.resize(static_cast<std::size_t>(pitch) + 64);
    for (T& one : memory) {
      if constexpr (!std::is_integral_v<T>) one = narrow<T>(random.value());
    }
    T* data = memory.data();
    while (reinterpret_cast<std::uintptr_t>(data) % 16 != 0) ++data;
    data += random.one_of({0, 0, 0, 16 / sizeof(T), 1, 2, 3});
    arg = {name, data, code_of<T>(), kCudaDevice, 0, sizes, strides, {}};
  }
  Tensor(const Tensor&) = delete;

  T& at(const std::vector<std::int64_t>& index) {
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < index.size(); ++i) offset += index[i] * arg.strides[i];
    return static_cast<T*>(arg.data)[offset];
  }
};

template <class T>
bool is_same(T a, T b) {
  const float x = widen(a);
  const float y = widen(b);
  return x == y || (x != x && y != y);
}

struct Options {
  std::int64_t rotary_dim, unsqueeze_dim;
  bool interleaved, conj, is_in_place, is_cached;
};

/// What `out` must hold where it was `before` and x is rotated.
template <class T, class S>
bool is_right(Tensor<T>& x, Tensor<T>& out, Tensor<S>& cos, Tensor<S>& sin,
              Tensor<std::int64_t>& positions, const Options& options, const std::vector<T>& held) {
  const std::int64_t half = options.rotary_dim / 2;
  const std::int64_t heads_dim = options.unsqueeze_dim;
  const std::vector<std::int64_t>& sizes = x.arg.sizes;
  std::size_t element = 0;
  for (std::int64_t b = 0; b < sizes[0]; ++b) {
    for (std::int64_t i = 0; i < sizes[1]; ++i) {
      for (std::int64_t j = 0; j < sizes[2]; ++j, element += static_cast<std::size_t>(sizes[3])) {
        const std::int64_t token = heads_dim == 1 ? j : i;
        const std::int64_t position = positions.at({b % positions.arg.sizes[0], token});
        const bool is_in_table = position >= 0 && position < kTableRows;
        for (std::int64_t column = 0; column < sizes[3]; ++column) {
          const T* row = held.data() + element;
          T expected = row[column];
          if (column < options.rotary_dim) {
            const std::int64_t pair = options.interleaved ? column / 2 : column % half;
            const bool is_first = options.interleaved ? column % 2 == 0 : column < half;
            const float x1 = widen(row[options.interleaved ? 2 * pair : pair]);
            const float x2 = widen(row[options.interleaved ? 2 * pair + 1 : pair + half]);
            float c = NAN;
            float s = NAN;
            if (options.is_cached && is_in_table) {
              c = widen(cos.at({position, pair}));
              s = widen(sin.at({position, pair}));
            } else if (!options.is_cached) {
              c = widen(cos.at({b % cos.arg.sizes[0], token, pair}));
              s = widen(sin.at({b % sin.arg.sizes[0], token, pair}));
            }
            if (options.conj) s = -s;
            expected = narrow<T>(is_first ? x1 * c - x2 * s : x2 * c + x1 * s);
          }
          if (!is_same(out.at({b, i, j, column}), expected)) return false;
        }
      }
    }
  }
  return true;
}

template <class T>
std::vector<T> values_of(Tensor<T>& x) {
  std::vector<T> values;
  for (std::int64_t b = 0; b < x.arg.sizes[0]; ++b) {
    for (std::int64_t i = 0; i < x.arg.sizes[1]; ++i) {
      for (std::int64_t j = 0; j < x.arg.sizes[2]; ++j) {
        for (std::int64_t c = 0; c < x.arg.sizes[3]; ++c) values.push_back(x.at({b, i, j, c}));
      }
    }
  }
  return values;
}

template <class T, class S>
bool runs_right(Random& random) {
  const std::int64_t width = random.one_of({2, 4, 6, 8, 16, 20, 32, 40, 64, 96, 128, 134, 1100});
  const std::int64_t tokens = random.one_of({1, 3, 17});
  const std::int64_t batch = random.one_of({1, 2});
  const bool are_heads_first = random.coin();
  const bool is_partial = width >= 4 && random.one_of({0, 0, 1}) == 1;
  const Options options{is_partial ? width / 4 * 2 : width,
                        are_heads_first ? 1 : 2,
                        random.coin(),
                        random.coin(),
                        random.coin(),
                        random.coin()};
  const auto shape = [&](std::int64_t heads) -> std::vector<std::int64_t> {
    if (are_heads_first) return {batch, heads, tokens, width};
    return {batch, tokens, heads, width};
  };
  const std::vector<std::int64_t> q_shape = shape(random.one_of({1, 4, 5, 9}));
  const std::vector<std::int64_t> k_shape = shape(random.one_of({1, 2, 7}));
  const std::int64_t table_width = options.rotary_dim / random.one_of({1, 2});
  const std::int64_t table_batch = random.one_of({1, batch});
  const std::vector<std::int64_t> table_shape =
      options.is_cached ? std::vector<std::int64_t>{kTableRows, table_width}
                        : std::vector<std::int64_t>{table_batch, tokens, table_width};
  Tensor<T> q(random, "q", q_shape), k(random, "k", k_shape);
  Tensor<T> q_new(random, "q_out", q_shape), k_new(random, "k_out", k_shape);
  Tensor<S> cos(random, "cos", table_shape), sin(random, "sin", table_shape);
  Tensor<std::int64_t> positions(random, "positions", {table_batch, tokens});
  for (std::int64_t& one : positions.memory)
    one = random.one_of({0, 3, 7, 11, 19, 20, -1, 1 << 30});

  Tensor<T>& q_out = options.is_in_place ? q : q_new;
  Tensor<T>& k_out = options.is_in_place ? k : k_new;
  const std::vector<T> q_held = values_of(q), k_held = values_of(k);
  const Params params =
      checked_embedding({"rotary_embedding", &q_out.arg, &k_out.arg, &q.arg, &k.arg, &cos.arg,
                         &sin.arg, options.is_cached ? &positions.arg : nullptr, options.rotary_dim,
                         options.interleaved, options.conj, options.unsqueeze_dim});
  if (cuda::launch(params, nullptr) != cudaSuccess) return false;
  const bool is_right_q = is_right(q, q_out, cos, sin, positions, options, q_held);
  const bool is_right_k = is_right(k, k_out, cos, sin, positions, options, k_held);
  if (is_right_q && is_right_k) return true;
  std::printf("wrong: %s %s, size %zu, columns %ld of %ld, flags %d%d%d%d\n",
              list_text(q_shape).c_str(), list_text(k_shape).c_str(), sizeof(T),
              static_cast<long>(options.rotary_dim), static_cast<long>(width), options.interleaved,
              options.conj, options.is_in_place, options.is_cached);
  return false;
}

}  // namespace

int main() {
  Random random;
  int cases = 0;
  int wrong = 0;
  for (int i = 0; i < 60; ++i) {
    for (const bool is_right :
         {runs_right<float, float>(random), runs_right<__half, float>(random),
          runs_right<__half, __half>(random), runs_right<__nv_bfloat16, float>(random),
          runs_right<__nv_bfloat16, __nv_bfloat16>(random)}) {
      ++cases;
      wrong += is_right ? 0 : 1;
    }
  }
  std::printf("cases %d wrong %d\n", cases, wrong);
}
