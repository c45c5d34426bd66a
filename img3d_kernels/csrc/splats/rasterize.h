// SPDX-License-Identifier: Apache-2.0
// Front-to-back blending of each tile's splats, and its gradient, with the rules of gsplat 1.4
// (rasterize_to_pixels_fwd.cu, _bwd.cu). A tile's pixels, in blocks of W pixels that are 4 wide, stay in the cache while
// its splats are blended; each splat visits only the blocks that its ellipse reaches.
//
// The forward pass runs block by block, so that a block's pixels stay in registers; it records which blocks each splat is
// blended into. The backward pass runs splat by splat, so that a splat's gradients stay in registers, in the same
// front-to-back order. Let Q_i be the contribution of everything behind splat i, weighted by the gradient; then
// dL/dalpha_i = T_i (v · c_i) - Q_i / (1 - alpha_i). Q needs no second pass: it starts as the whole pixel's
// v · render - v_alpha T_final, and each splat's contribution is subtracted in turn.
#pragma once

#include "splats/splat_tiles.h"

namespace IMG3D_ISA {
namespace {

using img3d::MAX_ALPHA;
using img3d::MIN_TRANSMITTANCE;
using img3d::RasterizeGradients;

constexpr int BLOCK_WIDTH = 4, BLOCK_HEIGHT = W / BLOCK_WIDTH;
constexpr int BLOCKS_X = TILE_SIZE / BLOCK_WIDTH, BLOCKS_Y = TILE_SIZE / BLOCK_HEIGHT;
constexpr int BLOCKS = BLOCKS_X * BLOCKS_Y;
constexpr int TILE_PIXELS = TILE_SIZE * TILE_SIZE;
constexpr uint64_t ALL_BLOCKS = BLOCKS == 64 ? ~uint64_t(0) : (uint64_t(1) << (BLOCKS % 64)) - 1;

// Per pair: sums of v_sigma (gradient of the Gaussian's exponent) times 1, dx, dy, dx², dx dy, dy²; colours; |gradient of
// the mean| along x and y. With absolute gradients, the sums of dx and dy hold the gradient of the mean itself.
constexpr int PAIR_GRADS = 12;

// Number of splats (forward) and of blocks (backward) that are processed together: a single chain of dependent
// instructions would leave most of the processor idle.
constexpr int SPLATS_AT_ONCE = 4, BLOCKS_AT_ONCE = 2;

// A tile's pixels in block order, and the mapping to the image's pixels.
struct TilePixels {
  int x0, y0, width, height;  // the tile's corner and the image's size
  // Pixel centres, with one extra block outside the tile that pads the last group of a splat's blocks.
  alignas(64) float x[TILE_PIXELS + W], y[TILE_PIXELS + W];

  TilePixels(size_t tile, int image_width, int image_height) : width(image_width), height(image_height) {
    const TileGrid grid(image_width, image_height);
    x0 = static_cast<int>(tile % grid.width) * TILE_SIZE;
    y0 = static_cast<int>(tile / grid.width) * TILE_SIZE;
    for (int i = 0; i < TILE_PIXELS + W; ++i) {
      const int block = i / W, lane = i % W;
      x[i] = x0 + block % BLOCKS_X * BLOCK_WIDTH + lane % BLOCK_WIDTH + 0.5f;
      y[i] = y0 + block / BLOCKS_X * BLOCK_HEIGHT + lane / BLOCK_WIDTH + 0.5f;
    }
  }

  // Calls f(index in block order, index in the image) for the tile's pixels inside the image.
  template <typename F>
  void for_each(const F& f) const {
    const int rows = height - y0 < TILE_SIZE ? height - y0 : TILE_SIZE;
    const int columns = width - x0 < TILE_SIZE ? width - x0 : TILE_SIZE;
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < columns; ++c)
        f(((r / BLOCK_HEIGHT) * BLOCKS_X + c / BLOCK_WIDTH) * W + (r % BLOCK_HEIGHT) * BLOCK_WIDTH + c % BLOCK_WIDTH,
          static_cast<size_t>(y0 + r) * width + x0 + c);
  }
};

struct AlphaLimits {
  float min_log2_alpha = std::log2(MIN_ALPHA), max_log2_alpha = std::log2(MAX_ALPHA);
};

// Up to 64 consecutive splats of a tile's list, and the tile's blocks that each of them reaches.
struct SplatBatch {
  static constexpr int SIZE = 64;
  int count = 0;
  const Splat* splats[SIZE];
  alignas(64) float x[SIZE], y[SIZE], slope[SIZE], k1[SIZE], k2[SIZE];
  alignas(64) uint64_t reaching[BLOCKS];  // per block: bit i is set if splat i's ellipse reaches it

