// SPDX-License-Identifier: Apache-2.0
// Dense layers whose products have bfloat16 factors, summed in float32: dense_layers.h for processors with AMX or with
// AVX-512's dot products of bfloat16 pairs. Hidden activations are stored rounded, others are rounded as they are read.
#pragma once

#include <type_traits>

#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

static_assert(W == 16);

constexpr int ROWS_AT_A_TIME = 16;    // callers provide whole groups of rows
constexpr int INPUTS_AT_A_TIME = 16;  // rows of activations are whole groups of these; the unused ones are finite

using Activation = uint16_t;  // of a hidden layer: bfloat16

inline vf load_activations(const Activation* p) {
  __m256i v;
  std::memcpy(&v, p, sizeof v);
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16);
}

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

inline void store_two_rounded(uint16_t* to, vf first, vf second) {
  const __m512bh rounded = _mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  std::memcpy(to, &rounded, sizeof rounded);
}

#ifdef __AMX_BF16__
// Sums of products for multiply_tiles, for one group of rows and four groups of columns or the other way round. Macros, as
// the intrinsics want the registers' numbers as literals.
#define MULTIPLY_BY_COLUMNS(LEFT, RIGHT)       \
  {                                            \
    _tile_loadd(LEFT, from, left_stride);      \
    _tile_loadd(RIGHT, right, STRIDE);         \
    _tile_dpbf16ps(0, LEFT, RIGHT);            \
    if constexpr (OUT > 16) {                  \
      _tile_loadd(RIGHT, right + 16, STRIDE);  \
      _tile_dpbf16ps(1, LEFT, RIGHT);          \
    }                                          \
    if constexpr (OUT > 32) {                  \
      _tile_loadd(RIGHT, right + 32, STRIDE);  \
      _tile_dpbf16ps(2, LEFT, RIGHT);          \
      _tile_loadd(RIGHT, right + 48, STRIDE);  \
      _tile_dpbf16ps(3, LEFT, RIGHT);          \
    }                                          \
  }
#define MULTIPLY_BY_ROWS(LEFT, RIGHT)                        \
  {                                                          \
    _tile_loadd(RIGHT, right, STRIDE);                       \
    _tile_loadd(LEFT, from, left_stride);                    \
    _tile_dpbf16ps(0, LEFT, RIGHT);                          \
    _tile_loadd(LEFT, from + 16 * left_stride, left_stride); \
    _tile_dpbf16ps(1, LEFT, RIGHT);                          \
    _tile_loadd(LEFT, from + 32 * left_stride, left_stride); \
    _tile_dpbf16ps(2, LEFT, RIGHT);                          \
    _tile_loadd(LEFT, from + 48 * left_stride, left_stride); \
    _tile_dpbf16ps(3, LEFT, RIGHT);                          \
  }

