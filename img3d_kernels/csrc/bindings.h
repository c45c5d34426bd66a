// SPDX-License-Identifier: Apache-2.0
// What the files of bindings share: array types, checks of sizes, and work memory that is kept between calls.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace nb = nanobind;

namespace img3d {

template <typename T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
using Floats = Array<const float>;
using FloatsOut = Array<float>;
using OptionalFloats = std::optional<Floats>;
using OptionalFloatsOut = std::optional<FloatsOut>;

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

template <typename A>
void require_size(const A& array, size_t size, const char* name) {
  if (array.size() != size)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(array.size()) + " elements, not " +
                                std::to_string(size));
}

template <typename A>
auto* data_or_null(const std::optional<A>& array, size_t size, const char* name) {
  if (array) require_size(*array, size, name);
  return array ? array->data() : nullptr;
}

// Arrays of another dtype or order are rejected: nanobind would convert them, and results would go to the copy.
inline auto array(const char* name) { return nb::arg(name).noconvert(); }
inline auto optional_array(const char* name) { return nb::arg(name).noconvert().none(); }

// Work memory that outlives a call: taken from here, and given back when a RasterState or a kernel no longer needs it.
template <typename T>
class Recycler {
 public:
  std::unique_ptr<T> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return std::make_unique<T>();
    std::unique_ptr<T> item = std::move(free_.back());
    free_.pop_back();
    return item;
  }

  void give(std::unique_ptr<T> item) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.size() < MAX_KEPT) free_.push_back(std::move(item));
  }

  Recycler() { free_.reserve(MAX_KEPT); }  // `give` is called by destructors and must not allocate

 private:
  static constexpr size_t MAX_KEPT = 4;  // enough for a training step and a viewer's frame
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

// After an error (the only one is out of memory) the memory is freed instead.
template <typename T>
void give_back(Recycler<T>& recycler, std::unique_ptr<T> item) {
  if (!std::uncaught_exceptions()) recycler.give(std::move(item));
}

// Never destroyed: work memory may be given back after static destructors have run.
inline Recycler<Scratch>& scratches() {
  static auto* recycler = new Recycler<Scratch>;
  return *recycler;
}

struct BorrowedScratch {
  std::unique_ptr<Scratch> scratch = scratches().take();
  ~BorrowedScratch() { give_back(scratches(), std::move(scratch)); }
};

// bindings_fields.cpp: the hash grid and the radiance field's kernels.
void add_fields(nb::module_& m);

}  // namespace img3d