  void read(const Splat* all, const TilePair* pairs, int n, const TilePixels& pixels) {
    count = n;
    for (int i = 0; i < SIZE; ++i) {
      const Splat& s = all[pairs[i < n ? i : n - 1].splat];
      splats[i] = &s;
      x[i] = s.x - pixels.x[0], y[i] = s.y - pixels.y[0];
      slope[i] = s.slope, k1[i] = s.k1, k2[i] = s.k2;
    }
    mark_blocks();
  }

 private:
  // Row by row, one splat per lane: the ellipse covers slope v ± sqrt(k1 - k2 v²) around its centre.
  void mark_blocks() {
    const uint64_t valid = count == SIZE ? ~uint64_t(0) : (uint64_t(1) << count) - 1;
    for (int b = 0; b < BLOCKS; ++b) reaching[b] = 0;
    for (int first = 0; first < count; first += W) {
      const vf cx = load(x + first), cy = load(y + first), m = load(slope + first);
      const vf c1 = load(k1 + first), c2 = load(k2 + first);
      for (int by = 0; by < BLOCKS_Y; ++by) {
        vf left = splat(2.0f * TILE_SIZE), right = splat(-1.0f);
        for (int row = 0; row < BLOCK_HEIGHT; ++row) {
          const vf v = static_cast<float>(by * BLOCK_HEIGHT + row) - cy;
          const vf k2v = c2 * v;
          const vf reach2 = c1 - k2v * v;
          const vf reach = vsqrt(vmax(reach2, vf{})) + SPAN_MARGIN, middle = cx + m * v;
          // Rows that miss the ellipse by more than the margin.
          const vi off = reach2 < -SPAN_MARGIN * (1.0f + vabs(k2v));
          // If the new value is NaN, vmin and vmax return it (their second argument), and the comparisons below keep the block.
          left = vmin(left, off ? left : middle - reach);
          right = vmax(right, off ? right : middle + reach);
        }
        for (int bx = 0; bx < BLOCKS_X; ++bx) {
          const vi out = (left > static_cast<float>(bx * BLOCK_WIDTH + BLOCK_WIDTH - 1)) |
                         (right < static_cast<float>(bx * BLOCK_WIDTH));
          reaching[by * BLOCKS_X + bx] |= static_cast<uint64_t>(lane_bits(~out)) << first;
        }
      }
    }
    for (int b = 0; b < BLOCKS; ++b) reaching[b] &= valid;
  }
};

template <int D>
void blend_tile(const RasterizeInputs& in, const RasterScratch& scratch, size_t tile, float* render, float* alpha) {
  const Splat* splats = scratch.splats.data<Splat>();
  const uint64_t* tile_begin = scratch.tile_begin.data<uint64_t>();
  const TilePair* pairs = scratch.tile_pairs.data<TilePair>();
  uint64_t* pair_blocks = in.for_backward ? scratch.pair_blocks.data<uint64_t>() : nullptr;
  const TilePixels pixels(tile, in.width, in.height);
  const AlphaLimits limits;
  Splat nothing{};  // pads the last group of a block's splats
  nothing.log2_opacity = -1e30f;

  // Once a pixel is finished, its T is 0, its T_floor is unreachable, and T_final holds its last transmittance.
  alignas(64) float T[TILE_PIXELS], T_floor[TILE_PIXELS], T_final[TILE_PIXELS], color[D][TILE_PIXELS];
  std::memset(T, 0, sizeof T);
  std::memset(T_final, 0, sizeof T_final);
  std::memset(color, 0, sizeof color);
  for (float& floor : T_floor) floor = -1.0f;
  pixels.for_each([&](int i, size_t) { T[i] = 1.0f, T_floor[i] = MIN_TRANSMITTANCE; });
  uint64_t alive = ALL_BLOCKS;
  if (pair_blocks)
    std::memset(pair_blocks + tile_begin[tile], 0, (tile_begin[tile + 1] - tile_begin[tile]) * sizeof(uint64_t));
  SplatBatch batch;

  for (uint64_t k = tile_begin[tile]; k < tile_begin[tile + 1] && alive; k += SplatBatch::SIZE) {
    const uint64_t left = tile_begin[tile + 1] - k;
    batch.read(splats, pairs + k, static_cast<int>(smaller(left, SplatBatch::SIZE)), pixels);
    for (uint64_t blocks = alive; blocks; blocks &= blocks - 1) {
      const int block = __builtin_ctzll(blocks), at = block * W;
      uint64_t reaching = batch.reaching[block];
      if (!reaching) continue;
      const Splat* list[SplatBatch::SIZE + SPLATS_AT_ONCE - 1];
      int n = 0;
      for (; reaching; reaching &= reaching - 1) {
        const int i = __builtin_ctzll(reaching);
        list[n++] = batch.splats[i];
        if (pair_blocks) pair_blocks[k + i] |= uint64_t(1) << block;
      }
      for (int u = 0; u < SPLATS_AT_ONCE - 1; ++u) list[n + u] = &nothing;
      vf t = load(T + at), t_floor = load(T_floor + at), c[D];
      for (int d = 0; d < D; ++d) c[d] = load(color[d] + at);
      for (int i = 0; i < n; i += SPLATS_AT_ONCE) {
        constexpr int U = SPLATS_AT_ONCE;
        const Splat* const* s = list + i;
        const Vec<U> dx = each<U>([&](int u) { return s[u]->x - load(pixels.x + at); });
        const Vec<U> dy = each<U>([&](int u) { return s[u]->y - load(pixels.y + at); });
        const Vec<U> b_dy = each<U>([&](int u) { return s[u]->b * dy[u]; });
        const Vec<U> c_dy = each<U>([&](int u) { return s[u]->c * dy[u]; });
        const Vec<U> half_x = each<U>([&](int u) { return s[u]->a * dx[u] + b_dy[u]; });
        const Vec<U> part = each<U>([&](int u) { return fnma(c_dy[u], dy[u], splat(s[u]->log2_opacity)); });
        const Vec<U> log2_alpha = each<U>([&](int u) { return fnma(half_x[u], dx[u], part[u]); });
        const Vec<U> clamped = vexp2(each<U>([&](int u) { return vmin(log2_alpha[u], splat(limits.max_log2_alpha)); }));
        const Vec<U> a = each<U>([&](int u) {
          return keep((log2_alpha[u] >= limits.min_log2_alpha) & (log2_alpha[u] <= s[u]->log2_opacity), clamped[u]);
        });
        vf weight[U], next = t;
        for (int u = 0; u < U; ++u) {
          weight[u] = a[u] * next;
          next = fnma(a[u], next, next);
        }
        if (__builtin_expect(!none(next <= t_floor), 0)) {  // some pixel is finished: redo the group pixel by pixel
          next = t;
          vf last = load(T_final + at);
          for (int u = 0; u < U; ++u) {
            const vf w = a[u] * next, after = fnma(a[u], next, next);
            const vi stop = after <= t_floor;
            last = stop ? next : last;
            t_floor = stop ? splat(-1.0f) : t_floor;
            weight[u] = stop ? vf{} : w;
            next = stop ? vf{} : after;
          }
          store(T_final + at, last);
          if (none(next > 0.0f)) {
            alive &= ~(uint64_t(1) << block);
            n = 0;
          }
        }
        t = next;
        for (int u = 0; u < U; ++u)
          for (int d = 0; d < D; ++d) c[d] += weight[u] * s[u]->color[d];
      }
      store(T + at, t);
      store(T_floor + at, t_floor);
      for (int d = 0; d < D; ++d) store(color[d] + at, c[d]);
    }
  }

  pixels.for_each([&](int i, size_t pixel) {
    const float t = T[i] > 0.0f ? T[i] : T_final[i];
    alpha[pixel] = 1.0f - t;
    for (int d = 0; d < D; ++d)
      render[pixel * D + d] = color[d][i] + (in.background ? t * in.background[d] : 0.0f);
  });
}

// Sums the lanes of four vectors: out[i] = sum(v[i]).
inline void sum4(const vf* v, float* out) {
  typedef float v4 __attribute__((vector_size(16)));
  v4 folded[4];
  for (int i = 0; i < 4; ++i) {
    v4 parts[W / 4];
    std::memcpy(parts, v + i, sizeof parts);
    folded[i] = parts[0];
    for (int k = 1; k < W / 4; ++k) folded[i] += parts[k];
  }
  const v4 ab = __builtin_shufflevector(folded[0], folded[1], 0, 4, 1, 5) +
                __builtin_shufflevector(folded[0], folded[1], 2, 6, 3, 7);
  const v4 cd = __builtin_shufflevector(folded[2], folded[3], 0, 4, 1, 5) +
                __builtin_shufflevector(folded[2], folded[3], 2, 6, 3, 7);
  const v4 total = __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  std::memcpy(out, &total, sizeof total);
}

template <int D, bool ABS>
void blend_tile_vjp(const RasterizeGradients& g, const RasterScratch& scratch, size_t tile) {
  const Splat* splats = scratch.splats.data<Splat>();
  const uint64_t* tile_begin = scratch.tile_begin.data<uint64_t>();
  const TilePair* pairs = scratch.tile_pairs.data<TilePair>();
  float* pair_grads = scratch.pair_grads.data<float>();
  const uint64_t* pair_blocks = scratch.pair_blocks.data<uint64_t>();
  const TilePixels pixels(tile, g.width, g.height);
  const AlphaLimits limits;

  constexpr int PADDED = TILE_PIXELS + W;  // as in TilePixels; pixels with T = Q = 0 contribute nothing
  alignas(64) float T[PADDED], T_floor[PADDED], Q[PADDED], v_color[D][PADDED];
  std::memset(T, 0, sizeof T);
  std::memset(Q, 0, sizeof Q);
  std::memset(v_color, 0, sizeof v_color);
  for (float& floor : T_floor) floor = -1.0f;
  pixels.for_each([&](int i, size_t pixel) {
    T[i] = 1.0f, T_floor[i] = MIN_TRANSMITTANCE;
    float q = -(1.0f - g.alpha[pixel]) * g.v_alpha[pixel];
    for (int d = 0; d < D; ++d) {
      v_color[d][i] = g.v_render[pixel * D + d];
      q += v_color[d][i] * g.render[pixel * D + d];
    }
    Q[i] = q;
  });

  for (uint64_t k = tile_begin[tile]; k < tile_begin[tile + 1]; ++k) {
    float* grads = pair_grads + pairs[k].slot * size_t(PAIR_GRADS);
    if (!pair_blocks[k]) {
      std::memset(grads, 0, PAIR_GRADS * sizeof(float));
      continue;
    }
    __builtin_prefetch(&splats[pairs[smaller(k + 4, tile_begin[tile + 1] - 1)].splat]);
    const Splat& s = splats[pairs[k].splat];
    const vf x = splat(s.x), y = splat(s.y), a_ = splat(s.a), b_ = splat(s.b), c_ = splat(s.c);
    const vf two_a = a_ + a_, two_c = c_ + c_, log2_opacity = splat(s.log2_opacity);
    vf splat_color[D];
    for (int d = 0; d < D; ++d) splat_color[d] = splat(s.color[d]);
    vf sums[PAIR_GRADS] = {};
    for (uint64_t left = pair_blocks[k]; left;) {
      constexpr int U = BLOCKS_AT_ONCE;
      int at[U];
      for (int u = 0; u < U; ++u) {
        at[u] = (left ? __builtin_ctzll(left) : BLOCKS) * W;
        left &= left - 1;
      }
      const auto add = [](vf& sum, const Vec<U>& v) {
        for (int u = 0; u < U; ++u) sum += v[u];
      };
      // alpha and the transmittance, bit for bit as in the forward pass.
      const Vec<U> dx = each<U>([&](int u) { return x - load(pixels.x + at[u]); });
      const Vec<U> dy = each<U>([&](int u) { return y - load(pixels.y + at[u]); });
      const Vec<U> b_dy = each<U>([&](int u) { return b_ * dy[u]; });
      const Vec<U> c_dy = each<U>([&](int u) { return c_ * dy[u]; });
      const Vec<U> half_x = each<U>([&](int u) { return a_ * dx[u] + b_dy[u]; });
      const Vec<U> part = each<U>([&](int u) { return fnma(c_dy[u], dy[u], log2_opacity); });
      const Vec<U> log2_alpha = each<U>([&](int u) { return fnma(half_x[u], dx[u], part[u]); });
      const Vec<U> clamped = vexp2(each<U>([&](int u) { return vmin(log2_alpha[u], splat(limits.max_log2_alpha)); }));
      Vec<U> a = each<U>([&](int u) {
        return keep((log2_alpha[u] >= limits.min_log2_alpha) & (log2_alpha[u] <= log2_opacity), clamped[u]);
      });
      Vec<U> weight = each<U>([&](int u) { return a[u] * load(T + at[u]); });
      Vec<U> next = each<U>([&](int u) { return fnma(a[u], load(T + at[u]), load(T + at[u])); });
      vi stop[U], any = vi{};
      for (int u = 0; u < U; ++u) any |= stop[u] = next[u] <= load(T_floor + at[u]);
      if (__builtin_expect(!none(any), 0)) {
        for (int u = 0; u < U; ++u) {
          a[u] = keep(~stop[u], a[u]);
          weight[u] = keep(~stop[u], weight[u]);
          next[u] = keep(~stop[u], next[u]);
          store(Q + at[u], keep(~stop[u], load(Q + at[u])));  // removes the rounding error left there
          store(T_floor + at[u], stop[u] ? splat(-1.0f) : load(T_floor + at[u]));
        }
      }
      for (int u = 0; u < U; ++u) store(T + at[u], next[u]);

      Vec<U> dot{};
      for (int d = 0; d < D; ++d) {
        dot = each<U>([&](int u) { return dot[u] + load(v_color[d] + at[u]) * splat_color[d]; });
        add(sums[6 + d], each<U>([&](int u) { return weight[u] * load(v_color[d] + at[u]); }));
      }
      const Vec<U> behind = each<U>([&](int u) { return fnma(weight[u], dot[u], load(Q + at[u])); });
      for (int u = 0; u < U; ++u) store(Q + at[u], behind[u]);
      // -alpha dL/dalpha. No gradient through the clamp; none at all where alpha is zero.
      const Vec<U> v_sigma = each<U>([&](int u) {
        return keep(log2_alpha[u] <= limits.max_log2_alpha,
                    behind[u] * (a[u] / (1.0f - a[u])) - weight[u] * dot[u]);
      });
      add(sums[0], v_sigma);
      const Vec<U> v_dx = each<U>([&](int u) { return v_sigma[u] * dx[u]; });
      const Vec<U> v_dy = each<U>([&](int u) { return v_sigma[u] * dy[u]; });
      if (ABS) {
        const Vec<U> v_x = each<U>([&](int u) { return v_sigma[u] * (two_a * dx[u] + b_dy[u]); });
        const Vec<U> v_y = each<U>([&](int u) { return v_sigma[u] * (b_ * dx[u] + two_c * dy[u]); });
        add(sums[1], v_x);
        add(sums[2], v_y);
        add(sums[10], each<U>([&](int u) { return vabs(v_x[u]); }));
        add(sums[11], each<U>([&](int u) { return vabs(v_y[u]); }));
      } else {
        add(sums[1], v_dx);
        add(sums[2], v_dy);
      }
      add(sums[3], each<U>([&](int u) { return v_dx[u] * dx[u]; }));
      add(sums[4], each<U>([&](int u) { return v_dx[u] * dy[u]; }));
      add(sums[5], each<U>([&](int u) { return v_dy[u] * dy[u]; }));
    }
    for (int i = 0; i < PAIR_GRADS; i += 4) sum4(sums + i, grads + i);
  }
}

// Sums each splat's pairs into the gradients of its inputs.
void gather_pair_grads(const RasterizeGradients& g, const RasterScratch& scratch) {
  const Splat* splats = scratch.splats.data<Splat>();
  const uint64_t* slot_begin = scratch.slot_begin.data<uint64_t>();
  const float* pair_grads = scratch.pair_grads.data<float>();
  constexpr size_t CHUNK = 1024;
  parallel(ceil_div(scratch.n_visible, CHUNK), [&](size_t task) {
    for (size_t i = task * CHUNK; i < smaller(scratch.n_visible, (task + 1) * CHUNK); ++i) {
      float sums[PAIR_GRADS] = {};
      for (uint64_t slot = slot_begin[i]; slot < slot_begin[i + 1]; ++slot)
        for (int j = 0; j < PAIR_GRADS; ++j) sums[j] += pair_grads[slot * PAIR_GRADS + j];
      const Splat& s = splats[i];
      const size_t id = s.id;
      const float a = s.a * (2.0f / LOG2_E), b = s.b / LOG2_E, c = s.c * (2.0f / LOG2_E);
      if (g.v_means2d_abs) {
        g.v_means2d[id * 2] = sums[1] / LOG2_E;
        g.v_means2d[id * 2 + 1] = sums[2] / LOG2_E;
      } else {
        g.v_means2d[id * 2] = a * sums[1] + b * sums[2];
        g.v_means2d[id * 2 + 1] = b * sums[1] + c * sums[2];
      }
      g.v_conics[id * 3] = 0.5f * sums[3];
      g.v_conics[id * 3 + 1] = sums[4];
      g.v_conics[id * 3 + 2] = 0.5f * sums[5];
      for (int d = 0; d < g.channels; ++d) g.v_colors[id * g.channels + d] = sums[6 + d];
      g.v_opacities[id] = -sums[0] / s.opacity;
      if (g.v_means2d_abs) {
        g.v_means2d_abs[id * 2] = sums[10] / LOG2_E;
        g.v_means2d_abs[id * 2 + 1] = sums[11] / LOG2_E;
      }
    }
  });
}

void rasterize_forward(const RasterizeInputs& in, RasterScratch& scratch, float* render, float* alpha) {
  bin_splats(in, scratch);
  if (in.for_backward)
    scratch.pair_blocks.get<uint64_t>(scratch.tile_begin.data<uint64_t>()[TileGrid(in.width, in.height).count()]);
  parallel(TileGrid(in.width, in.height).count(), [&](size_t tile) {
    switch (in.channels) {
      case 1: return blend_tile<1>(in, scratch, tile, render, alpha);
      case 2: return blend_tile<2>(in, scratch, tile, render, alpha);
      case 3: return blend_tile<3>(in, scratch, tile, render, alpha);
      default: return blend_tile<4>(in, scratch, tile, render, alpha);
    }
  });
}

template <bool ABS>
void blend_tile_vjp_of(const RasterizeGradients& g, const RasterScratch& scratch, size_t tile) {
  switch (g.channels) {
    case 1: return blend_tile_vjp<1, ABS>(g, scratch, tile);
    case 2: return blend_tile_vjp<2, ABS>(g, scratch, tile);
    case 3: return blend_tile_vjp<3, ABS>(g, scratch, tile);
    default: return blend_tile_vjp<4, ABS>(g, scratch, tile);
  }
}

void rasterize_backward(const RasterizeGradients& g, RasterScratch& scratch) {
  scratch.pair_grads.get<float>(scratch.slot_begin.data<uint64_t>()[scratch.n_visible] * PAIR_GRADS);
  parallel(TileGrid(g.width, g.height).count(), [&](size_t tile) {
    if (g.v_means2d_abs)
      blend_tile_vjp_of<true>(g, scratch, tile);
    else
      blend_tile_vjp_of<false>(g, scratch, tile);
  });
  gather_pair_grads(g, scratch);
}

}  // namespace
}  // namespace IMG3D_ISA
