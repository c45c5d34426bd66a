// SPDX-License-Identifier: Apache-2.0
// One step of Adam (Kingma & Ba 2015) in one pass over the memory, as torch.optim.Adam computes it.
#pragma once

#include <cmath>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

typedef int64_t Pairs __attribute__((vector_size(4 * W)));

void adam_step(const img3d::AdamInputs& in) {
  const float correction1 = 1.0f - static_cast<float>(std::pow(double(in.beta1), double(in.step)));
  const float inv_sqrt_correction2 =
      static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(double(in.beta2), double(in.step))));
  const float step_size = in.lr / correction1;
  const auto update = [&](size_t begin, size_t end) {
    size_t i = begin;
    for (; i + W <= end; i += W) {
      const vf grad = load(in.grad + i);
      const vf avg = in.beta1 * load(in.exp_avg + i) + (1.0f - in.beta1) * grad;
      const vf avg_sq = in.beta2 * load(in.exp_avg_sq + i) + (1.0f - in.beta2) * grad * grad;
      store(in.exp_avg + i, avg);
      store(in.exp_avg_sq + i, avg_sq);
      store(in.param + i, load(in.param + i) - step_size * avg / (vsqrt(avg_sq) * inv_sqrt_correction2 + in.eps));
    }
    for (; i < end; ++i) {
      const float grad = in.grad[i];
      const float avg = in.beta1 * in.exp_avg[i] + (1.0f - in.beta1) * grad;
      const float avg_sq = in.beta2 * in.exp_avg_sq[i] + (1.0f - in.beta2) * grad * grad;
      in.exp_avg[i] = avg;
      in.exp_avg_sq[i] = avg_sq;
      in.param[i] -= step_size * avg / (__builtin_sqrtf(avg_sq) * inv_sqrt_correction2 + in.eps);
    }
  };
  // Rows of two, as a hash table's, whole vectors of them; those without a gradient keep their values.
  const auto update_pairs = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i += W) {
      const vf grad = load(in.grad + i);
      const vi changes = (vi)((Pairs)(grad != 0.0f) != 0);
      if (!lane_bits(changes)) continue;
      const vf old_avg = load(in.exp_avg + i), old_avg_sq = load(in.exp_avg_sq + i), param = load(in.param + i);
      const vf avg = in.beta1 * old_avg + (1.0f - in.beta1) * grad;
      const vf avg_sq = in.beta2 * old_avg_sq + (1.0f - in.beta2) * grad * grad;
      store(in.exp_avg + i, select(changes, avg, old_avg));
      store(in.exp_avg_sq + i, select(changes, avg_sq, old_avg_sq));
      const vf updated = param - step_size * avg / (vsqrt(avg_sq) * inv_sqrt_correction2 + in.eps);
      store(in.param + i, select(changes, updated, param));
    }
  };
  constexpr size_t ELEMENTS_PER_TASK = 1 << 15;
  const size_t rows = in.row_size >= ELEMENTS_PER_TASK ? 1 : ELEMENTS_PER_TASK / in.row_size;
  parallel(ceil_div(in.n_rows, rows), [&](size_t task) {
    const size_t begin = task * rows, end = smaller(in.n_rows, begin + rows);
    if (!in.skip_zero_rows) return update(begin * in.row_size, end * in.row_size);
    size_t row = begin;
    if (in.row_size == 2) {
      const size_t whole_vectors = begin + (end - begin) / (W / 2) * (W / 2);
      update_pairs(begin * 2, whole_vectors * 2);
      row = whole_vectors;
    }
    for (; row < end; ++row) {
      bool zero = true;
      for (size_t i = row * in.row_size; i < (row + 1) * in.row_size; ++i) zero &= in.grad[i] == 0.0f;
      if (!zero) update(row * in.row_size, (row + 1) * in.row_size);
    }
  });
}

}  // namespace
}  // namespace IMG3D_ISA
