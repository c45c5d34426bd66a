// SPDX-License-Identifier: Apache-2.0
// Features of points from a multiresolution hash grid (Müller et al. 2022, arXiv 2201.05989, section 3), and the
// gradient with respect to the table.
//
// A point's cell has four edges along x. Their table entries and weights are computed for a block of points with vector
// instructions. Gradients are then accumulated point by point, as points may share an entry.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

constexpr int EDGES = 4;
constexpr int POINTS = 128;   // in a block, a multiple of W: its cells fit into the L1 cache
constexpr int PREFETCH = 16;  // forward: prefetch distance in points, as a level's entries may exceed the L2 cache

typedef float feature_pair __attribute__((vector_size(8)));

inline feature_pair load_pair(const float* p) {
  feature_pair v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store_pair(float* p, feature_pair v) { std::memcpy(p, &v, sizeof v); }

struct Level {
  float resolution;
  bool dense;  // every corner of the grid has its own entry
  uint32_t mask, y_step, z_step;

  Level(int32_t cells, size_t table_size) : resolution(static_cast<float>(cells)) {
    const uint32_t side = static_cast<uint32_t>(cells) + 1;
    dense = double(side) * side * side <= double(table_size);
    mask = static_cast<uint32_t>(table_size - 1);
    y_step = dense ? side : 2654435761u;
    z_step = dense ? side * side : 805459861u;
  }
};

// The cells of a block's points. A corner's table entry combines the x part of its side with the y and z part of its
// edge: by addition in a dense level, by exclusive or in a hashed one.
struct Cells {
  alignas(64) uint32_t x[2][POINTS];
  alignas(64) uint32_t edge[EDGES][POINTS];
  alignas(64) float weight[EDGES][POINTS];
  alignas(64) float far_weight[POINTS];  // of an edge's second corner; the first corner's is 1 minus this

  template <bool DENSE>
  size_t entry(int side, int e, int i) const {
    return DENSE ? x[side][i] + edge[e][i] : x[side][i] ^ edge[e][i];
  }
};

inline vu to_uint(vf v) { return (vu) __builtin_convertvector(v, vi); }

// Finds the cells of n points. `points` has one array for each axis, from which whole vectors are read.
template <bool DENSE>
void find_cells(const Level& level, const float* const points[3], int n, Cells& cells) {
  for (int i = 0; i < n; i += W) {
    vu cell[3];
    vf fraction[3];
    for (int axis = 0; axis < 3; ++axis) {
      // NaN passes through here; the next line puts it into the last cell.
      const vf scaled = vmax(vf{}, vmin(splat(level.resolution), load(points[axis] + i) * level.resolution));
      cell[axis] = to_uint(vmin(scaled, splat(level.resolution - 1.0f)));
      fraction[axis] = scaled - __builtin_convertvector((vi)cell[axis], vf);
    }
    const auto put = [&](uint32_t* to, vu v) { std::memcpy(to + i, &v, sizeof v); };
    put(cells.x[0], DENSE ? cell[0] : cell[0] & level.mask);
    put(cells.x[1], DENSE ? cell[0] + 1u : (cell[0] + 1u) & level.mask);
    store(cells.far_weight + i, fraction[0]);
    const vu y = cell[1] * level.y_step, z = cell[2] * level.z_step;
    for (int e = 0; e < EDGES; ++e) {
      const vu edge_y = e & 1 ? y + level.y_step : y, edge_z = e & 2 ? z + level.z_step : z;
      put(cells.edge[e], DENSE ? edge_y + edge_z : (edge_y ^ edge_z) & level.mask);
      const vf weight_y = e & 1 ? fraction[1] : 1.0f - fraction[1], weight_z = e & 2 ? fraction[2] : 1.0f - fraction[2];
      store(cells.weight[e] + i, weight_y * weight_z);
    }
  }
}

// Pairs of features of so many points as are interpolated together: gather instructions are faster than scalar loads with
// AVX-512, and slower without it.
#if defined(__AVX512F__)
typedef vf Pairs;
typedef uint32_t Entries __attribute__((vector_size(2 * W)));

inline Pairs load_pairs(const float* table, Entries entries) { return (vf)_mm512_i32gather_pd((__m256i)entries, table, 8); }

inline Pairs both(const float* values) {
  const __m512 v = _mm512_castps256_ps512(_mm256_loadu_ps(values));
  return (vf)_mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), v);
}
#else
typedef feature_pair Pairs;
typedef uint32_t Entries;

