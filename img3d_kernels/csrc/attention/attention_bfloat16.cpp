// SPDX-License-Identifier: Apache-2.0
// Attention of bfloat16 tokens with AVX-512's dot products of bfloat16 pairs. Like flash attention (Dao et al. 2022,
// arXiv 2205.14135), it goes through the keys in blocks and keeps each query's largest score so far, so that the scores
// never leave the L1 cache. Scores, weights' sums and outputs are accumulated in float32; weights are rounded.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/parallel.h"
#include "common/simd.h"
#include "kernels.h"

namespace IMG3D_ISA {
namespace {

using img3d::AttentionInputs;

constexpr int SIDE = img3d::ATTENTION_CHANNELS;  // channels of a head, and keys in a block: both products are alike
constexpr int PAIRS = SIDE / 2, VECTORS = SIDE / W;
constexpr int ROWS = 48;                // queries at a time
constexpr int TILE = 6;                 // rows whose sums are in registers, TILE * VECTORS of 32
constexpr size_t BLOCK = PAIRS * SIDE;  // pairs of a packed block

static_assert(SIDE == 64 && W == 16 && ROWS % TILE == 0 && ROWS % W == 0);

// c = a · b for TILE rows, plus the former c times `factors` if these are given. Pairs of a row of `a` meet those in a
// row of `b`: a [TILE, PAIRS], b [PAIRS, SIDE], c [TILE, SIDE].
inline void multiply(const uint32_t* a, const uint32_t* b, float* c, const float* factors) {
  __m512 sums[TILE][VECTORS];
#pragma GCC unroll 6
  for (int row = 0; row < TILE; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v)
      sums[row][v] = factors ? (__m512)(load(c + row * SIDE + v * W) * factors[row]) : _mm512_setzero_ps();
  for (int pair = 0; pair < PAIRS; ++pair) {
    __m512bh right[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) right[v] = (__m512bh)_mm512_loadu_si512(b + pair * SIDE + v * W);
#pragma GCC unroll 6
    for (int row = 0; row < TILE; ++row) {
      const __m512bh left = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[row * PAIRS + pair]));
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) sums[row][v] = _mm512_dpbf16_ps(sums[row][v], left, right[v]);
    }
  }
#pragma GCC unroll 6
  for (int row = 0; row < TILE; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) store(c + row * SIDE + v * W, (vf)sums[row][v]);
}

// A head's keys and values in blocks of SIDE keys, the last one filled up with zeros. A block of keys has a row for each
// pair of channels, a block of values one for each pair of keys.
void pack(const AttentionInputs& in, size_t batch, size_t head, size_t block, uint32_t* keys, uint32_t* values) {
  const size_t first = block * SIDE, count = smaller(SIDE, in.n_keys - first), stride = in.n_heads * SIDE;
  const size_t at = ((batch * in.n_keys + first) * in.n_heads + head) * SIDE;
  alignas(64) uint32_t rows[SIDE][PAIRS] = {};
  for (size_t key = 0; key < count; ++key) std::memcpy(rows[key], in.keys + at + key * stride, sizeof rows[key]);
  for (int pair = 0; pair < PAIRS; ++pair)
    for (int key = 0; key < SIDE; ++key) keys[pair * SIDE + key] = rows[key][pair];
  alignas(64) uint16_t of_keys[SIDE][SIDE] = {};
  for (size_t key = 0; key < count; ++key) std::memcpy(of_keys[key], in.values + at + key * stride, sizeof of_keys[key]);
  for (int pair = 0; pair < PAIRS; ++pair)
    for (int c = 0; c < SIDE; ++c) values[pair * SIDE + c] = of_keys[2 * pair][c] | uint32_t(of_keys[2 * pair + 1][c]) << 16;
}

