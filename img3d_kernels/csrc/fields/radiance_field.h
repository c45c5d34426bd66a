// SPDX-License-Identifier: Apache-2.0
// A radiance field: density and view-dependent colour from a hash grid and two small networks, evaluated for blocks of
// samples whose activations stay in the L2 cache. The architecture is that of Instant-NGP (Müller et al. 2022, arXiv
// 2201.05989, section 5.4), but for the inputs that depend on the ray alone (direction, appearance): their part of the
// colour network's first layer is computed once for each ray.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"
#ifdef __AVX512BF16__
#include "fields/dense_layers_bfloat16.h"
#else
#include "fields/dense_layers.h"
#endif
#include "fields/hash_grid.h"
#include "fields/marching.h"

namespace IMG3D_ISA {
namespace {

using img3d::FieldInputs;
using img3d::FieldRays;
using img3d::GEOMETRY;
using img3d::HIDDEN;

constexpr int BLOCK_SAMPLES = 512;
constexpr int ROOM = BLOCK_SAMPLES + ROWS_AT_A_TIME;  // rows of a block's arrays
constexpr int MAX_FEATURES = 2 * img3d::MAX_LEVELS;
constexpr int COLOR_STRIDE = 16;  // floats in a row of colours: a whole vector
constexpr int WEIGHT_ROWS = MAX_FEATURES + 2 * GEOMETRY + HIDDEN + 4;

static_assert(BLOCK_SAMPLES >= img3d::MAX_RAY_SAMPLES && BLOCK_SAMPLES % POINTS == 0);

// The weights of the networks' layers, each also transposed: one copy serves the forward pass, the other the backward pass.
struct Networks {
  int n_features, stride;  // the stride is n_features, rounded up to whole vectors
  Weights<MAX_FEATURES, HIDDEN> density1;
  Weights<HIDDEN, GEOMETRY> density2;
  Weights<GEOMETRY, HIDDEN> color1;
  Weights<HIDDEN, HIDDEN> color2;
  Weights<HIDDEN, COLOR_STRIDE> color3;
  Weights<HIDDEN, 16> density1_t;  // for a stride of 16
  Weights<HIDDEN, 32> wide_density1_t;
  Weights<GEOMETRY, HIDDEN> density2_t;
  Weights<HIDDEN, GEOMETRY> color1_t;
  Weights<HIDDEN, HIDDEN> color2_t;
  Weights<COLOR_STRIDE, HIDDEN> color3_t;

  explicit Networks(const FieldInputs& in) {
    n_features = static_cast<int>(2 * in.n_levels);
    stride = padded(n_features, 16);
    density1.inputs = n_features;
    color3_t.inputs = 3;
    const float* from = in.networks;
    const auto take = [&](int rows, const auto& set) {
      for (int row = 0; row < rows; ++row, from += HIDDEN)
        for (int h = 0; h < HIDDEN; ++h) set(row, h, from[h]);
    };
    take(n_features, [&](int k, int h, float w) {
      density1.set(k, h, w);
      if (stride == 16) density1_t.set(h, k, w);
      else wide_density1_t.set(h, k, w);
    });
    take(GEOMETRY, [&](int k, int h, float w) { density2.set(h, k, w), density2_t.set(k, h, w); });
    take(GEOMETRY, [&](int k, int h, float w) { color1.set(k, h, w), color1_t.set(h, k, w); });
    take(HIDDEN, [&](int k, int h, float w) { color2.set(k, h, w), color2_t.set(h, k, w); });
    take(3, [&](int k, int h, float w) { color3.set(h, k, w), color3_t.set(k, h, w); });
  }
};

inline vf zero_rows(int, int) { return vf{}; }
inline vf unchanged(int, int, vf v) { return v; }
inline vf relu(int, int, vf v) { return vmax(v, vf{}); }

// The activations of a block of samples, one row for each sample.
struct Block {
  alignas(64) float unit[3][ROOM];               // coordinates in the unit cube, by axis
  alignas(64) float features[ROOM * MAX_FEATURES];
  alignas(64) Activation hidden1[ROOM * HIDDEN];
  alignas(64) float geometry[ROOM * GEOMETRY];
  alignas(64) float density[ROOM];
  alignas(64) float passing[ROOM];               // 1 - alpha: the share of the light that passes a sample
  alignas(64) Activation hidden2[ROOM * HIDDEN];
  alignas(64) Activation hidden3[ROOM * HIDDEN];
  alignas(64) float color[ROOM * COLOR_STRIDE];  // RGB in [0, 1]
  alignas(64) float middle[ROOM], length[ROOM];
  uint32_t ray[ROOM];                            // the index of a sample's ray
  int placed[ROOM];                              // the sample's row when it was placed
};

// A thread's own T, kept between tasks: fresh pages of memory would cost more than the work.
template <typename T>
T& kept_for_thread() {
  static thread_local img3d::Scratch scratch;
  return *scratch.get<T>(1);
}

class RadianceField {
 public:
  explicit RadianceField(const FieldInputs& in) : in_(in), networks_(in), to_unit_(in.space) {}

