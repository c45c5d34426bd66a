// SPDX-License-Identifier: Apache-2.0
// A pool of threads that sleep between jobs. Not OpenMP: its threads spin between regions, which on two cores costs
// more than it gives, and they do not survive a fork.
#pragma once

#include <cstddef>

namespace img3d {

using TaskFn = void (*)(void* context, size_t task);

// Run fn(context, 0 … n_tasks - 1), in any order, on all threads of the pool and the caller's, and return when all are
// done. Calls from several threads at once are safe: while one uses the pool, the others run on their own thread, as do
// calls from within a task. The first exception of a task is rethrown when no task runs any more; those that had not
// begun are left out.
void parallel_for(size_t n_tasks, TaskFn fn, void* context);

int num_threads();
void set_num_threads(int n);

}  // namespace img3d
