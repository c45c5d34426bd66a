// SPDX-License-Identifier: Apache-2.0
// Places samples along rays where a field may be dense: the ray marching of Instant-NGP (Müller et al. 2022, arXiv
// 2201.05989, appendix E.1), with one occupancy grid over the unit cube instead of nested grids, as the contraction of
// space makes distant cells large by itself.
#pragma once

#include <cmath>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

using img3d::FieldSpace;
using img3d::MarchInputs;
using img3d::RayEnds;

constexpr float MAX_DISTANCE = 1e6f;  // rays end here at the latest

// World coordinates to the unit cube.
struct UnitMap {
  bool contracted;
  float low[3], scale[3];

  explicit UnitMap(const FieldSpace& space) : contracted(space.contracted) {
    for (int axis = 0; axis < 3; ++axis) {
      low[axis] = space.low[axis];
      scale[axis] = 1.0f / (space.high[axis] - space.low[axis]);
    }
  }

  void operator()(vf p[3]) const {
    if (contracted) {
      const vf size = vmax(vmax(vmax(vabs(p[0]), vabs(p[1])), vabs(p[2])), splat(1.0f));
      const vf inverse = 1.0f / size, factor = inverse * (2.0f - inverse);
      for (int axis = 0; axis < 3; ++axis) p[axis] *= factor;
    }
    for (int axis = 0; axis < 3; ++axis) p[axis] = (p[axis] - low[axis]) * scale[axis];
  }

  // Turns the gradient v with respect to the unit cube into the one with respect to world coordinates p, in place.
  void gradient(const float p[3], float v[3]) const {
    for (int axis = 0; axis < 3; ++axis) v[axis] *= scale[axis];
    if (!contracted) return;
    int largest = 0;
    for (int axis = 1; axis < 3; ++axis)
      if (std::fabs(p[axis]) > std::fabs(p[largest])) largest = axis;
    const float size = std::fabs(p[largest]);
    if (size <= 1.0f) return;
    // p (2 / size - 1 / size^2)
    const float inverse = 1.0f / size, factor = inverse * (2.0f - inverse);
    const float slope = 2.0f * inverse * inverse * (inverse - 1.0f) * std::copysign(1.0f, p[largest]);
    const float along = v[0] * p[0] + v[1] * p[1] + v[2] * p[2];
    for (int axis = 0; axis < 3; ++axis) v[axis] *= factor;
    v[largest] += slope * along;
  }
};

// The indices of the grid cells that contain points.
class GridCells {
 public:
  explicit GridCells(const FieldSpace& space) : to_unit_(space), size_(static_cast<int32_t>(space.grid_size)) {}

  vi operator()(vf p[3]) const {
    to_unit_(p);
    return of_unit(p);
  }

  // Of points in the unit cube.
  vi of_unit(const vf p[3]) const {
    const float size = static_cast<float>(size_);
    vi cell[3];
    // NaN becomes the last cell.
    for (int axis = 0; axis < 3; ++axis) cell[axis] = to_int(vmax(vmin(p[axis] * size, splat(size - 1.0f)), vf{}));
    return (cell[0] * size_ + cell[1]) * size_ + cell[2];
  }

 private:
  const UnitMap to_unit_;
  const int32_t size_;
};

// The part of a ray inside the space; empty unless `near` is below `far`.
struct RayRange {
  float near, far;
};

inline RayRange range_of(const FieldSpace& space, const RayEnds& ends, size_t ray) {
  float near = std::fmax(ends.nears[ray], 0.0f), far = std::fmin(ends.fars[ray], MAX_DISTANCE);
  if (!space.contracted)
    for (int axis = 0; axis < 3; ++axis) {
      const float origin = ends.origins[ray * 3 + axis];
      float direction = ends.directions[ray * 3 + axis];
      if (std::fabs(direction) < 1e-9f) direction = 1e-9f;
      const float a = (space.low[axis] - origin) / direction, b = (space.high[axis] - origin) / direction;
      near = std::fmax(near, std::fmin(a, b));
      far = std::fmin(far, std::fmax(a, b));
    }
  return {near, far};
}

class Marcher {
 public:
  explicit Marcher(const MarchInputs& in) : in_(in), cells_(in.space), lanes_(first_lanes()) {}

  // How far a ray has been marched.
  struct State {
    float start;   // the distance at which the first step begins, in steps
    float step;    // the index of the next step, a whole number
    float far;     // the distance at which the ray ends; negative once it has ended
  };

  State begin(size_t ray) const {
    const RayRange range = range_of(in_.space, in_.ends, ray);
    const float offset = in_.ends.offsets ? in_.ends.offsets[ray] : 0.5f;
    return {range.near / in_.step + offset, 0.0f, range.near < range.far ? range.far : -1.0f};
  }

  // Writes the next samples, at most `room`. Returns their number: less than `room` only at the ray's end.
  int advance(size_t ray, State& state, int room, float* middles, float* lengths) const {
    int count = 0;
    float at[W];
    while (count < room) {
      const vf middle = (state.start + state.step + lanes_ + 0.5f) * in_.step;
      uint32_t wanted = lane_bits(occupied(ray, middle) & (middle < state.far));
      store(at, middle);
      float next = state.step + W;
      for (; wanted; wanted &= wanted - 1) {
        const int lane = __builtin_ctz(wanted);
        if (count == room) {
          next = state.step + lane;
          break;
        }
        middles[count] = at[lane];
        lengths[count] = in_.step;
        ++count;
      }
      state.step = next;
      if (!(at[W - 1] < state.far) && !wanted) {
        state.far = -1.0f;
        break;
      }
    }
    return count;
  }

 private:
  vi occupied(size_t ray, vf t) const {
    if (!in_.space.occupied) return vi{} - 1;
    vf p[3];
    for (int axis = 0; axis < 3; ++axis)
      p[axis] = in_.ends.origins[ray * 3 + axis] + t * in_.ends.directions[ray * 3 + axis];
    const vi index = cells_(p);
    const vu words = gather(in_.space.occupied, index >> 5);
    return (vi)((words >> (vu)(index & 31)) & 1u) != 0;
  }

  const MarchInputs& in_;
  const GridCells cells_;
  const vf lanes_;
};

void field_march(const MarchInputs& in, int32_t* counts, float* middles, float* lengths) {
  constexpr size_t RAYS_PER_TASK = 64;
  const Marcher marcher(in);
  parallel(ceil_div(in.ends.n_rays, RAYS_PER_TASK), [&](size_t task) {
    const size_t end = smaller(in.ends.n_rays, (task + 1) * RAYS_PER_TASK);
    for (size_t ray = task * RAYS_PER_TASK; ray < end; ++ray) {
      Marcher::State state = marcher.begin(ray);
      const size_t first = ray * in.max_samples;
      counts[ray] = state.far < 0.0f ? 0 : marcher.advance(ray, state, static_cast<int>(in.max_samples), middles + first,
                                                           lengths + first);
    }
  });
}

}  // namespace
}  // namespace IMG3D_ISA
