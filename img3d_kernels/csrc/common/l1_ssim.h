// SPDX-License-Identifier: Apache-2.0
// (1 - lambda) L1 + lambda (1 - SSIM) and its gradient with respect to the rendered image, in one pass over the rows.
//
// SSIM (Wang et al. 2004) with the 11-tap Gaussian window of sigma 1.5 and no padding, as pytorch_msssim computes it.
// Each task processes a rectangle from top to bottom, a few rows at a time: the rows' horizontally filtered moments, with
// those of the ten rows above, give as many rows of the SSIM map and of its derivatives with respect to the moments; these,
// filtered back in the same way, give rows of the gradient. Several rows at a time, since the rows above come from the L2
// cache and are then read once for all. Channels stay interleaved as in the image: the taps of the horizontal filter are
// three values apart.
#pragma once

#include <cmath>
#include <utility>

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
constexpr int ROWS_AT_ONCE = 4;
constexpr int RING = HALO + ROWS_AT_ONCE;  // rows of a ring buffer

struct GaussianWindow {
  float taps[TAPS];
  GaussianWindow() {
    double total = 0.0;
    for (int i = 0; i < TAPS; ++i) total += std::exp(-0.5 * (i - TAPS / 2) * (i - TAPS / 2) / (1.5 * 1.5));
    for (int i = 0; i < TAPS; ++i)
      taps[i] = static_cast<float>(std::exp(-0.5 * (i - TAPS / 2) * (i - TAPS / 2) / (1.5 * 1.5)) / total);
  }
};

// sum_k taps[k] at(k). The window is symmetric, and additions run beside multiply-adds.
template <typename F>
inline vf weighted(const GaussianWindow& window, const F& at) {
  vf total = window.taps[TAPS / 2] * at(TAPS / 2);
  for (int k = 0; k < TAPS / 2; ++k) total += window.taps[k] * (at(k) + at(TAPS - 1 - k));
  return total;
}

// The vector that begins SHIFT values after the first of consecutive vectors.
template <int SHIFT>
inline vf shifted(const vf* vectors) {
  if constexpr (SHIFT % W == 0)
    return vectors[SHIFT / W];
  else
    return across<SHIFT % W>(vectors[SHIFT / W], vectors[SHIFT / W + 1]);
}

template <int... TAP>
inline vf weighted_taps(const GaussianWindow& window, const vf* vectors, std::integer_sequence<int, TAP...>) {
  const vf taps[TAPS] = {shifted<TAP * CHANNELS>(vectors)...};
  return weighted(window, [&](int k) { return taps[k]; });
}

// out[i] = sum_k taps[k] in[i + 3 k], for i in [0, n) rounded up to whole vectors.
inline void filter_row(const GaussianWindow& window, const float* in, float* out, int n) {
  // Vectors as wide as a cache line would be read from two lines for each tap: they are put together in registers.
  if constexpr (W == 16) {
    vf vectors[3] = {load(in), load(in + W), vf{}};
    for (int i = 0; i < n; i += W) {
      vectors[2] = load(in + i + 2 * W);
      store(out + i, weighted_taps(window, vectors, std::make_integer_sequence<int, TAPS>()));
      vectors[0] = vectors[1], vectors[1] = vectors[2];
    }
  } else {
    for (int i = 0; i < n; i += W)
      store(out + i, weighted(window, [&](int k) { return load(in + i + k * CHANNELS); }));
  }
}

// The vertical filter over a ring buffer, for ROWS_AT_ONCE consecutive rows.
struct RingRows {
  const float* rows[RING];  // topmost first

  RingRows(const float* ring, size_t stride, int first) {
    for (int k = 0; k < RING; ++k) rows[k] = ring + size_t((first + k) % RING) * stride;
  }