  const Networks& networks() const { return networks_; }
  const UnitMap& to_unit() const { return to_unit_; }

  // Sets the coordinates of n samples from their `ray` and `middle`, and pads the last group of rows.
  void place(Block& b, int n, const float* origins, const float* directions) const {
    const int rows = padded(n, ROWS_AT_A_TIME);
    for (int i = n; i < rows; ++i) b.ray[i] = b.ray[n - 1], b.middle[i] = b.middle[n - 1], b.length[i] = 0.0f;
    for (int i = 0; i < rows; ++i) {
      const float *origin = origins + b.ray[i] * 3, *direction = directions + b.ray[i] * 3;
      for (int axis = 0; axis < 3; ++axis) b.unit[axis][i] = origin[axis] + b.middle[i] * direction[axis];
    }
    map_to_unit(b, rows);
  }

  void map_to_unit(Block& b, int rows) const {
    for (int i = 0; i < rows; i += W) {
      vf p[3] = {load(b.unit[0] + i), load(b.unit[1] + i), load(b.unit[2] + i)};
      to_unit_(p);
      for (int axis = 0; axis < 3; ++axis) store(b.unit[axis] + i, p[axis]);
    }
  }

  // Computes one level's features of n points in the unit cube, one array for each axis, from which whole vectors are
  // read. `features` and `slopes` as for `interpolate`.
  void find_level_features(size_t level, const float* const points[3], int n, float* features, size_t stride,
                           float* slopes) const {
    const Level grid(in_.resolutions[level], in_.table_size);
    const float* const entries = in_.table + level * in_.table_size * 2;
    Cells cells;
    for (int first = 0; first < n; first += POINTS) {
      const int count = std::min(POINTS, n - first);
      const float* const at[3] = {points[0] + first, points[1] + first, points[2] + first};
      (grid.dense ? find_cells<true> : find_cells<false>)(grid, at, count, cells);
      (grid.dense ? interpolate<true> : interpolate<false>)(cells, count, grid.resolution, entries,
                                                            features + first * stride, stride,
                                                            slopes ? slopes + first * 3 * stride : nullptr);
    }
  }

  // Computes the features, the density network's output and the density of n placed samples.
  void find_density(Block& b, int n) const {
    const int rows = padded(n, ROWS_AT_A_TIME), stride = networks_.stride;
    if (networks_.n_features < stride) std::memset(b.features, 0, rows * stride * sizeof(float));
    const float* const points[3] = {b.unit[0], b.unit[1], b.unit[2]};
    for (size_t l = 0; l < in_.n_levels; ++l) find_level_features(l, points, rows, b.features + 2 * l, stride, nullptr);
    find_density_of_features(b, n);
  }

