// SPDX-License-Identifier: Apache-2.0
// A pool of threads that sleep between jobs. OpenMP is not used because its threads spin between parallel regions, which
// costs more than it gains on two cores, and do not survive a fork.
#pragma once

#include <cstddef>

namespace img3d {

using TaskFn = void (*)(void* context, size_t task);

// Runs fn(context, 0 … n_tasks - 1) in any order on the pool's threads and the caller's, and returns when all are done.
// Concurrent calls are safe: while one uses the pool, the others run serially on their own thread, as do calls from
// within a task. After an exception no further task begins; the first one is rethrown when all running tasks have ended.
void parallel_for(size_t n_tasks, TaskFn fn, void* context);

int num_threads();
void set_num_threads(int n);

}  // namespace img3d
