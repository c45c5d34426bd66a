// SPDX-License-Identifier: Apache-2.0
// Dense layers whose products have bfloat16 factors, summed in float32: dense_layers.h for processors with AMX or with
// AVX-512's dot products of bfloat16 pairs. Activations are rounded as they are read.
#pragma once

#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

static_assert(W == 16);

constexpr int ROWS_AT_A_TIME = 16;    // callers provide whole groups of rows
constexpr int INPUTS_AT_A_TIME = 16;  // rows of activations are whole groups of these; the unused ones are finite

#ifdef __AMX_BF16__
// What threads hold while they call the functions below: the layout of the tile registers. Registers 0 to 3 have sums of
// 16 rows and 16 columns; 4 and 5 factors whose products are over 16 pairs, 6 and 7 over 8 pairs.
class MatrixUnit {
 public:
  MatrixUnit() {
    struct alignas(64) Layout {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 32, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 8};
    };
    const Layout layout;
    asm volatile("" ::: "memory");  // the intrinsics that read memory do not say so
    _tile_loadconfig(&layout);
  }
  ~MatrixUnit() { _tile_release(); }
  MatrixUnit(const MatrixUnit&) = delete;
  MatrixUnit& operator=(const MatrixUnit&) = delete;
};
#else
struct MatrixUnit {};
#endif

template <int MAX_INPUTS, int OUTPUTS>
struct Weights {
  int inputs = MAX_INPUTS;  // in use
  alignas(64) uint32_t pairs[MAX_INPUTS / 2][OUTPUTS] = {};  // of consecutive inputs, the first one in the low half

  void set(int input, int output, float weight) {
    uint32_t bits;
    std::memcpy(&bits, &weight, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // to the nearest, ties to even
    pairs[input / 2][output] |= input % 2 ? rounded << 16 : rounded;
  }
};

#ifdef __AMX_BF16__
// Loads factors into the registers LEFT and RIGHT, and adds their products to the sums. A macro, as the intrinsics want the
// registers' numbers as literals.
#define ADD_PRODUCTS(LEFT, RIGHT)                       \
  {                                                     \
    _tile_loadd(LEFT, from, left_stride);               \
    _tile_loadd(RIGHT, right, STRIDE);                  \
    _tile_dpbf16ps(0, LEFT, RIGHT);                     \
    if constexpr (OUT > 16) {                           \
      _tile_loadd(RIGHT, right + 16, STRIDE);           \
      _tile_dpbf16ps(1, LEFT, RIGHT);                   \
    }                                                   \
    if constexpr (OUT > 32) {                           \
      _tile_loadd(RIGHT, right + 32, STRIDE);           \
      _tile_dpbf16ps(2, LEFT, RIGHT);                   \
      _tile_loadd(RIGHT, right + 48, STRIDE);           \
      _tile_dpbf16ps(3, LEFT, RIGHT);                   \
    }                                                   \
  }

// sums [16, OUT] = left [16, pairs] * right [pairs, OUT], of bfloat16 pairs. `left_stride` is in bytes.
template <int OUT>
inline void multiply_tiles(const void* left, int left_stride, const uint32_t* right, int pairs, float* sums) {
  constexpr int STRIDE = OUT * 4;
  asm volatile("" ::: "memory");
  _tile_zero(0);
  if constexpr (OUT > 16) _tile_zero(1);
  if constexpr (OUT > 32) {
    _tile_zero(2);
    _tile_zero(3);
  }
  const auto* from = static_cast<const uint8_t*>(left);
  for (; pairs >= 16; pairs -= 16, from += 64, right += 16 * OUT) ADD_PRODUCTS(4, 5)
  if (pairs > 0) ADD_PRODUCTS(6, 7)
  _tile_stored(0, sums, STRIDE);
  if constexpr (OUT > 16) _tile_stored(1, sums + 16, STRIDE);
  if constexpr (OUT > 32) {
    _tile_stored(2, sums + 32, STRIDE);
    _tile_stored(3, sums + 48, STRIDE);
  }
}
#undef ADD_PRODUCTS
#else
// The same for 16 rows in groups that registers hold.
template <int OUT>
inline void multiply_tiles(const void* left, int left_stride, const uint32_t* right, int pairs, float* sums) {
  constexpr int V = OUT / W, S = V == 4 ? 4 : 8;
  for (int row = 0; row < ROWS_AT_A_TIME; row += S) {
    const auto* const from = static_cast<const uint8_t*>(left) + row * left_stride;
    __m512 found[S][V] = {};
    for (int pair = 0; pair < pairs; ++pair) {
      __m512bh weights[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) weights[v] = (__m512bh)_mm512_load_si512(right + pair * OUT + v * W);
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) {
        int32_t both;
        std::memcpy(&both, from + s * left_stride + pair * 4, sizeof both);
        const __m512bh activations = (__m512bh)_mm512_set1_epi32(both);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) found[s][v] = _mm512_dpbf16_ps(found[s][v], activations, weights[v]);
      }
    }
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(sums + (row + s) * OUT + v * W, (vf)found[s][v]);
  }
}
#endif