  void find_density_of_features(Block& b, int n) const {
    const int rows = padded(n, ROWS_AT_A_TIME), stride = networks_.stride;
    multiply(b.features, stride, networks_.density1, b.hidden1, rows, zero_rows, relu);
    multiply(b.hidden1, HIDDEN, networks_.density2, b.geometry, rows, zero_rows, unchanged);
    for (int i = 0; i < rows; ++i) b.density[i] = b.geometry[i * GEOMETRY] + in_.density_bias;
    for (int i = 0; i < rows; i += W) {
      const Vec<1> exponent = {{vmax(vmin(load(b.density + i), splat(img3d::MAX_LOG_DENSITY)), splat(-80.0f)) * LOG2_E}};
      store(b.density + i, vexp2(exponent)[0]);
    }
  }

  // Computes `passing` of n samples from their densities and lengths.
  static void find_passing(Block& b, int n) {
    for (int i = 0; i < n; i += W) {
      const Vec<1> exponent = {{vmax(load(b.density + i) * load(b.length + i) * -LOG2_E, splat(-120.0f))}};
      store(b.passing + i, vexp2(exponent)[0]);
    }
  }

  // Computes the colours of n samples, at least one, from the density network's output.
  void find_color(Block& b, int n, const float* ray_features) const {
    const int rows = padded(n, ROWS_AT_A_TIME);
    for (int i = n; i < rows; ++i) b.ray[i] = b.ray[n - 1];
    std::memset(b.geometry + n * GEOMETRY, 0, (rows - n) * GEOMETRY * sizeof(float));  // any finite values
    const auto of_ray = [&](int row, int column) { return load(ray_features + b.ray[row] * size_t(HIDDEN) + column); };
    multiply(b.geometry, GEOMETRY, networks_.color1, b.hidden2, rows, of_ray, relu);
    multiply(b.hidden2, HIDDEN, networks_.color2, b.hidden3, rows, zero_rows, relu);
    multiply(b.hidden3, HIDDEN, networks_.color3, b.color, rows, zero_rows, sigmoid);
  }

  // Keeps those of n rows for which `keep(row)` is true. Returns their number.
  template <typename Keep>
  static int compact(Block& b, int n, int stride, const Keep& keep) {
    int to = 0;
    for (int from = 0; from < n; ++from) {
      if (!keep(from)) continue;
      if (from != to) {
        std::memcpy(b.geometry + to * GEOMETRY, b.geometry + from * GEOMETRY, GEOMETRY * sizeof(float));
        std::memcpy(b.features + to * stride, b.features + from * stride, stride * sizeof(float));
        std::memcpy(b.hidden1 + to * HIDDEN, b.hidden1 + from * HIDDEN, HIDDEN * sizeof(Activation));
        for (int axis = 0; axis < 3; ++axis) b.unit[axis][to] = b.unit[axis][from];
        b.density[to] = b.density[from], b.passing[to] = b.passing[from];
        b.middle[to] = b.middle[from], b.length[to] = b.length[from], b.placed[to] = b.placed[from];
        b.ray[to] = b.ray[from];
      }
      ++to;
    }
    return to;
  }

 private:
  static vf sigmoid(int, int, vf v) {
    const Vec<1> exponent = {{vmax(vmin(v, splat(40.0f)), splat(-40.0f)) * -LOG2_E}};
    return 1.0f / (1.0f + vexp2(exponent)[0]);
  }

  const FieldInputs& in_;
  const Networks networks_;
  const UnitMap to_unit_;
};

void field_density(const FieldInputs& in, size_t n_points, const float* points, float* density) {
  const RadianceField field(in);
  parallel(ceil_div(n_points, BLOCK_SAMPLES), [&](size_t task) {
    Block& b = kept_for_thread<Block>();
    const size_t first = task * BLOCK_SAMPLES;
    const int n = static_cast<int>(smaller(BLOCK_SAMPLES, n_points - first)), rows = padded(n, 16);
    for (int i = 0; i < rows && i < ROOM; ++i)
      for (int axis = 0; axis < 3; ++axis) b.unit[axis][i] = points[(first + std::min(i, n - 1)) * 3 + axis];
    field.map_to_unit(b, padded(n, ROWS_AT_A_TIME));
    field.find_density(b, n);
    std::memcpy(density + first, b.density, n * sizeof(float));
  });
}

}  // namespace
}  // namespace IMG3D_ISA