// ROWS queries of one head, or those that are left, against all its keys.
void attend(const AttentionInputs& in, size_t batch, size_t head, size_t first, const uint32_t* keys,
            const uint32_t* values) {
  const size_t stride = in.n_heads * SIDE, at = ((batch * in.n_queries + first) * in.n_heads + head) * SIDE;
  const int count = static_cast<int>(smaller(ROWS, in.n_queries - first));
  const float scale = LOG2_E / std::sqrt(static_cast<float>(SIDE));
  alignas(64) uint32_t queries[ROWS][PAIRS] = {};
  alignas(64) float scores[ROWS][SIDE], sums[ROWS][SIDE] = {};
  alignas(64) uint16_t weights[ROWS][SIDE];
  alignas(64) float highest[ROWS], total[ROWS] = {}, factor[ROWS];
  std::fill_n(highest, ROWS, -INFINITY);
  for (int row = 0; row < count; ++row) std::memcpy(queries[row], in.queries + at + row * stride, sizeof queries[row]);
  for (size_t block = 0; block * SIDE < in.n_keys; ++block) {
    for (int row = 0; row < ROWS; row += TILE) multiply(queries[row], keys + block * BLOCK, scores[row], nullptr);
    for (size_t key = in.n_keys - block * SIDE; key < SIDE; ++key)
      for (auto& row : scores) row[key] = -INFINITY;
    for (int row = 0; row < ROWS; ++row) {
      vf most = load(scores[row]);
      for (int v = 1; v < VECTORS; ++v) most = vmax(most, load(scores[row] + v * W));
      const float before = highest[row];
      highest[row] = std::max(before, _mm512_reduce_max_ps((__m512)most));
      factor[row] = (before - highest[row]) * scale;
      const Vec<VECTORS> exponents = each<VECTORS>(
          [&](int v) { return vmax((load(scores[row] + v * W) - highest[row]) * scale, splat(-126.0f)); });
      const Vec<VECTORS> powers = vexp2(exponents);
      for (int v = 0; v < VECTORS; ++v) store(scores[row] + v * W, powers[v]);
    }
    for (int row = 0; row < ROWS; row += W)
      store(factor + row, vexp2(Vec<1>{{vmax(load(factor + row), splat(-126.0f))}})[0]);
    for (int row = 0; row < ROWS; ++row) {
      vf sum_of_row{};
      for (int v = 0; v < VECTORS; ++v) {
        const vf power = load(scores[row] + v * W);
        sum_of_row += power;
        store_rounded(weights[row] + v * W, power);
      }
      total[row] = total[row] * factor[row] + _mm512_reduce_add_ps((__m512)sum_of_row);
    }
    for (int row = 0; row < ROWS; row += TILE)
      multiply(reinterpret_cast<const uint32_t*>(weights[row]), values + block * BLOCK, sums[row], factor + row);
  }
  for (int row = 0; row < count; ++row)
    for (int v = 0; v < VECTORS; ++v)
      store_rounded(in.found + at + row * stride + v * W, load(sums[row] + v * W) / total[row]);
}

}  // namespace

void attention_bfloat16(const AttentionInputs& in, img3d::Scratch& scratch) {
  const size_t heads = in.n_batch * in.n_heads, blocks = ceil_div(in.n_keys, SIDE), of_head = blocks * BLOCK;
  uint32_t* const keys = scratch.get<uint32_t>(2 * heads * of_head);
  uint32_t* const values = keys + heads * of_head;
  parallel(heads * blocks, [&](size_t task) {
    const size_t head = task / blocks, at = task * BLOCK;
    pack(in, head / in.n_heads, head % in.n_heads, task % blocks, keys + at, values + at);
  });
  const size_t groups = ceil_div(in.n_queries, ROWS);
  parallel(heads * groups, [&](size_t task) {
    const size_t head = task / groups;
    attend(in, head / in.n_heads, head % in.n_heads, task % groups * ROWS, keys + head * of_head, values + head * of_head);
  });
}

}  // namespace IMG3D_ISA
