// SPDX-License-Identifier: Apache-2.0
// Dense layers of small networks, without biases. Each sample's activations are a row, and vectors run along rows, so
// that neither the forward nor the backward pass needs a sum across lanes. In float32; dense_layers_bfloat16.h has the
// same interface.
#pragma once

#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

constexpr int ROWS_AT_A_TIME = 8;  // callers provide whole groups of rows

using Activation = float;  // of a hidden layer

inline vf load_activations(const Activation* p) { return load(p); }

struct MatrixUnit {};  // what threads hold while they call the functions below: nothing

template <int MAX_INPUTS, int OUTPUTS>
struct Weights {
  int inputs = MAX_INPUTS;  // in use
  alignas(64) float rows[MAX_INPUTS][OUTPUTS] = {};

  void set(int input, int output, float weight) { rows[input][output] = weight; }
};

// y[row] = finish(begin(row) + sum over inputs k of x[row][k] * weights[k]) for rows of OUT floats.
// `begin(row, column)` and `finish(row, column, v)` return vectors.
template <int MAX_INPUTS, int OUT, typename Begin, typename Finish>
inline void multiply(const float* x, int x_stride, const Weights<MAX_INPUTS, OUT>& weights, float* __restrict y,
                     int rows, const Begin& begin, const Finish& finish) {
  constexpr int V = OUT / W < 4 ? OUT / W : 4;                       // vectors of a row at a time
  constexpr int S = W == 16 ? (V == 4 ? 4 : 8) : (V == 4 ? 2 : 4);  // rows at a time: as many as registers hold
  static_assert(OUT % (V * W) == 0 && ROWS_AT_A_TIME % S == 0);
  for (int row = 0; row < rows; row += S)
    for (int column = 0; column < OUT; column += V * W) {
      vf sums[S][V];
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[s][v] = begin(row + s, column + v * W);
      const float* const from = x + row * x_stride;
      for (int k = 0; k < weights.inputs; ++k) {
        vf weight[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) weight[v] = load(weights.rows[k] + column + v * W);
#pragma GCC unroll 8
        for (int s = 0; s < S; ++s) {
          const vf activation = splat(from[s * x_stride + k]);
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) sums[s][v] += activation * weight[v];
        }
      }
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          store(y + (row + s) * OUT + column + v * W, finish(row + s, column + v * W, sums[s][v]));
    }
}

// Accumulates the gradient of the weights: g[k] += sum over rows of x[row][k] * v[row], for rows of 64 floats in g and v.
inline void add_weight_gradient(const float* x, int x_stride, int K, const float* v, int rows, float* __restrict g) {
  constexpr int OUT = 64, V = 4, AT_A_TIME = W == 16 ? 4 : 2;
  constexpr int TILE = 32;  // rows that stay in the L1 cache, with x and g
  for (int first = 0; first < rows; first += TILE) {
    const int last = first + TILE < rows ? first + TILE : rows;
    for (int k = 0; k < K; k += AT_A_TIME)
      for (int column = 0; column < OUT; column += V * W) {
        vf sums[AT_A_TIME][V];
#pragma GCC unroll 4
        for (int i = 0; i < AT_A_TIME; ++i)
#pragma GCC unroll 4
          for (int j = 0; j < V; ++j) sums[i][j] = load(g + (k + i) * OUT + column + j * W);
        for (int row = first; row < last; ++row) {
          vf gradient[V];
#pragma GCC unroll 4
          for (int j = 0; j < V; ++j) gradient[j] = load(v + row * OUT + column + j * W);
#pragma GCC unroll 4
          for (int i = 0; i < AT_A_TIME; ++i) {
            const vf activation = splat(x[row * x_stride + k + i]);
#pragma GCC unroll 4
            for (int j = 0; j < V; ++j) sums[i][j] += activation * gradient[j];
          }
        }
#pragma GCC unroll 4
        for (int i = 0; i < AT_A_TIME; ++i)
#pragma GCC unroll 4
          for (int j = 0; j < V; ++j) store(g + (k + i) * OUT + column + j * W, sums[i][j]);
      }
  }
}

}  // namespace
}  // namespace IMG3D_ISA
