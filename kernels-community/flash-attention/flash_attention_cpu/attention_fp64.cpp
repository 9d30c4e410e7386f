// SPDX-License-Identifier: Apache-2.0
// Attention in fp64, the reference of the other dtypes: one pass over the keys of a row.
#include <algorithm>
#include <cmath>

#include "flash_attention_cpu/attention_cpu.h"
#include "flash_attention_cpu/row_source.h"

namespace kernelhub::flash_attention::cpu {
namespace {

void load_query(const Params& params, const Piece& piece, RowOf row, double* q) {
  const double* from =
      static_cast<const double*>(params.q) + element_of(params.q_strides, piece.sequence, row);
  std::copy(from, from + params.head_dim, q);
  const Rotary& rotary = params.rotary;
  if (rotary.pairs == 0) return;
  const std::int64_t position =
      rotary.first_positions[piece.sequence.index] + (rotary.advances ? row.query : 0);
  rotate_fp64(rotary, position, q);
}

double score_of(const Params& params, const Piece& piece, RowOf row, const double* q,
                std::int64_t key) {
  const double* k =
      static_cast<const double*>(params.k) + key_element(params, piece, params.k_strides, key);
  double score = 0.0;
  for (std::int64_t i = 0; i < params.head_dim; ++i) score += q[i] * k[i];
  score *= params.scale;
  if (params.softcap > 0.0) score = params.softcap * std::tanh(score / params.softcap);
  if (params.alibi_slopes != nullptr) {
    const Sequence& sequence = piece.sequence;
    const double slope = static_cast<double>(
        params.alibi_slopes[sequence.index * params.alibi_batch_stride + row.head]);
    const std::int64_t distance = row.query + sequence.k_rows - sequence.q_rows - key;
    score -= slope * static_cast<double>(distance < 0 ? -distance : distance);
  }
  return score;
}

void attend_row(const Params& params, const Piece& piece, RowOf row) {
  double* const out =
      static_cast<double*>(params.out) + element_of(params.out_strides, piece.sequence, row);
  const KeyRange keys = visible_keys(params, piece.sequence, row.query);
  double values[kMaxHeadDim] = {};
  double q[kMaxHeadDim];
  double largest = -HUGE_VAL;
  double sum = 0.0;
  if (keys.begin < keys.end) load_query(params, piece, row, q);
  for (std::int64_t key = keys.begin; key < keys.end; ++key) {
    const double score = score_of(params, piece, row, q, key);
    if (score > largest) {
      const double correction = std::exp(largest - score);
      for (std::int64_t i = 0; i < params.head_dim_v; ++i) values[i] *= correction;
      sum *= correction;
      largest = score;
    }
    const double weight = std::exp(score - largest);
    sum += weight;
    const double* v =
        static_cast<const double*>(params.v) + key_element(params, piece, params.v_strides, key);
    for (std::int64_t i = 0; i < params.head_dim_v; ++i) values[i] += weight * v[i];
  }
  float* const lse = lse_of(params, piece.sequence, row);
  if (keys.begin >= keys.end) {
    std::fill(out, out + params.head_dim_v, 0.0);
    *lse = -HUGE_VALF;
    return;
  }
  double factor = 1.0;
  if (params.sinks != nullptr) {
    const double sink = static_cast<double>(params.sinks[row.head]);
    const double top = std::max(largest, sink);
    factor = std::exp(largest - top);
    sum = sum * factor + std::exp(sink - top);
    largest = top;
  }
  for (std::int64_t i = 0; i < params.head_dim_v; ++i) out[i] = values[i] * factor / sum;
  *lse = static_cast<float>(largest + std::log(sum));
}

}  // namespace

void rotate_fp64(const Rotary& rotary, std::int64_t position, double* row) {
  const double* cos = static_cast<const double*>(rotary.cos) + position * rotary.row_stride;
  const double* sin = static_cast<const double*>(rotary.sin) + position * rotary.row_stride;
  for (std::int64_t i = 0; i < rotary.pairs; ++i) {
    double& first = row[rotary.is_interleaved ? 2 * i : i];
    double& second = row[rotary.is_interleaved ? 2 * i + 1 : i + rotary.pairs];
    const double x = first;
    const double y = second;
    first = x * cos[i] - y * sin[i];
    second = x * sin[i] + y * cos[i];
  }
}

void attend_fp64(const Params& params, const Piece& piece) {
  for (std::int64_t head = 0; head < piece.heads; ++head) {
    const Piece one = head_of(piece, head);
    for (std::int64_t r = 0; r < one.rows; ++r) attend_row(params, one, row_of(params, one, r));
  }
}

}  // namespace kernelhub::flash_attention::cpu
