// SPDX-License-Identifier: Apache-2.0
// (1 - lambda) L1 + lambda (1 - SSIM) and its gradient with respect to the rendered image, in one pass over the rows.
//
// SSIM (Wang et al. 2004) with the 11-tap Gaussian window of sigma 1.5 and no padding, as pytorch_msssim computes it.
// Each task processes a rectangle from top to bottom: eleven rows of horizontally filtered moments give a row of the SSIM
// map and of its derivatives with respect to the moments; eleven such rows, filtered back, give a row of the gradient.
// Channels stay interleaved as in the image: the taps of the horizontal filter are three values apart.
#pragma once

#include <cmath>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

using img3d::L1SsimInputs;

constexpr int TAPS = 11;
constexpr int CHANNELS = 3;
constexpr int HALO = TAPS - 1;             // rows
constexpr int HALO_X = HALO * CHANNELS;    // values
constexpr int MAX_STRIP = 840;             // values: a task's rows must fit into the L2 cache
constexpr int TASKS_PER_THREAD = 3;

struct GaussianWindow {
  float taps[TAPS];
  GaussianWindow() {
    double total = 0.0;
    for (int i = 0; i < TAPS; ++i) total += std::exp(-0.5 * (i - TAPS / 2) * (i - TAPS / 2) / (1.5 * 1.5));
    for (int i = 0; i < TAPS; ++i)
      taps[i] = static_cast<float>(std::exp(-0.5 * (i - TAPS / 2) * (i - TAPS / 2) / (1.5 * 1.5)) / total);
  }
};

// out[i] = sum_k taps[k] in[i + 3 k], for i in [0, n) rounded up to whole vectors.
inline void filter_row(const GaussianWindow& window, const float* in, float* out, int n) {
  for (int i = 0; i < n; i += W) {
    vf total{};
    for (int k = 0; k < TAPS; ++k) total += window.taps[k] * load(in + i + k * CHANNELS);
    store(out + i, total);
  }
}

// The vertical filter, over a ring buffer of TAPS rows.
struct RingRows {
  const float* rows[TAPS];  // topmost first

  RingRows(const float* ring, size_t stride, int first) {
    for (int k = 0; k < TAPS; ++k) rows[k] = ring + size_t((first + k) % TAPS) * stride;
  }

  vf filtered(const GaussianWindow& window, int i) const {
    vf total{};
    for (int k = 0; k < TAPS; ++k) total += window.taps[k] * load(rows[k] + i);
    return total;
  }
};

struct SsimSums {
  double l1 = 0.0, ssim = 0.0;
};

// The rows, and the values within a row, whose gradient a task computes.
struct SsimTask {
  int begin, end, left, right;
};

// Rows of work memory: one image row each of render, target, their squares and their product; ring buffers of moments;
// derivatives; ring buffers of filtered derivatives. Whole vectors are read past either end.
constexpr int WORK_ROWS = 4 + 4 * TAPS + 3 + 3 * TAPS;
constexpr size_t WORK_STRIDE = (MAX_STRIP + 3 * HALO_X + 3 * W + 15) / 16 * 16;

