// SPDX-License-Identifier: Apache-2.0
#include "common/thread_pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace img3d {
namespace {

thread_local bool in_task = false;  // of a pool; parallel_for within a task runs on the task's thread

class ThreadPool {
 public:
  // Starts n_threads - 1 workers, or fewer if the system refuses more.
  explicit ThreadPool(int n_threads) : owner_(getpid()) {
    try {
      for (int i = 1; i < n_threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
    } catch (...) {
      stop();
      throw;
    }
  }

  ~ThreadPool() { stop(); }

  // A forked child process does not have its parent's threads.
  bool lost() const { return owner_ != getpid(); }
  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void run(size_t n_tasks, TaskFn fn, void* context) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      fn_ = fn;
      context_ = context;
      n_tasks_ = n_tasks;
      next_.store(0, std::memory_order_relaxed);
      active_ = static_cast<int>(workers_.size());
      ++generation_;
    }
    wake_.notify_all();
    take_tasks();
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return active_ == 0; });
    // Rethrown only after all tasks have ended, because tasks use the caller's stack.
    if (const std::exception_ptr error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
  }

 private:
  // Runs tasks until none is left. After an exception, which is kept for `run`, no further task begins.
  void take_tasks() {
    in_task = true;
    try {
      for (size_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < n_tasks_;) fn_(context_, task);
    } catch (...) {
      next_.store(n_tasks_, std::memory_order_relaxed);
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    in_task = false;
  }

  void work() {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      lock.unlock();
      take_tasks();
      lock.lock();
      if (--active_ == 0) finished_.notify_one();
    }
  }

  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  const pid_t owner_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  size_t n_tasks_ = 0;
  std::atomic<size_t> next_{0};
  uint64_t generation_ = 0;
  int active_ = 0;
  bool stopping_ = false;
  std::exception_ptr error_;
};

std::mutex pool_mutex;
ThreadPool* pool = nullptr;  // never destroyed at exit: a worker may still be asleep in it
std::atomic<int> wanted_threads{0};  // atomic: kernels read it while another thread may set it

int default_threads() { return std::max(1u, std::thread::hardware_concurrency()); }

}  // namespace

void parallel_for(size_t n_tasks, TaskFn fn, void* context) {
  if (n_tasks > 1 && !in_task) {
    std::unique_lock<std::mutex> lock(pool_mutex, std::try_to_lock);
    if (lock.owns_lock()) {
      if (pool && pool->lost()) pool = nullptr;
      if (!pool) pool = new ThreadPool(num_threads());
      if (pool->size() > 1) return pool->run(n_tasks, fn, context);
    }
  }
  for (size_t task = 0; task < n_tasks; ++task) fn(context, task);
}

int num_threads() {
  const int wanted = wanted_threads;
  return wanted > 0 ? wanted : default_threads();
}

void set_num_threads(int n) {
  std::lock_guard<std::mutex> lock(pool_mutex);
  wanted_threads = std::max(1, n);
  if (pool && !pool->lost()) delete pool;
  pool = nullptr;
}

}  // namespace img3d
