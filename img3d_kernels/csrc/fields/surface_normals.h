// SPDX-License-Identifier: Apache-2.0
// Normals of the surfaces that rays meet, from four densities around each point, as `density_normals.py` calculates them.
#pragma once

#include <cmath>

#include "fields/radiance_field.h"

namespace IMG3D_ISA {
namespace {

constexpr int CORNERS = 4;  // of a tetrahedron, by the signs of their coordinates
constexpr float CORNER_SIGNS[CORNERS][3] = {{1, 1, 1}, {1, -1, -1}, {-1, 1, -1}, {-1, -1, 1}};
constexpr float MIN_LOG_DENSITY = -69.0f;

void field_surface_normals(const FieldInputs& in, size_t n_rays, const float* origins, const float* directions,
                           const float* depth, float distance, float* normals) {
  constexpr int RAYS_PER_TASK = BLOCK_SAMPLES / CORNERS;
  const RadianceField field(in);
  const float shift = distance / std::sqrt(3.0f);
  parallel(ceil_div(n_rays, RAYS_PER_TASK), [&](size_t task) {
    Block& b = kept_for_thread<Block>();
    const size_t first = task * RAYS_PER_TASK, end = smaller(n_rays, first + RAYS_PER_TASK);
    int n = 0;
    for (size_t ray = first; ray < end; ++ray) {
      std::fill_n(normals + ray * 3, 3, 0.0f);
      if (!(depth[ray] > 0.0f)) continue;
      for (int corner = 0; corner < CORNERS; ++corner, ++n) {
        b.ray[n] = static_cast<uint32_t>(ray - first);
        for (int axis = 0; axis < 3; ++axis)
          b.unit[axis][n] = origins[ray * 3 + axis] + depth[ray] * directions[ray * 3 + axis] +
                            shift * CORNER_SIGNS[corner][axis];
      }
    }
    if (n == 0) return;
    for (int i = n; i < padded(n, ROWS_AT_A_TIME); ++i)
      for (int axis = 0; axis < 3; ++axis) b.unit[axis][i] = b.unit[axis][n - 1];
    field.map_to_unit(b, padded(n, ROWS_AT_A_TIME));
    field.find_density(b, n);
    const auto log_density = [&](int row) {
      return std::fmin(std::fmax(b.geometry[row * GEOMETRY] + in.density_bias, MIN_LOG_DENSITY), img3d::MAX_LOG_DENSITY);
    };
    for (int i = 0; i < n; i += CORNERS) {
      float fall[3] = {};
      for (int corner = 1; corner < CORNERS; ++corner) {
        const float change = log_density(i) - log_density(i + corner);  // exactly 0 where the density is constant
        for (int axis = 0; axis < 3; ++axis) fall[axis] += change * CORNER_SIGNS[corner][axis];
      }
      const float length = std::sqrt(fall[0] * fall[0] + fall[1] * fall[1] + fall[2] * fall[2]);
      for (int axis = 0; axis < 3; ++axis)
        normals[(first + b.ray[i]) * 3 + axis] = fall[axis] / std::fmax(length, 1e-12f);
    }
  });
}

}  // namespace
}  // namespace IMG3D_ISA
