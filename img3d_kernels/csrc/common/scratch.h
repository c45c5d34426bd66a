// SPDX-License-Identifier: Apache-2.0
// Work memory that is kept between calls, so that a training step makes no large allocations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace img3d {

// A buffer that only grows; growing discards its contents.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();

  template <typename T>
  T* get(size_t count) {
    return static_cast<T*>(reserve(count * sizeof(T)));
  }

  template <typename T>
  T* data() const {
    return static_cast<T*>(data_);
  }

  size_t capacity() const { return capacity_; }

 private:
  void* reserve(size_t bytes);

  void* data_ = nullptr;
  size_t capacity_ = 0;
};

// The state that one camera's forward pass keeps for its backward pass, and the work memory of both.
struct RasterScratch {
  size_t n_visible = 0;
  Scratch order;        // uint64 [2, n_visible]: depth keys and splats, source and destination of the sort
  Scratch histogram;    // counts of the radix sort and of the tiles
  std::vector<std::vector<uint32_t>> reached_tiles;  // for each chunk, the tiles reached by its splats, splat by splat
  Scratch splats;       // Splat [n_visible], in the order of the Gaussians
  Scratch slot_begin;   // uint64 [n_visible + 1]: the first (splat, tile) pair of each splat
  Scratch slot_tiles;   // uint32 [pairs], splat by splat: the tile
  Scratch tile_begin;   // uint64 [tiles + 1]: the first pair of each tile
  Scratch tile_pairs;   // TilePair [pairs], tile by tile, nearest first
  Scratch pair_blocks;  // uint64 [pairs], as tile_pairs: bit mask of the tile's blocks that each pair is blended into
  Scratch pair_grads;   // float [pairs, PAIR_GRADS], splat by splat

  size_t bytes() const {
    return order.capacity() + histogram.capacity() + splats.capacity() + slot_begin.capacity() + slot_tiles.capacity() +
           tile_begin.capacity() + tile_pairs.capacity() + pair_blocks.capacity() + pair_grads.capacity();
  }
};

}  // namespace img3d
