// SPDX-License-Identifier: Apache-2.0
// The pool of threads by itself; built and run by test_compiled_extension.py. Ends with status 1 at the first check that
// fails.
#include "common/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

void check(bool condition, const char* what) {
  if (condition) return;
  std::printf("not true: %s\n", what);
  std::exit(1);
}

using Task = std::function<void(size_t)>;

void parallel(size_t n_tasks, const Task& task) {
  img3d::parallel_for(
      n_tasks, [](void* context, size_t i) { (*static_cast<const Task*>(context))(i); }, const_cast<Task*>(&task));
}

void wait() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

void all_tasks_run_once() {
  std::vector<std::atomic<int>> count(1000);
  parallel(count.size(), [&](size_t i) { ++count[i]; });
  for (const auto& c : count) check(c == 1, "each task runs once");
}

// Whichever thread the task that fails is on, its exception comes to the caller, as it was thrown, after all have ended.
void exceptions_come_to_the_caller() {
  for (size_t failing = 0; failing < 40; ++failing) {
    std::atomic<int> running{0};
    std::string caught;
    try {
      parallel(40, [&](size_t i) {
        ++running;
        wait();
        --running;
        if (i == failing) throw std::invalid_argument("task " + std::to_string(i));
      });
    } catch (const std::invalid_argument& error) {
      check(running == 0, "no task runs any more");
      caught = error.what();
    }
    check(caught == "task " + std::to_string(failing), "the task's own exception");
  }
  all_tasks_run_once();
}

void of_many_exceptions_one_comes() {
  bool caught = false;
  try {
    parallel(100, [](size_t) { throw std::bad_alloc(); });
  } catch (const std::bad_alloc&) {
    caught = true;
  }
  check(caught, "bad_alloc is caught");
  all_tasks_run_once();
}

void exceptions_come_through_nested_calls() {
  std::atomic<int> inner{0};
  std::string caught;
  try {
    parallel(8, [&](size_t i) {
      parallel(8, [&](size_t j) {
        ++inner;
        if (i == 5 && j == 7) throw std::runtime_error("inner");
      });
    });
  } catch (const std::runtime_error& error) {
    caught = error.what();
  }
  check(caught == "inner", "the inner task's exception");
  check(inner >= 8, "the failing task's predecessors ran");
  all_tasks_run_once();
  parallel(8, [](size_t) {
    std::atomic<int> count{0};
    parallel(8, [&](size_t) { ++count; });
    check(count == 8, "all inner tasks run");
  });
}

// Callers from several threads at once, while the number of threads changes: each gets its own exception, or none.
void callers_do_not_mix() {
  std::atomic<bool> stop{false};
  std::thread changing([&] {
    for (int n = 1; !stop; n = n % 4 + 1) img3d::set_num_threads(n), wait();
  });
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([caller] {
      for (int round = 0; round < 100; ++round) {
        int caught = -1;
        try {
          parallel(20, [&](size_t i) {
            check(img3d::num_threads() >= 1, "some thread");
            if (caller % 2 == 0 && i == 7) throw caller;
          });
        } catch (int thrown) {
          caught = thrown;
        }
        check(caught == (caller % 2 == 0 ? caller : -1), "the caller's own exception");
      }
    });
  for (auto& caller : callers) caller.join();
  stop = true;
  changing.join();
}

}  // namespace

int main() {
  for (int n_threads : {1, 2, 4}) {
    img3d::set_num_threads(n_threads);
    all_tasks_run_once();
    exceptions_come_to_the_caller();
    of_many_exceptions_one_comes();
    exceptions_come_through_nested_calls();
  }
  callers_do_not_mix();
  return 0;
}