// y[row] = finish(begin(row) + sum over inputs k of x[row][k] * weights[k]) for rows of OUT floats.
// `begin(row, column)` and `finish(row, column, v)` return vectors.
template <int MAX_INPUTS, int OUT, typename Begin, typename Finish>
inline void multiply(const float* x, int x_stride, const Weights<MAX_INPUTS, OUT>& weights, float* __restrict y,
                     int rows, const Begin& begin, const Finish& finish) {
  static_assert(OUT == 16 || OUT == 32 || OUT == 64);
  constexpr int CHUNK = 4 * ROWS_AT_A_TIME;  // rows whose factors are stored long before the tiles load them
  alignas(64) uint16_t left[CHUNK][MAX_INPUTS];
  alignas(64) float sums[CHUNK * OUT];
  const int inputs = padded(weights.inputs, INPUTS_AT_A_TIME);
  for (int first = 0; first < rows; first += CHUNK) {
    const int count = rows - first < CHUNK ? rows - first : CHUNK;
    for (int row = 0; row < count; ++row) {
      const float* const from = x + (first + row) * x_stride;
      int k = 0;
      for (; k + 2 * W <= inputs; k += 2 * W)
        _mm512_store_si512(left[row] + k, (__m512i)_mm512_cvtne2ps_pbh((__m512)load(from + k + W), (__m512)load(from + k)));
      if (k < inputs) store_rounded(left[row] + k, load(from + k));
    }
    for (int row = 0; row < count; row += ROWS_AT_A_TIME)
      multiply_tiles<OUT>(left[row], sizeof left[0], weights.pairs[0], inputs / 2, sums + row * OUT);
    for (int row = 0; row < count; ++row)
      for (int column = 0; column < OUT; column += W)
        store(y + (first + row) * OUT + column,
              finish(first + row, column, begin(first + row, column) + load(sums + row * OUT + column)));
  }
}

// W values of each of two rows, as pairs, the first row's in the low halves.
inline __m512i pairs_of(vf first, vf second) {
  alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), both);
}

// A matrix of 16 by 16 words, transposed.
inline void transpose(__m512i (&rows)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Now lane l of rows[4 i + j] has column 4 l + j of the rows 4 i to 4 i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i even = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0x88),
                  odd = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0xdd);
    const __m512i more_even = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0x88),
                  more_odd = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0xdd);
    t[j] = _mm512_shuffle_i32x4(even, more_even, 0x88), t[8 + j] = _mm512_shuffle_i32x4(even, more_even, 0xdd);
    t[4 + j] = _mm512_shuffle_i32x4(odd, more_odd, 0x88), t[12 + j] = _mm512_shuffle_i32x4(odd, more_odd, 0xdd);
  }
  std::memcpy(rows, t, sizeof t);
}

// Accumulates the gradient of the weights: g[k] += sum over rows of x[row][k] * v[row], for K inputs of the rows x, which
// have whole vectors, and rows of 64 floats in g and v.
inline void add_weight_gradient(const float* x, int x_stride, int K, const float* v, int rows, float* __restrict g) {
  constexpr int OUT = 64, TILE = 32, GROUP = 4 * TILE;  // rows of a product, and rows that stay in the caches
  alignas(64) uint32_t right[GROUP / 2][OUT];                  // pairs of rows
  alignas(64) float sums[16 * OUT];
  for (int first = 0; first < rows; first += GROUP) {
    const int count = rows - first < GROUP ? rows - first : GROUP, tiles = (count + TILE - 1) / TILE;
    const auto pairs_at = [&](const float* values, int stride, int pair, int column) {
      const int row = 2 * pair;
      const float* const from = values + (first + row) * stride + column;
      return pairs_of(row < count ? load(from) : vf{}, row + 1 < count ? load(from + stride) : vf{});
    };
    for (int pair = 0; pair < tiles * TILE / 2; ++pair)
      for (int column = 0; column < OUT; column += W)
        _mm512_store_si512(right[pair] + column, pairs_at(v, OUT, pair, column));
    for (int k = 0; k < K; k += W) {
      alignas(64) uint32_t left[W][GROUP / 2];  // of W inputs, each with its pairs of rows
      for (int tile = 0; tile < tiles; ++tile) {
        __m512i columns[16];
        for (int i = 0; i < 16; ++i) columns[i] = pairs_at(x, x_stride, tile * 16 + i, k);
        transpose(columns);
        for (int i = 0; i < 16; ++i) _mm512_store_si512(left[i] + tile * 16, columns[i]);
      }
      multiply_tiles<OUT>(left, sizeof left[0], right[0], tiles * TILE / 2, sums);
      for (int i = 0; i < W && k + i < K; ++i)
        for (int column = 0; column < OUT; column += W) {
          float* const to = g + (k + i) * OUT + column;
          store(to, load(to) + load(sums + i * OUT + column));
        }
    }
  }
}

}  // namespace
}  // namespace IMG3D_ISA
