// SPDX-License-Identifier: Apache-2.0
// Lists, for each tile of the image, the projected Gaussians that reach it, nearest first.
//
// The Gaussians in view are sorted by depth once; a stable scatter into tiles in that order then needs no sort of (tile,
// depth) pairs. Their data stay in the order of the input, so that memory is read and written in sequence: sorted, each
// would come from another place. A Gaussian reaches a tile if it passes both gsplat's test (the tile touches the square of
// its 3-sigma radius) and an exact one (a pixel centre of the tile is inside the ellipse alpha >= 1/255). The exact test
// only saves work; it changes no pixel.
#pragma once

#include <cmath>
#include <stdexcept>

#include "kernels.h"
#include "common/parallel.h"

namespace IMG3D_ISA {
namespace {

using img3d::MAX_CHANNELS;
using img3d::MIN_ALPHA;
using img3d::RasterizeInputs;
using img3d::RasterScratch;
using img3d::TILE_SIZE;

constexpr float LN_2 = 0.6931471805599453f;
constexpr float LOG2_MIN_ALPHA = -7.994353436858858f;

// A projected Gaussian for blending, in one cache line. alpha = exp2(log2_opacity - q) with
// q = dx (a dx + b dy) + c dy², (dx, dy) from pixel to mean.
struct alignas(64) Splat {
  float x, y;
  float a, b, c;         // the conic, times log2(e), the diagonal halved
  float log2_opacity;
  float slope, k1, k2;   // the row at v = py - y is reached for px - x in slope v ± sqrt(k1 - k2 v²)
  float color[MAX_CHANNELS];
  float opacity;
  int32_t id;            // index of the Gaussian in the input
  float radius;          // of gsplat's 3-sigma square, in pixels
};
static_assert(sizeof(Splat) == 64);

struct TilePair {
  uint32_t splat;  // index into the splats
  uint32_t slot;   // index of this pair's gradients: the pairs of a splat are consecutive
};

// Spans are widened by this many pixels, to allow for rounding at the boundary. A span that is too wide only wastes lanes:
// blending tests alpha itself.
constexpr float SPAN_MARGIN = 0.02f;

struct TileGrid {
  int width, height;  // in tiles
  TileGrid(int image_width, int image_height)
      : width((image_width + TILE_SIZE - 1) / TILE_SIZE), height((image_height + TILE_SIZE - 1) / TILE_SIZE) {}
  size_t count() const { return static_cast<size_t>(width) * height; }
};

struct TileBox {
  int x0, x1, y0, y1;  // half open
};

// Written so that the compiler emits minimum and maximum instructions: a branch here would be unpredictable.
inline float at_least(float v, float low) { return v > low ? v : low; }
inline float at_most(float v, float high) { return v < high ? v : high; }
inline int clamp_tile(float v, int n) { return static_cast<int>(at_most(at_least(v, 0.0f), static_cast<float>(n))); }

// gsplat's rule, isect_tiles.cu.
inline TileBox square_tiles(const Splat& s, const TileGrid& grid) {
  const float tx = s.x / TILE_SIZE, ty = s.y / TILE_SIZE, r = s.radius / TILE_SIZE;
  return {clamp_tile(std::floor(tx - r), grid.width), clamp_tile(std::ceil(tx + r), grid.width),
          clamp_tile(std::floor(ty - r), grid.height), clamp_tile(std::ceil(ty + r), grid.height)};
}

// Calls f(tile) for the tiles of the box that the splat's ellipse reaches, row by row.
template <typename F>
inline void for_reached_tiles(const Splat& s, const TileBox& box, const TileGrid& grid, const F& f) {
  const bool bounded = s.k2 > 0.0f;
  const float v_max = bounded ? std::sqrt(s.k1 / s.k2) : 0.0f;
  // The row where the ellipse extends farthest to the right: the maximum of slope v + sqrt(k1 - k2 v²).
  const float v_right = bounded ? s.slope * v_max / std::sqrt(s.slope * s.slope + s.k2) : 0.0f;
  for (int ty = box.y0; ty < box.y1; ++ty) {
    int x0 = box.x0, x1 = box.x1;
    if (bounded) {
      const float top = ty * TILE_SIZE + 0.5f - SPAN_MARGIN - s.y, bottom = top + (TILE_SIZE - 1) + 2.0f * SPAN_MARGIN;
      if (top > v_max || bottom < -v_max) continue;
      const float v0 = at_least(top, -v_max), v1 = at_most(bottom, v_max);
      const float vr = at_most(at_least(v_right, v0), v1), vl = at_most(at_least(-v_right, v0), v1);
      const float right = s.x + s.slope * vr + std::sqrt(at_least(s.k1 - s.k2 * vr * vr, 0.0f)) + SPAN_MARGIN - 0.5f;
      const float left = s.x + s.slope * vl - std::sqrt(at_least(s.k1 - s.k2 * vl * vl, 0.0f)) - SPAN_MARGIN - 0.5f;
      const int reach0 = clamp_tile(std::ceil(left) * (1.0f / TILE_SIZE), grid.width);
      const int reach1 = clamp_tile(std::floor(right) * (1.0f / TILE_SIZE) + 1.0f, grid.width);
      x0 = x0 > reach0 ? x0 : reach0;
      x1 = x1 < reach1 ? x1 : reach1;
    }
    for (int tx = x0; tx < x1; ++tx) f(ty * grid.width + tx);
  }
}

inline Splat make_splat(const RasterizeInputs& in, uint32_t id) {
  Splat s{};
  s.x = in.means2d[2 * size_t(id)], s.y = in.means2d[2 * size_t(id) + 1];
  const float* conic = in.conics + 3 * size_t(id);
  s.a = 0.5f * LOG2_E * conic[0], s.b = LOG2_E * conic[1], s.c = 0.5f * LOG2_E * conic[2];
  s.opacity = in.opacities[id];
  s.log2_opacity = std::log2(s.opacity);
  const float two_l = 2.0f * LN_2 * (s.log2_opacity - LOG2_MIN_ALPHA);
  // The determinant of a needle's conic is a small difference of large numbers: the second product's rounding error
  // is added back (Kahan).
  const float a = conic[0], b = conic[1], c = conic[2], bb = b * b;
  const float det = std::fma(a, c, -bb) + std::fma(-b, b, bb), inv_a = 1.0f / a;
  s.slope = -b * inv_a;
  s.k1 = two_l * inv_a;
  s.k2 = det * inv_a * inv_a;
  for (int k = 0; k < MAX_CHANNELS && k < in.channels; ++k) s.color[k] = in.colors[size_t(id) * in.channels + k];
  s.id = static_cast<int32_t>(id);
  s.radius = static_cast<float>(in.radii[id]);
  return s;
}

inline bool is_in_view(const RasterizeInputs& in, size_t id) { return in.radii[id] > 0 && in.opacities[id] >= MIN_ALPHA; }

// A key for the depth sort: (depth << 32 | index of the splat), of which the depth's bits are put so that they order as
// unsigned numbers, negative depths too.
inline uint64_t depth_key(float depth, size_t splat) {
  uint32_t key;
  std::memcpy(&key, &depth, sizeof key);
  key ^= (key >> 31) ? 0xffffffffu : 0x80000000u;
  return uint64_t(key) << 32 | splat;
}

// Sorts n keys by depth, ties by index (they must be in order), with a least-significant-digit radix sort. `keys` has
// room for 2 n; the sorted ones are in the half that is returned.
inline const uint64_t* sort_by_depth(uint64_t* keys, size_t n, img3d::Scratch& histogram) {
  constexpr int DIGIT = 11, BUCKETS = 1 << DIGIT, PASSES = 3;
  uint64_t *from = keys, *to = keys + n;
  uint32_t* counts = histogram.get<uint32_t>(PASSES * BUCKETS);
  std::memset(counts, 0, PASSES * BUCKETS * sizeof(uint32_t));
  for (size_t i = 0; i < n; ++i)
    for (int pass = 0; pass < PASSES; ++pass)
      ++counts[pass * BUCKETS + (keys[i] >> (32 + pass * DIGIT) & (BUCKETS - 1))];
  for (int pass = 0; pass < PASSES; ++pass) {
    uint32_t* count = counts + pass * BUCKETS;
    bool one_bucket = false;
    uint32_t total = 0;
    for (int b = 0; b < BUCKETS; ++b) {
      const uint32_t c = count[b];
      one_bucket |= c == n;
      count[b] = total;
      total += c;
    }
    if (one_bucket) continue;
    const int shift = 32 + pass * DIGIT;
    for (size_t i = 0; i < n; ++i) to[count[from[i] >> shift & (BUCKETS - 1)]++] = from[i];
    uint64_t* const swap = from;
    from = to;
    to = swap;
  }
  return from;
}

// Few chunks, to keep tables of counts small; but several per thread, to balance the load.
struct Chunks {
  size_t n, size, count;
  explicit Chunks(size_t items) : n(items) {
    const size_t most = 4 * static_cast<size_t>(img3d::num_threads());
    size = ceil_div(n, most) < 256 ? 256 : ceil_div(n, most);
    count = ceil_div(n, size);
  }
  size_t begin(size_t chunk) const { return chunk * size; }
  size_t end(size_t chunk) const { return smaller(n, (chunk + 1) * size); }
};

// Fills scratch.splats, slot_begin and slot_tiles; returns the splats' keys for the sort, which has room for as many.
inline uint64_t* make_splats(const RasterizeInputs& in, RasterScratch& scratch) {
  const TileGrid grid(in.width, in.height);
  const Chunks chunks(in.n_gaussians);
  std::vector<size_t> first_splat(chunks.count + 1, 0), first_slot(chunks.count + 1, 0);
  parallel(chunks.count, [&](size_t c) {
    size_t n = 0;
    for (size_t id = chunks.begin(c); id < chunks.end(c); ++id) n += is_in_view(in, id);
    first_splat[c + 1] = n;
  });
  for (size_t c = 0; c < chunks.count; ++c) first_splat[c + 1] += first_splat[c];
  const size_t n = scratch.n_visible = first_splat[chunks.count];

  uint64_t* keys = scratch.order.get<uint64_t>(2 * n + 2);
  Splat* splats = scratch.splats.get<Splat>(n);
  uint64_t* slot_begin = scratch.slot_begin.get<uint64_t>(n + 1);
  if (scratch.reached_tiles.size() < chunks.count) scratch.reached_tiles.resize(chunks.count);
  parallel(chunks.count, [&](size_t c) {
    std::vector<uint32_t>& tiles = scratch.reached_tiles[c];
    tiles.clear();
    size_t i = first_splat[c];
    for (size_t id = chunks.begin(c); id < chunks.end(c); ++id) {
      if (!is_in_view(in, id)) continue;
      keys[i] = depth_key(in.depths[id], i);
      splats[i] = make_splat(in, static_cast<uint32_t>(id));
      slot_begin[i] = tiles.size();
      for_reached_tiles(splats[i], square_tiles(splats[i], grid), grid,
                        [&](int tile) { tiles.push_back(static_cast<uint32_t>(tile)); });
      ++i;
    }
    first_slot[c + 1] = tiles.size();
  });
  for (size_t c = 0; c < chunks.count; ++c) first_slot[c + 1] += first_slot[c];
  const size_t n_slots = first_slot[chunks.count];
  if (n_slots > UINT32_MAX) throw std::length_error("more than 2^32 pairs of splats and tiles");

  uint32_t* slot_tiles = scratch.slot_tiles.get<uint32_t>(n_slots);
  parallel(chunks.count, [&](size_t c) {
    std::memcpy(slot_tiles + first_slot[c], scratch.reached_tiles[c].data(),
                (first_slot[c + 1] - first_slot[c]) * sizeof(uint32_t));
    for (size_t i = first_splat[c]; i < first_splat[c + 1]; ++i) slot_begin[i] += first_slot[c];
  });
  slot_begin[n] = n_slots;
  return keys;
}

// Fills scratch.splats, slot_begin, tile_begin and tile_pairs.
inline void bin_splats(const RasterizeInputs& in, RasterScratch& scratch) {
  uint64_t* keys = make_splats(in, scratch);
  const uint64_t* order = sort_by_depth(keys, scratch.n_visible, scratch.histogram);
  const uint64_t* slot_begin = scratch.slot_begin.data<uint64_t>();
  const uint32_t* slot_tiles = scratch.slot_tiles.data<uint32_t>();
  const Chunks chunks(scratch.n_visible);
  const size_t n_tiles = TileGrid(in.width, in.height).count();
  uint32_t* counts = scratch.histogram.get<uint32_t>(chunks.count * n_tiles);  // [chunk, tile]
  // Calls f(splat, slot) for a chunk's pairs, nearest first.
  const auto for_pairs = [&](size_t c, const auto& f) {
    const size_t end = chunks.end(c);
    for (size_t k = chunks.begin(c); k < end; ++k) {
      __builtin_prefetch(slot_begin + static_cast<uint32_t>(order[smaller(k + 16, end - 1)]));
      __builtin_prefetch(slot_tiles + slot_begin[static_cast<uint32_t>(order[smaller(k + 8, end - 1)])]);
      const uint32_t splat = static_cast<uint32_t>(order[k]);
      for (uint64_t slot = slot_begin[splat]; slot < slot_begin[splat + 1]; ++slot) f(splat, slot);
    }
  };
  parallel(chunks.count, [&](size_t c) {
    uint32_t* count = counts + c * n_tiles;
    std::memset(count, 0, n_tiles * sizeof(uint32_t));
    for_pairs(c, [&](uint32_t, uint64_t slot) { ++count[slot_tiles[slot]]; });
  });

  uint64_t* tile_begin = scratch.tile_begin.get<uint64_t>(n_tiles + 1);
  uint64_t total = 0;
  for (size_t tile = 0; tile < n_tiles; ++tile) {
    tile_begin[tile] = total;
    for (size_t c = 0; c < chunks.count; ++c) {
      const uint32_t count = counts[c * n_tiles + tile];
      counts[c * n_tiles + tile] = static_cast<uint32_t>(total);
      total += count;
    }
  }
  tile_begin[n_tiles] = total;

  TilePair* tile_pairs = scratch.tile_pairs.get<TilePair>(total);
  parallel(chunks.count, [&](size_t c) {
    uint32_t* next = counts + c * n_tiles;
    for_pairs(c, [&](uint32_t splat, uint64_t slot) {
      tile_pairs[next[slot_tiles[slot]]++] = {splat, static_cast<uint32_t>(slot)};
    });
  });
}

}  // namespace
}  // namespace IMG3D_ISA
