// SPDX-License-Identifier: Apache-2.0
// Features of points from a multiresolution hash grid (Müller et al. 2022, arXiv 2201.05989, section 3), and the
// gradient with respect to the table.
//
// A point's cell has four edges along x. Their table entries and weights are computed for a block of points with vector
// instructions. Features are then read or accumulated point by point: scalar loads are no slower than gather
// instructions, and points that share an entry must be accumulated one after the other.
#pragma once

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

// `features` points to the level's columns of the block's first point; consecutive points are `stride` floats apart. So are
// the axes of `slopes`, which gets the features' derivatives with respect to the points in the unit cube if it is not null.
template <bool DENSE>
void interpolate(const Cells& cells, int n, float resolution, const float* table, float* __restrict features,
                 size_t stride, float* __restrict slopes) {
  for (int i = 0; i < n; ++i, features += stride) {
    if (!DENSE && i + PREFETCH < n)
      for (int e = 0; e < EDGES; ++e)
        for (int side = 0; side < 2; ++side)
          __builtin_prefetch(table + 2 * cells.entry<DENSE>(side, e, i + PREFETCH));
    const float x = cells.far_weight[i];
    feature_pair change[EDGES], along[EDGES];  // along each edge: the difference of its corners, and the value at x
    for (int e = 0; e < EDGES; ++e) {
      const feature_pair near = load_pair(table + 2 * cells.entry<DENSE>(0, e, i));
      change[e] = load_pair(table + 2 * cells.entry<DENSE>(1, e, i)) - near;
      along[e] = near + x * change[e];
    }
    feature_pair sum{};
    for (int e = 0; e < EDGES; ++e) sum += cells.weight[e][i] * along[e];
    store_pair(features, sum);
    if (!slopes) continue;
    const float y = cells.weight[1][i] + cells.weight[3][i], z = cells.weight[2][i] + cells.weight[3][i];
    feature_pair by_x{};
    for (int e = 0; e < EDGES; ++e) by_x += cells.weight[e][i] * change[e];
    store_pair(slopes, resolution * by_x);
    store_pair(slopes + stride, resolution * ((1.0f - z) * (along[1] - along[0]) + z * (along[3] - along[2])));
    store_pair(slopes + 2 * stride, resolution * ((1.0f - y) * (along[2] - along[0]) + y * (along[3] - along[1])));
    slopes += 3 * stride;
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