// sums [rows, OUT] = left [rows, pairs] * right [pairs, OUT], of bfloat16 pairs. `left_stride` is in bytes.
template <int OUT>
inline void multiply_tiles(const void* left, int left_stride, int rows, const uint32_t* weights, int n_pairs, float* sums) {
  constexpr int STRIDE = OUT * 4;
  asm volatile("" ::: "memory");
  for (const auto* group = static_cast<const uint8_t*>(left); rows > 0;) {
    // Four sums at a time, as each product has to wait for the one before it in the same sum.
    const bool by_rows = OUT == 16 && rows >= 64;
    const auto* from = group;
    const uint32_t* right = weights;
    int pairs = n_pairs;
    _tile_zero(0);
    if (OUT > 16 || by_rows) _tile_zero(1);
    if (OUT > 32 || by_rows) {
      _tile_zero(2);
      _tile_zero(3);
    }
    if (by_rows) {
      for (; pairs >= 16; pairs -= 16, from += 64, right += 16 * OUT) MULTIPLY_BY_ROWS(4, 5)
      if (pairs > 0) MULTIPLY_BY_ROWS(6, 7)
    } else {
      for (; pairs >= 16; pairs -= 16, from += 64, right += 16 * OUT) MULTIPLY_BY_COLUMNS(4, 5)
      if (pairs > 0) MULTIPLY_BY_COLUMNS(6, 7)
    }
    const int next = by_rows ? 16 * OUT : 16;  // from one sum to the next
    _tile_stored(0, sums, STRIDE);
    if (OUT > 16 || by_rows) _tile_stored(1, sums + next, STRIDE);
    if (OUT > 32 || by_rows) {
      _tile_stored(2, sums + 2 * next, STRIDE);
      _tile_stored(3, sums + 3 * next, STRIDE);
    }
    const int done = by_rows ? 64 : 16;
    rows -= done, group += done * left_stride, sums += done * OUT;
  }
}
#undef MULTIPLY_BY_COLUMNS
#undef MULTIPLY_BY_ROWS
#else
// The same for groups of rows that registers hold.
template <int OUT>
inline void multiply_tiles(const void* left, int left_stride, int rows, const uint32_t* right, int pairs, float* sums) {
  constexpr int V = OUT / W, S = V == 4 ? 4 : 8;
  for (int row = 0; row < rows; row += S) {
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

// y[row] = finish(begin(row) + sum over inputs k of x[row][k] * weights[k]) for rows of OUT values.
// `begin(row, column)` and `finish(row, column, v)` return vectors. X and Y are float or Activation.
template <typename X, int MAX_INPUTS, int OUT, typename Y, typename Begin, typename Finish>
inline void multiply(const X* x, int x_stride, const Weights<MAX_INPUTS, OUT>& weights, Y* __restrict y, int rows,
                     const Begin& begin, const Finish& finish) {
  static_assert(OUT == 16 || OUT == 32 || OUT == 64);
  constexpr bool IS_ROUNDED = std::is_same_v<X, Activation>;
  constexpr int CHUNK = 4 * ROWS_AT_A_TIME;  // rows whose factors are stored long before the tiles load them
  alignas(64) uint16_t left[IS_ROUNDED ? 1 : CHUNK][MAX_INPUTS];
  alignas(64) float sums[CHUNK * OUT];
  const int inputs = padded(weights.inputs, INPUTS_AT_A_TIME);
  for (int first = 0; first < rows; first += CHUNK) {
    const int count = rows - first < CHUNK ? rows - first : CHUNK;
    if constexpr (IS_ROUNDED) {
      multiply_tiles<OUT>(x + first * x_stride, x_stride * 2, count, weights.pairs[0], inputs / 2, sums);
    } else {
      for (int row = 0; row < count; ++row) {
        const float* const from = x + (first + row) * x_stride;
        int k = 0;
        for (; k + 2 * W <= inputs; k += 2 * W) store_two_rounded(left[row] + k, load(from + k), load(from + k + W));
        if (k < inputs) store_rounded(left[row] + k, load(from + k));
      }
      multiply_tiles<OUT>(left, sizeof left[0], count, weights.pairs[0], inputs / 2, sums);
    }
    for (int row = 0; row < count; ++row) {
      const auto finished = [&](int column) {
        return finish(first + row, column, begin(first + row, column) + load(sums + row * OUT + column));
      };
      Y* const to = y + (first + row) * OUT;
      if constexpr (std::is_same_v<Y, Activation>)
        for (int column = 0; column < OUT; column += 2 * W) store_two_rounded(to + column, finished(column), finished(column + W));
      else
        for (int column = 0; column < OUT; column += W) store(to + column, finished(column));
    }
  }
}

// W values of each of two rows, as pairs, the first row's in the low halves. Without the second row, it counts as zeros.
template <typename X>
inline __m512i pairs_of(const X* first, const X* second) {
  alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  __m512i both;
  if constexpr (std::is_same_v<X, Activation>) {
    __m256i halves[2] = {};
    std::memcpy(&halves[0], first, sizeof halves[0]);
    if (second) std::memcpy(&halves[1], second, sizeof halves[1]);
    both = _mm512_inserti64x4(_mm512_castsi256_si512(halves[0]), halves[1], 1);
  } else {
    both = (__m512i)_mm512_cvtne2ps_pbh((__m512)(second ? load(second) : vf{}), (__m512)load(first));
  }
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
// have whole vectors, and rows of 64 values in g and v. X and V are float or Activation.
template <typename X, typename V>
inline void add_weight_gradient(const X* x, int x_stride, int K, const V* v, int rows, float* __restrict g) {
  constexpr int OUT = 64, TILE = 32, GROUP = 4 * TILE;  // rows of a product, and rows that stay in the caches
  alignas(64) uint32_t right[GROUP / 2][OUT];                  // pairs of rows
  alignas(64) float sums[16 * OUT];
  for (int first = 0; first < rows; first += GROUP) {
    const int count = rows - first < GROUP ? rows - first : GROUP, tiles = (count + TILE - 1) / TILE;
    const auto pairs_at = [&](const auto* values, int stride, int pair, int column) {
      const int row = 2 * pair;
      const auto* const from = values + (first + row) * stride + column;
      return row < count ? pairs_of(from, row + 1 < count ? from + stride : nullptr) : _mm512_setzero_si512();
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
      multiply_tiles<OUT>(left, sizeof left[0], W, right[0], tiles * TILE / 2, sums);
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