  void filter(const GaussianWindow& window, int i, vf* filtered) const {
    vf at[RING];
    for (int k = 0; k < RING; ++k) at[k] = load(rows[k] + i);
    for (int row = 0; row < ROWS_AT_ONCE; ++row)
      filtered[row] = weighted(window, [&](int k) { return at[row + k]; });
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
// derivatives; ring buffers of filtered derivatives; a few rows of render, target and mask. Whole vectors are read past
// either end.
constexpr int WORK_ROWS = 4 + 4 * RING + 3 * ROWS_AT_ONCE + 3 * RING + 3 * ROWS_AT_ONCE;
constexpr size_t WORK_STRIDE = (MAX_STRIP + 3 * HALO_X + 3 * W + 15) / 16 * 16;

// Copies n values of a row, from `first` on, multiplied by the mask. Returns whether the mask changes any of them, and
// fills `mask` if so: with a value for each channel.
inline bool read_row(const L1SsimInputs& in, int row, int first, int n, float* __restrict render,
                     float* __restrict target, float* __restrict mask) {
  const size_t at = size_t(row) * in.width * CHANNELS + first;
  std::memcpy(render, in.render + at, n * sizeof(float));
  if (in.target)
    std::memcpy(target, in.target + at, n * sizeof(float));
  else
    for (int i = 0; i < n; ++i) target[i] = static_cast<float>(in.target_bytes[at + i]) / 255.0f;
  if (!in.mask) return false;
  const float* const of_pixels = in.mask + at / CHANNELS;
  int changed = 0;
  for (int pixel = 0; pixel < n / CHANNELS; ++pixel) changed += of_pixels[pixel] != 1.0f;
  if (changed == 0) return false;
  for (int pixel = 0; pixel < n / CHANNELS; ++pixel)
    for (int channel = 0; channel < CHANNELS; ++channel) mask[pixel * CHANNELS + channel] = of_pixels[pixel];
  for (int i = 0; i < n; ++i) render[i] *= mask[i], target[i] *= mask[i];
  return true;
}

// A vector or the beginning of one.
inline void copy(void* to, const void* from, size_t size) {
  if (size == sizeof(vf))
    std::memcpy(to, from, sizeof(vf));
  else
    std::memcpy(to, from, size);
}

// A value of the SSIM map and its derivatives with respect to the moments.
struct SsimValue {
  vf ssim, by_mu1, by_square, by_cross;

  SsimValue(vf mu1, vf mu2, vf sum_sq, vf cross) {
    const float c1 = 0.01f * 0.01f, c2 = 0.03f * 0.03f;
    const vf mu_sq = mu1 * mu1 + mu2 * mu2, mu12 = mu1 * mu2;
    const vf a1 = 2.0f * mu12 + c1, a2 = 2.0f * (cross - mu12) + c2;
    const vf b1 = mu_sq + c1, b2 = sum_sq - mu_sq + c2;
    const vf inv_b1 = 1.0f / b1, inv_b2 = 1.0f / b2;
    ssim = a1 * a2 * inv_b1 * inv_b2;
    by_cross = 2.0f * a1 * inv_b1 * inv_b2;
    by_square = -ssim * inv_b2;
    by_mu1 = 2.0f * mu2 * a2 * inv_b1 * inv_b2 - 2.0f * mu1 * ssim * inv_b1 - mu2 * by_cross - 2.0f * mu1 * by_square;
  }
};

SsimSums l1_ssim_task(const L1SsimInputs& in, const GaussianWindow& window, const SsimTask& task, float* work) {
  const int row_size = in.width * CHANNELS, map_width = row_size - HALO_X, map_height = in.height - HALO;
  const float l1_weight = (1.0f - in.ssim_lambda) / (float(row_size) * in.height);
  const float ssim_weight = -in.ssim_lambda / (float(map_width) * map_height);

  constexpr size_t stride = WORK_STRIDE;
  float* const render = work;
  float* const target = render + stride;
  float* const squares = target + stride;                  // render² + target²
  float* const product = squares + stride;                 // render * target
  float* const moments = product + stride;                 // 4 rings of horizontally filtered rows
  float* const derivatives = moments + 4 * RING * stride;  // 3 times a few rows, HALO_X zeros before and after the values
  float* const filtered = derivatives + 3 * ROWS_AT_ONCE * stride;  // 3 rings of derivatives, filtered back horizontally
  float* const own_render = filtered + 3 * RING * stride;  // a few rows each, for L1 and the gradient
  float* const own_target = own_render + ROWS_AT_ONCE * stride;
  float* const own_mask = own_target + ROWS_AT_ONCE * stride;
  std::memset(work, 0, WORK_ROWS * stride * sizeof(float));

  // Work rows hold the values [first, last) of the image's rows, which the windows over the task's pixels cover.
  const int first = task.left - HALO_X < 0 ? 0 : task.left - HALO_X;
  const int last = task.right + HALO_X < row_size ? task.right + HALO_X : row_size;
  const int map_size = (task.right < map_width ? task.right : map_width) - first;
  const int own = task.left - first, own_end = task.right - first;  // the task's values within the work rows
  const int first_map_row = task.begin - HALO < 0 ? 0 : task.begin - HALO;
  const int last_map_row = task.end < map_height ? task.end : map_height;  // exclusive
  const vf lane = first_lanes();

  SsimSums sums;
  for (int top = first_map_row; top < task.end + HALO; top += ROWS_AT_ONCE) {
    for (int row = top; row < top + ROWS_AT_ONCE && row < last_map_row + HALO; ++row) {
      read_row(in, row, first, last - first, render, target, own_mask);
      for (int i = 0; i < last - first; i += W) {
        const vf r = load(render + i), t = load(target + i);
        store(squares + i, r * r + t * t);
        store(product + i, r * t);
      }
      for (int m = 0; m < 4; ++m)
        filter_row(window, work + m * stride, moments + (m * RING + row % RING) * stride, map_size);
    }

    const int map_top = top - HALO;  // the window of this row of the map ends at `top`
    if (map_top + ROWS_AT_ONCE <= first_map_row) continue;
    const int ring_top = (map_top + RING) % RING;
    if (map_top < last_map_row) {
      const RingRows mu1_rows(moments, stride, ring_top), mu2_rows(moments + RING * stride, stride, ring_top);
      const RingRows square_rows(moments + 2 * RING * stride, stride, ring_top);
      const RingRows cross_rows(moments + 3 * RING * stride, stride, ring_top);
      vf row_sums[ROWS_AT_ONCE] = {};
      for (int i = 0; i < map_size; i += W) {
        vf mu1[ROWS_AT_ONCE], mu2[ROWS_AT_ONCE], sum_sq[ROWS_AT_ONCE], cross[ROWS_AT_ONCE];
        mu1_rows.filter(window, i, mu1);
        mu2_rows.filter(window, i, mu2);
        square_rows.filter(window, i, sum_sq);
        cross_rows.filter(window, i, cross);
        const vf at = lane + static_cast<float>(i);
        const vi inside = at < static_cast<float>(map_size), is_own = at >= static_cast<float>(own);
        for (int r = 0; r < ROWS_AT_ONCE; ++r) {
          const SsimValue value(mu1[r], mu2[r], sum_sq[r], cross[r]);
          row_sums[r] += keep(inside & is_own, value.ssim);
          const vf weight = keep(inside, splat(ssim_weight));
          float* const v = derivatives + r * stride + HALO_X + i;
          store(v, weight * value.by_mu1);
          store(v + ROWS_AT_ONCE * stride, weight * value.by_square);
          store(v + 2 * ROWS_AT_ONCE * stride, weight * value.by_cross);
        }
      }
      for (int r = 0; r < ROWS_AT_ONCE; ++r)
        if (map_top + r >= task.begin && map_top + r < last_map_row) sums.ssim += sum(row_sums[r]);
    }
    for (int m = 0; m < 3; ++m) {
      for (int r = 0; r < ROWS_AT_ONCE; ++r) {
        float* const out = filtered + (m * RING + (ring_top + r) % RING) * stride;
        if (map_top + r >= first_map_row && map_top + r < last_map_row)
          filter_row(window, derivatives + (m * ROWS_AT_ONCE + r) * stride, out, own_end);
        else
          std::memset(out, 0, stride * sizeof(float));  // above or below the map
      }
    }

    // The window is symmetric, so filtering back is filtering again. A pixel's row needs the map's rows from HALO above it.
    if (map_top + ROWS_AT_ONCE <= task.begin) continue;
    const int above = (ring_top + ROWS_AT_ONCE) % RING;
    const RingRows mu1_rows(filtered, stride, above), square_rows(filtered + RING * stride, stride, above);
    const RingRows cross_rows(filtered + 2 * RING * stride, stride, above);
    vf row_sums[ROWS_AT_ONCE] = {};
    bool is_masked[ROWS_AT_ONCE] = {};
    for (int r = 0; r < ROWS_AT_ONCE; ++r)
      if (map_top + r >= task.begin && map_top + r < task.end)
        is_masked[r] = read_row(in, map_top + r, first, last - first, own_render + r * stride, own_target + r * stride,
                                own_mask + r * stride);
    for (int i = own; i < own_end; i += W) {
      vf by_mu1[ROWS_AT_ONCE], by_square[ROWS_AT_ONCE], by_cross[ROWS_AT_ONCE];
      if (in.v_render) {
        mu1_rows.filter(window, i, by_mu1);
        square_rows.filter(window, i, by_square);
        cross_rows.filter(window, i, by_cross);
      }
      const size_t size = smaller(W, own_end - i) * sizeof(float);
      const vi inside = lane + static_cast<float>(i) < static_cast<float>(own_end);
      for (int r = 0; r < ROWS_AT_ONCE; ++r) {
        const int row = map_top + r;
        if (row < task.begin || row >= task.end) continue;
        const vf x = load(own_render + r * stride + i), t = load(own_target + r * stride + i);
        const vf difference = keep(inside, x - t);
        row_sums[r] += vabs(difference);
        if (!in.v_render) continue;
        const vf sign = difference > 0.0f ? splat(1.0f) : difference < 0.0f ? splat(-1.0f) : vf{};
        vf gradient = by_mu1[r] + 2.0f * x * by_square[r] + t * by_cross[r] + l1_weight * sign;
        if (is_masked[r]) gradient *= load(own_mask + r * stride + i);
        copy(in.v_render + size_t(row) * row_size + first + i, &gradient, size);
      }
    }
    for (const vf& row_sum : row_sums) sums.l1 += sum(row_sum);
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