SsimSums l1_ssim_task(const L1SsimInputs& in, const GaussianWindow& window, const SsimTask& task, float* work) {
  const float c1 = 0.01f * 0.01f, c2 = 0.03f * 0.03f;
  const int row_size = in.width * CHANNELS, map_width = row_size - HALO_X, map_height = in.height - HALO;
  const float l1_weight = (1.0f - in.ssim_lambda) / (float(row_size) * in.height);
  const float ssim_weight = -in.ssim_lambda / (float(map_width) * map_height);

  constexpr size_t stride = WORK_STRIDE;
  float* const render = work;
  float* const target = render + stride;
  float* const squares = target + stride;                  // render² + target²
  float* const product = squares + stride;                 // render * target
  float* const moments = product + stride;                 // 4 rings of horizontally filtered rows
  float* const derivatives = moments + 4 * TAPS * stride;  // 3 rows, HALO_X zeros before and after the values
  float* const filtered = derivatives + 3 * stride;        // 3 rings of derivatives, filtered back horizontally
  std::memset(work, 0, WORK_ROWS * stride * sizeof(float));

  // Work rows hold the values [first, last) of the image's rows, which the windows over the task's pixels cover.
  const int first = task.left - HALO_X < 0 ? 0 : task.left - HALO_X;
  const int last = task.right + HALO_X < row_size ? task.right + HALO_X : row_size;
  const int map_size = (task.right < map_width ? task.right : map_width) - first;
  const int own = task.left - first, own_end = task.right - first;  // the task's values within the work rows
  const int first_map_row = task.begin - HALO < 0 ? 0 : task.begin - HALO;
  const int last_map_row = task.end < map_height ? task.end : map_height;  // exclusive
  const vf lane = first_lanes();
  const auto read_row = [&](int row) {
    std::memcpy(render, in.render + size_t(row) * row_size + first, (last - first) * sizeof(float));
    std::memcpy(target, in.target + size_t(row) * row_size + first, (last - first) * sizeof(float));
  };

  SsimSums sums;
  for (int row = first_map_row; row < last_map_row + HALO || row < task.end + HALO; ++row) {
    if (row < last_map_row + HALO) {
      read_row(row);
      for (int i = 0; i < last - first; i += W) {
        const vf r = load(render + i), t = load(target + i);
        store(squares + i, r * r + t * t);
        store(product + i, r * t);
      }
      for (int m = 0; m < 4; ++m)
        filter_row(window, work + m * stride, moments + (m * TAPS + row % TAPS) * stride, map_size);
    }

    const int map_row = row - HALO;  // its window ends at this row
    if (map_row < first_map_row) continue;
    if (map_row < last_map_row) {
      const int top = map_row % TAPS;
      const RingRows render_means(moments, stride, top), target_means(moments + TAPS * stride, stride, top);
      const RingRows square_means(moments + 2 * TAPS * stride, stride, top);
      const RingRows product_means(moments + 3 * TAPS * stride, stride, top);
      vf row_sum{};
      for (int i = 0; i < map_size; i += W) {
        const vf mu1 = render_means.filtered(window, i), mu2 = target_means.filtered(window, i);
        const vf sum_sq = square_means.filtered(window, i), cross = product_means.filtered(window, i);
        const vf mu_sq = mu1 * mu1 + mu2 * mu2, mu12 = mu1 * mu2;
        const vf a1 = 2.0f * mu12 + c1, a2 = 2.0f * (cross - mu12) + c2;
        const vf b1 = mu_sq + c1, b2 = sum_sq - mu_sq + c2;
        const vf inv_b1 = 1.0f / b1, inv_b2 = 1.0f / b2;
        const vf ssim = a1 * a2 * inv_b1 * inv_b2;
        const vf at = lane + static_cast<float>(i);
        const vi inside = at < static_cast<float>(map_size);
        row_sum += keep(inside & (at >= static_cast<float>(own)), ssim);
        const vf weight = keep(inside, splat(ssim_weight));
        const vf by_cross = 2.0f * a1 * inv_b1 * inv_b2, by_square = -ssim * inv_b2;
        const vf by_mu1 = 2.0f * mu2 * a2 * inv_b1 * inv_b2 - 2.0f * mu1 * ssim * inv_b1 - mu2 * by_cross -
                          2.0f * mu1 * by_square;
        store(derivatives + HALO_X + i, weight * by_mu1);
        store(derivatives + stride + HALO_X + i, weight * by_square);
        store(derivatives + 2 * stride + HALO_X + i, weight * by_cross);
      }
      if (map_row >= task.begin) sums.ssim += sum(row_sum);
    } else {
      std::memset(derivatives, 0, 3 * stride * sizeof(float));  // below the map
    }
    for (int m = 0; m < 3; ++m)
      filter_row(window, derivatives + m * stride, filtered + (m * TAPS + map_row % TAPS) * stride, own_end);

    // The window is symmetric, so filtering back is filtering again. This needs rows map_row - HALO … map_row of the map.
    if (map_row < task.begin || map_row >= task.end) continue;
    read_row(map_row);
    const int top = (map_row + 1) % TAPS;
    const RingRows by_mu1(filtered, stride, top), by_square(filtered + TAPS * stride, stride, top);
    const RingRows by_cross(filtered + 2 * TAPS * stride, stride, top);
    float* const v_render = in.v_render ? in.v_render + size_t(map_row) * row_size + task.left : nullptr;
    vf row_sum{};
    for (int i = own; i < own_end; i += W) {
      const vf r = load(render + i), t = load(target + i), difference = r - t;
      row_sum += keep(lane < static_cast<float>(own_end - i), vabs(difference));
      if (!v_render) continue;
      const vf sign = difference > 0.0f ? splat(1.0f) : difference < 0.0f ? splat(-1.0f) : vf{};
      const vf gradient = by_mu1.filtered(window, i) + 2.0f * r * by_square.filtered(window, i) +
                          t * by_cross.filtered(window, i) + l1_weight * sign;
      if (i + W <= own_end)
        store(v_render + (i - own), gradient);
      else
        std::memcpy(v_render + (i - own), &gradient, (own_end - i) * sizeof(float));
    }
    sums.l1 += sum(row_sum);
  }
  return sums;
}

float l1_ssim(const L1SsimInputs& in, img3d::Scratch& scratch) {
  const GaussianWindow window;
  const size_t row_size = size_t(in.width) * CHANNELS, strips = ceil_div(row_size, MAX_STRIP);
  // Few, tall tasks, as each also computes rows beyond its own; but enough of them to balance the load.
  const size_t wanted = ceil_div(TASKS_PER_THREAD * img3d::num_threads(), strips);
  const size_t band = ceil_div(in.height, wanted) < 2 * HALO ? 2 * HALO : ceil_div(in.height, wanted);
  const size_t bands = ceil_div(in.height, band), tasks = bands * strips;
  const size_t strip = ceil_div(in.width, strips) * CHANNELS;
  constexpr size_t work_size = WORK_ROWS * WORK_STRIDE;
  float* work = scratch.get<float>(tasks * work_size + tasks * sizeof(SsimSums) / sizeof(float));
  SsimSums* sums = reinterpret_cast<SsimSums*>(work + tasks * work_size);
  parallel(tasks, [&](size_t t) {
    const size_t begin = t / strips * band, left = t % strips * strip;
    const SsimTask task{static_cast<int>(begin), static_cast<int>(smaller(begin + band, in.height)),
                        static_cast<int>(left), static_cast<int>(smaller(left + strip, row_size))};
    sums[t] = l1_ssim_task(in, window, task, work + t * work_size);
  });
  double l1 = 0.0, ssim = 0.0;
  for (size_t t = 0; t < tasks; ++t) {
    l1 += sums[t].l1;
    ssim += sums[t].ssim;
  }
  const double n_values = double(row_size) * in.height, n_ssim = double(row_size - HALO_X) * (in.height - HALO);
  return static_cast<float>((1.0 - in.ssim_lambda) * l1 / n_values + in.ssim_lambda * (1.0 - ssim / n_ssim));
}

}  // namespace
}  // namespace IMG3D_ISA
