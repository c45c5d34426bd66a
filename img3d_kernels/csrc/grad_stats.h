// SPDX-License-Identifier: Apache-2.0
// What densification wants to know about each Gaussian, added up over the steps: gsplat's DefaultStrategy._update_state
// in one pass.
#pragma once

#include <cmath>

#include "kernels.h"
#include "parallel.h"

namespace IMG3D_ISA {
namespace {

using img3d::GradStats;

void add_grad_stats(const GradStats& s) {
  constexpr size_t CHUNK = 8192;
  parallel(ceil_div(s.n_gaussians, CHUNK), [&](size_t task) {
    for (size_t i = task * CHUNK; i < smaller(s.n_gaussians, (task + 1) * CHUNK); ++i) {
      if (s.radii[i] <= 0) continue;
      const float x = s.v_means2d[2 * i] * s.scale_x, y = s.v_means2d[2 * i + 1] * s.scale_y;
      s.grad2d[i] += std::sqrt(x * x + y * y);
      s.count[i] += 1.0f;
      if (!s.max_radii) continue;
      const float radius = static_cast<float>(s.radii[i]) / s.image_size;
      if (radius > s.max_radii[i]) s.max_radii[i] = radius;
    }
  });
}

}  // namespace
}  // namespace IMG3D_ISA
