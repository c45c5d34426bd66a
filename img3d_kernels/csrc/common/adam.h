// SPDX-License-Identifier: Apache-2.0
// One step of Adam (Kingma & Ba 2015) in one pass over the memory, as torch.optim.Adam computes it.
#pragma once

#include <cmath>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

// The step of a parameter's elements.
struct AdamStep {
  const img3d::AdamInputs& in;
  float step_size, inv_sqrt_correction2;

  explicit AdamStep(const img3d::AdamInputs& inputs) : in(inputs) {
    step_size = in.lr / (1.0f - static_cast<float>(std::pow(double(in.beta1), double(in.step))));
    inv_sqrt_correction2 = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(double(in.beta2), double(in.step))));
  }

  struct Lanes {
    vf param, exp_avg, exp_avg_sq;
  };

  Lanes read(size_t i) const { return {load(in.param + i), load(in.exp_avg + i), load(in.exp_avg_sq + i)}; }

  Lanes updated(const Lanes& old, vf grad) const {
    Lanes r;
    r.exp_avg = in.beta1 * old.exp_avg + (1.0f - in.beta1) * grad;
    r.exp_avg_sq = in.beta2 * old.exp_avg_sq + (1.0f - in.beta2) * grad * grad;
    r.param = old.param - step_size * r.exp_avg / (vsqrt(r.exp_avg_sq) * inv_sqrt_correction2 + in.eps);
    return r;
  }

  void write(size_t i, const Lanes& lanes) const {
    store(in.param + i, lanes.param);
    store(in.exp_avg + i, lanes.exp_avg);
    store(in.exp_avg_sq + i, lanes.exp_avg_sq);
  }

  // Elements [begin, end).
  void all(size_t begin, size_t end) const {
    if (end - begin < W) {
      for (size_t i = begin; i < end; ++i) one(i);
      return;
    }
    // The last vector overlaps the one before it, so it is computed from what was there before that was written.
    const size_t last = end - W;
    const Lanes tail = updated(read(last), load(in.grad + last));
    for (size_t i = begin; i < last; i += W) write(i, updated(read(i), load(in.grad + i)));
    write(last, tail);
  }

  // Those of elements [begin, begin + W) whose bit is set.
  void some(size_t begin, uint32_t changes) const {
    const Lanes old = read(begin);
    const Lanes now = updated(old, load(in.grad + begin));
    const vi mask = mask_of(changes);
    write(begin, {select(mask, now.param, old.param), select(mask, now.exp_avg, old.exp_avg),
                  select(mask, now.exp_avg_sq, old.exp_avg_sq)});
  }

 private:
  void one(size_t i) const {
    const float grad = in.grad[i];
    const float avg = in.beta1 * in.exp_avg[i] + (1.0f - in.beta1) * grad;
    const float avg_sq = in.beta2 * in.exp_avg_sq[i] + (1.0f - in.beta2) * grad * grad;
    in.exp_avg[i] = avg;
    in.exp_avg_sq[i] = avg_sq;
    in.param[i] -= step_size * avg / (__builtin_sqrtf(avg_sq) * inv_sqrt_correction2 + in.eps);
  }
};

// Whether a row has a gradient.
inline bool has_gradient(const float* row, size_t size) {
  if (size < W) {
    for (size_t i = 0; i < size; ++i)
      if (row[i] != 0.0f) return true;
    return false;
  }
  vi any = load(row + size - W) != 0.0f;
  for (size_t i = 0; i + W < size; i += W) any |= load(row + i) != 0.0f;
  return !none(any);
}

constexpr size_t NARROW = 4;  // a vector for each column of so many holds W rows, whose bits fit into 64

// Updates those of W rows of at most NARROW columns that have a gradient. `row_starts` has a bit for the first column of
// each row.
inline void update_narrow_rows(const AdamStep& step, size_t first_element, size_t row_size, uint64_t row_starts) {
  uint64_t nonzero = 0;
  for (size_t u = 0; u < row_size; ++u)
    nonzero |= uint64_t(lane_bits(load(step.in.grad + first_element + u * W) != 0.0f)) << (u * W);
  uint64_t rows = nonzero;
  for (size_t d = 1; d < row_size; ++d) rows |= nonzero >> d;
  rows &= row_starts;
  uint64_t changes = rows;
  for (size_t d = 1; d < row_size; ++d) changes |= rows << d;
  constexpr uint32_t ALL = (uint64_t(1) << W) - 1;
  for (size_t u = 0; u < row_size; ++u) {
    const uint32_t lanes = static_cast<uint32_t>(changes >> (u * W)) & ALL;
    const size_t begin = first_element + u * W;
    if (lanes == ALL) step.all(begin, begin + W);
    else if (lanes) step.some(begin, lanes);
  }
}

void adam_step(const img3d::AdamInputs& in) {
  const AdamStep step(in);
  constexpr size_t ELEMENTS_PER_TASK = 1 << 15;
  const size_t size = in.row_size;
  const size_t rows = size * W >= ELEMENTS_PER_TASK ? W : ELEMENTS_PER_TASK / size / W * W;
  uint64_t row_starts = 0;
  for (size_t row = 0; size <= NARROW && row < W; ++row) row_starts |= uint64_t(1) << (row * size);
  parallel(ceil_div(in.n_rows, rows), [&](size_t task) {
    const size_t begin = task * rows, end = smaller(in.n_rows, begin + rows);
    if (!in.skip_zero_rows) return step.all(begin * size, end * size);
    size_t row = begin;
    if (size <= NARROW)
      for (; row + W <= end; row += W) update_narrow_rows(step, row * size, size, row_starts);
    for (; row < end; ++row)
      if (has_gradient(in.grad + row * size, size)) step.all(row * size, (row + 1) * size);
  });
}

}  // namespace
}  // namespace IMG3D_ISA