inline Pairs load_pairs(const float* table, Entries entry) { return load_pair(table + 2 * size_t(entry)); }

inline Pairs both(const float* value) { return Pairs{*value, *value}; }
#endif
constexpr int PAIRS = sizeof(Pairs) / sizeof(feature_pair);

// `features` points to the level's columns of the block's first point; consecutive points are `stride` floats apart. So are
// the axes of `slopes`, which gets the features' derivatives with respect to the points in the unit cube if it is not null.
template <bool DENSE>
void interpolate(const Cells& cells, int n, float resolution, const float* table, float* __restrict features,
                 size_t stride, float* __restrict slopes) {
  const auto entries = [&](int side, int e, int i) {
    Entries x, edge;
    std::memcpy(&x, cells.x[side] + i, sizeof x);
    std::memcpy(&edge, cells.edge[e] + i, sizeof edge);
    return DENSE ? x + edge : x ^ edge;
  };
  for (int i = 0; i < n; i += PAIRS, features += PAIRS * stride) {
    if (PAIRS == 1 && !DENSE && i + PREFETCH < n)
      for (int e = 0; e < EDGES; ++e)
        for (int side = 0; side < 2; ++side) __builtin_prefetch(table + 2 * cells.entry<DENSE>(side, e, i + PREFETCH));
    const int count = std::min(PAIRS, n - i);
    const auto put = [&](float* to, size_t to_stride, Pairs pairs) {
      if (count == PAIRS && (PAIRS == 1 || to_stride == 2)) {
        std::memcpy(to, &pairs, sizeof pairs);
        return;
      }
      alignas(64) float values[2 * PAIRS];
      std::memcpy(values, &pairs, sizeof pairs);
      for (int l = 0; l < count; ++l) store_pair(to + l * to_stride, load_pair(values + 2 * l));
    };
    const Pairs x = both(cells.far_weight + i);
    Pairs weight[EDGES], change[EDGES], along[EDGES];  // along each edge: the difference of its corners, and the value at x
    Pairs total{};
    for (int e = 0; e < EDGES; ++e) {
      const Pairs near = load_pairs(table, entries(0, e, i));
      change[e] = load_pairs(table, entries(1, e, i)) - near;
      along[e] = near + x * change[e];
      weight[e] = both(cells.weight[e] + i);
      total += weight[e] * along[e];
    }
    put(features, stride, total);
    if (!slopes) continue;
    const Pairs y = weight[1] + weight[3], z = weight[2] + weight[3];
    Pairs by_x{};
    for (int e = 0; e < EDGES; ++e) by_x += weight[e] * change[e];
    put(slopes, 3 * stride, resolution * by_x);
    put(slopes + stride, 3 * stride, resolution * ((1.0f - z) * (along[1] - along[0]) + z * (along[3] - along[2])));
    put(slopes + 2 * stride, 3 * stride, resolution * ((1.0f - y) * (along[2] - along[0]) + y * (along[3] - along[1])));
    slopes += PAIRS * 3 * stride;
  }
}

// Without __restrict, the corners' entries would be reloaded after every store.
template <bool DENSE>
void add_gradient(const Cells& cells, int n, const float* v_features, size_t stride, float* __restrict v_table) {
  for (int i = 0; i < n; ++i, v_features += stride) {
    const feature_pair v = load_pair(v_features);
    const float far_weight = cells.far_weight[i];
    const feature_pair sides[2] = {(1.0f - far_weight) * v, far_weight * v};
    for (int e = 0; e < EDGES; ++e)
      for (int side = 0; side < 2; ++side) {
        float* const entry = v_table + 2 * cells.entry<DENSE>(side, e, i);
        store_pair(entry, load_pair(entry) + cells.weight[e][i] * sides[side]);
      }
  }
}

}  // namespace
}  // namespace IMG3D_ISA
