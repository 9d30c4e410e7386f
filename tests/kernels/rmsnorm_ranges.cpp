// SPDX-License-Identifier: Apache-2.0
// Which rows the backward of rmsnorm hands to an instruction set's code, which here only counts.
#include <cstdio>
#include <cstdlib>

#include "rmsnorm_cpu/rmsnorm_cpu.h"

namespace kernelhub::rmsnorm::cpu {
namespace {

std::int64_t calls = 0;
std::int64_t rows = 0;

void normalize(const Params&, std::int64_t, std::int64_t) {}
void differentiate(const BackwardParams&, std::int64_t begin, std::int64_t end) {
  ++calls;
  rows += end - begin;
}
void differentiate_chunk(const BackwardParams&, const primitives::ColumnChunks& chunks,
                         std::int64_t chunk) {
  ++calls;
  rows += chunks.end(chunk) - chunks.begin(chunk);
}
void add_up(const BackwardParams&, const primitives::ColumnChunks&, std::int64_t, std::int64_t) {}

}  // namespace

extern const Isa kScalar{normalize, differentiate, differentiate_chunk, add_up};
extern const Isa kAvx2 = kScalar;
extern const Isa kAvx512 = kScalar;
extern const Isa kFloat64 = kScalar;

void print(const char* what, std::int64_t row_count, void* grad_weight) {
  BackwardParams params{};
  params.grad_weight = grad_weight;
  params.rows = row_count;
  params.cols = 1;
  calls = rows = 0;
  run_backward(params, {});
  std::printf("%s %lld calls %lld rows\n", what, static_cast<long long>(calls),
              static_cast<long long>(rows));
}

}  // namespace kernelhub::rmsnorm::cpu

int main() {
  float grad_weight = 0.0f;
  constexpr std::int64_t kMany = (std::int64_t{1} << 33) + 5;
  kernelhub::rmsnorm::cpu::print("grad_x", kMany, nullptr);
  kernelhub::rmsnorm::cpu::print("grad_weight", kMany, &grad_weight);
}
