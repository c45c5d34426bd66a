// SPDX-License-Identifier: Apache-2.0
// The cost of a plane as a plain loop over pixels and samples, for benchmarks/stereo_speed.py. It has the formulas of
// csrc/stereo/patch_match.h, and leaves vectorisation to the compiler.
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

float grey_at(const uint8_t* grey, int width, int height, float u, float v) {
  u = std::clamp(u, 0.0f, static_cast<float>(width - 1)), v = std::clamp(v, 0.0f, static_cast<float>(height - 1));
  const int x = static_cast<int>(u), y = static_cast<int>(v);
  const int right = std::min(x + 1, width - 1), below = std::min(y + 1, height - 1);
  const float fx = u - static_cast<float>(x), fy = v - static_cast<float>(y);
  const float upper = grey[y * width + x] + fx * (grey[y * width + right] - grey[y * width + x]);
  const float lower = grey[below * width + x] + fx * (grey[below * width + right] - grey[below * width + x]);
  return upper + fy * (lower - upper);
}

}  // namespace

// Costs [height, width] of planes [height, width, 3] against one source: A [9] and b [3] as in StereoSource.
extern "C" void plane_costs(const uint8_t* reference, const uint8_t* source, int width, int height, const float* A,
                            const float* b, const float* planes, float* costs) {
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const float* plane = planes + 3 * (y * width + x);
      const float middle = reference[y * width + x];
      float weights = 0, sum_a = 0, sum_aa = 0, sum_b = 0, sum_bb = 0, sum_ab = 0;
      for (int dy = -5; dy <= 5; dy += 2)
        for (int dx = -5; dx <= 5; dx += 2) {
          if (dx * dx + dy * dy >= 50) continue;
          const float a = reference[std::clamp(y + dy, 0, height - 1) * width + std::clamp(x + dx, 0, width - 1)];
          const float weight = std::exp(-(dx * dx + dy * dy) / 50.0f - (a - middle) * (a - middle) / (2 * 51.0f * 51.0f));
          const float inverse = plane[0] + plane[1] * dx + plane[2] * dy;
          float at[3];
          for (int k = 0; k < 3; ++k)
            at[k] = A[3 * k] * (x + dx) + A[3 * k + 1] * (y + dy) + A[3 * k + 2] + b[k] * inverse;
          const float other = grey_at(source, width, height, at[0] / at[2], at[1] / at[2]);
          weights += weight, sum_a += weight * a, sum_aa += weight * a * a;
          sum_b += weight * other, sum_bb += weight * other * other, sum_ab += weight * a * other;
        }
      const float mean_a = sum_a / weights, mean_b = sum_b / weights;
      const float variance_a = sum_aa / weights - mean_a * mean_a, variance_b = sum_bb / weights - mean_b * mean_b;
      const float covariance = sum_ab / weights - mean_a * mean_b;
      costs[y * width + x] = std::clamp(1 - covariance / std::sqrt(std::max(variance_a * variance_b, 1e-6f)), 0.0f, 2.0f);
    }
}
