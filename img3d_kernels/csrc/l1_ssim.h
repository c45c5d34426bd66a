// SPDX-License-Identifier: Apache-2.0
// (1 - lambda) L1 + lambda (1 - SSIM) and its gradient by the rendered image, in one pass over the rows.
//
// SSIM (Wang et al. 2004) with the 11-tap Gaussian window of sigma 1.5 and no padding, as pytorch_msssim computes it.
// Each task takes a band of rows of one channel and slides down it: eleven rows of horizontally filtered moments give a
// row of the SSIM map and of its derivatives by the moments; eleven such rows, filtered back, give a row of gradient.
#pragma once

#include <cmath>

#include "kernels.h"
#include "parallel.h"
#include "simd.h"

namespace IMG3D_ISA {
namespace {

using img3d::L1SsimInputs;

constexpr int TAPS = 11;
constexpr int HALO = TAPS - 1;
constexpr int BAND_ROWS = 40;

struct GaussianWindow {
  float taps[TAPS];
  GaussianWindow() {
    double total = 0.0;
    for (int i = 0; i < TAPS; ++i) total += std::exp(-0.5 * (i - TAPS / 2) * (i - TAPS / 2) / (1.5 * 1.5));
    for (int i = 0; i < TAPS; ++i)
      taps[i] = static_cast<float>(std::exp(-0.5 * (i - TAPS / 2) * (i - TAPS / 2) / (1.5 * 1.5)) / total);
  }
};

// Rows are padded so that whole vectors can be read past either end.
struct RowLayout {
  size_t stride;
  explicit RowLayout(int width) : stride(ceil_div(width + HALO, W) * W + HALO + W) {}
};

// out[i] = sum_k taps[k] in[i + k], for i in [0, n) rounded up to whole vectors.
inline void filter_row(const GaussianWindow& window, const float* in, float* out, int n) {
  for (int i = 0; i < n; i += W) {
    vf total{};
    for (int k = 0; k < TAPS; ++k) total += window.taps[k] * load(in + i + k);
    store(out + i, total);
  }
}

// The same down a column, over a ring of TAPS rows of which `first` is the topmost.
inline vf filter_column(const GaussianWindow& window, const float* ring, size_t stride, int first, int i) {
  vf total{};
  for (int k = 0; k < TAPS; ++k) total += window.taps[k] * load(ring + size_t((first + k) % TAPS) * stride + i);
  return total;
}

struct BandSums {
  double l1 = 0.0, ssim = 0.0;
};

// One channel of the rows [begin, end); work holds (2 + 4 + 4 TAPS + 3 + 3 TAPS) rows.
BandSums l1_ssim_band(const L1SsimInputs& in, const GaussianWindow& window, int channel, int begin, int end,
                      float* work) {
  const float c1 = 0.01f * 0.01f, c2 = 0.03f * 0.03f;
  const int width = in.width, valid_width = width - HALO, valid_height = in.height - HALO;
  const size_t stride = RowLayout(width).stride;
  const size_t n_values = size_t(3) * width * in.height, n_ssim = size_t(3) * valid_width * valid_height;
  const float l1_weight = (1.0f - in.ssim_lambda) / n_values, ssim_weight = -in.ssim_lambda / n_ssim;

  float* const render = work;                     // one row of the channel
  float* const target = render + stride;
  float* const squares = target + stride;         // render² + target²
  float* const product = squares + stride;        // render * target
  float* const moments = product + stride;        // 4 rings of horizontally filtered rows
  float* const derivatives = moments + 4 * TAPS * stride;  // 3 rows, HALO zeros before and after the values
  float* const filtered = derivatives + 3 * stride;        // 3 rings of them, filtered back horizontally
  std::memset(derivatives, 0, 3 * stride * sizeof(float));
  std::memset(filtered, 0, 3 * TAPS * stride * sizeof(float));
  std::memset(render, 0, 4 * stride * sizeof(float));

  BandSums sums;
  const int first_map_row = begin - HALO < 0 ? 0 : begin - HALO;
  const int last_map_row = end < valid_height ? end : valid_height;  // exclusive
  const auto read_row = [&](int row) {
    const float* r = in.render + size_t(row) * width * 3 + channel;
    const float* t = in.target + size_t(row) * width * 3 + channel;
    for (int i = 0; i < width; ++i) {
      render[i] = r[size_t(i) * 3];
      target[i] = t[size_t(i) * 3];
    }
  };

  for (int row = first_map_row; row < last_map_row + HALO || row < end + HALO; ++row) {
    if (row < last_map_row + HALO) {
      read_row(row);
      for (int i = 0; i < width; i += W) {
        const vf r = load(render + i), t = load(target + i);
        store(squares + i, r * r + t * t);
        store(product + i, r * t);
      }
      for (int m = 0; m < 4; ++m)
        filter_row(window, work + m * stride, moments + (m * TAPS + row % TAPS) * stride, valid_width);
    }

    const int map_row = row - HALO;  // its window ends at this row
    if (map_row < first_map_row) continue;
    if (map_row < last_map_row) {
      float row_sum = 0.0f;
      for (int i = 0; i < valid_width; i += W) {
        const int first = map_row % TAPS;
        const vf mu1 = filter_column(window, moments, stride, first, i);
        const vf mu2 = filter_column(window, moments + TAPS * stride, stride, first, i);
        const vf sum_sq = filter_column(window, moments + 2 * TAPS * stride, stride, first, i);
        const vf cross = filter_column(window, moments + 3 * TAPS * stride, stride, first, i);
        const vf mu_sq = mu1 * mu1 + mu2 * mu2, mu12 = mu1 * mu2;
        const vf a1 = 2.0f * mu12 + c1, a2 = 2.0f * (cross - mu12) + c2;
        const vf b1 = mu_sq + c1, b2 = sum_sq - mu_sq + c2;
        const vf inv_b1 = 1.0f / b1, inv_b2 = 1.0f / b2;
        const vf ssim = a1 * a2 * inv_b1 * inv_b2;
        vf weight = splat(ssim_weight);
        for (int l = 0; l < W; ++l) {
          if (i + l >= valid_width) weight[l] = 0.0f;
          else if (map_row >= begin) row_sum += ssim[l];
        }
        const vf by_cross = 2.0f * a1 * inv_b1 * inv_b2, by_square = -ssim * inv_b2;
        const vf by_mu1 = 2.0f * mu2 * a2 * inv_b1 * inv_b2 - 2.0f * mu1 * ssim * inv_b1 - mu2 * by_cross -
                          2.0f * mu1 * by_square;
        store(derivatives + HALO + i, weight * by_mu1);
        store(derivatives + stride + HALO + i, weight * by_square);
        store(derivatives + 2 * stride + HALO + i, weight * by_cross);
      }
      sums.ssim += row_sum;
    } else {
      std::memset(derivatives, 0, 3 * stride * sizeof(float));  // below the map
    }
    for (int m = 0; m < 3; ++m)
      filter_row(window, derivatives + m * stride, filtered + (m * TAPS + map_row % TAPS) * stride, width);

    // The window is symmetric, so filtering back is filtering again: rows map_row - HALO … map_row reach this pixel.
    if (map_row < begin || map_row >= end) continue;
    read_row(map_row);
    float row_sum = 0.0f;
    for (int i = 0; i < width; i += W) {
      const int first = (map_row + 1) % TAPS;
      const vf by_mu1 = filter_column(window, filtered, stride, first, i);
      const vf by_square = filter_column(window, filtered + TAPS * stride, stride, first, i);
      const vf by_cross = filter_column(window, filtered + 2 * TAPS * stride, stride, first, i);
      const vf r = load(render + i), t = load(target + i), difference = r - t;
      const vf sign = difference > 0.0f ? splat(1.0f) : difference < 0.0f ? splat(-1.0f) : vf{};
      const vf gradient = by_mu1 + 2.0f * r * by_square + t * by_cross + l1_weight * sign;
      const int count = width - i < W ? width - i : W;
      for (int l = 0; l < count; ++l) {
        row_sum += __builtin_fabsf(difference[l]);
        if (in.v_render) in.v_render[(size_t(map_row) * width + i + l) * 3 + channel] = gradient[l];
      }
    }
    sums.l1 += row_sum;
  }
  return sums;
}

float l1_ssim(const L1SsimInputs& in, img3d::Scratch& scratch) {
  const GaussianWindow window;
  const size_t bands = ceil_div(in.height, BAND_ROWS), tasks = bands * 3;
  const size_t work_size = (4 + 4 * TAPS + 3 + 3 * TAPS) * RowLayout(in.width).stride + W;
  float* work = scratch.get<float>(tasks * work_size + tasks * sizeof(BandSums) / sizeof(float));
  BandSums* sums = reinterpret_cast<BandSums*>(work);
  float* const buffers = work + tasks * sizeof(BandSums) / sizeof(float);
  parallel(tasks, [&](size_t task) {
    const int begin = static_cast<int>(task / 3) * BAND_ROWS;
    const int end = begin + BAND_ROWS < in.height ? begin + BAND_ROWS : in.height;
    sums[task] = l1_ssim_band(in, window, static_cast<int>(task % 3), begin, end, buffers + task * work_size);
  });
  double l1 = 0.0, ssim = 0.0;
  for (size_t task = 0; task < tasks; ++task) {
    l1 += sums[task].l1;
    ssim += sums[task].ssim;
  }
  const double n_values = 3.0 * in.width * in.height, n_ssim = 3.0 * (in.width - HALO) * (in.height - HALO);
  return static_cast<float>((1.0 - in.ssim_lambda) * l1 / n_values + in.ssim_lambda * (1.0 - ssim / n_ssim));
}

}  // namespace
}  // namespace IMG3D_ISA
