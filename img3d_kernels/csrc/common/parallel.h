// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "common/thread_pool.h"

namespace IMG3D_ISA {
namespace {

// Calls f(task) for task in [0, n_tasks) on the pool's threads.
template <typename F>
inline void parallel(size_t n_tasks, const F& f) {
  img3d::parallel_for(
      n_tasks, [](void* context, size_t task) { (*static_cast<const F*>(context))(task); }, const_cast<F*>(&f));
}

inline size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }
inline int padded(int n, int to) { return (n + to - 1) / to * to; }
inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

}  // namespace
}  // namespace IMG3D_ISA
