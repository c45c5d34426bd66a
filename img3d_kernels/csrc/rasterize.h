// SPDX-License-Identifier: Apache-2.0
// Front-to-back blending of the splats of each tile, and its gradient, with gsplat 1.4's rules
// (rasterize_to_pixels_fwd.cu, _bwd.cu). A tile's pixels stay in the cache while its splats pass over them, in blocks of
// W pixels, 4 wide; of each splat only the blocks are visited that its ellipse reaches.
//
// The backward pass replays the forward one from the front. With Q_i what lies behind splat i, weighted by the
// gradient, dL/dalpha_i = T_i (v · c_i) - Q_i / (1 - alpha_i), and Q needs no second pass: it starts as the whole
// pixel's v · render - v_alpha T_final and loses each splat's part in turn.
#pragma once

#include "splat_tiles.h"

namespace IMG3D_ISA {
namespace {

using img3d::MAX_ALPHA;
using img3d::MIN_TRANSMITTANCE;
using img3d::RasterizeGradients;

constexpr int BLOCK_WIDTH = 4, BLOCK_HEIGHT = W / BLOCK_WIDTH;
constexpr int BLOCKS_X = TILE_SIZE / BLOCK_WIDTH, BLOCKS_Y = TILE_SIZE / BLOCK_HEIGHT;
constexpr int BLOCKS = BLOCKS_X * BLOCKS_Y;
constexpr uint64_t ALL_BLOCKS = BLOCKS == 64 ? ~uint64_t(0) : (uint64_t(1) << (BLOCKS % 64)) - 1;

// Per pair: sums of v_sigma times 1, dx, dy, dx², dx dy, dy² (v_sigma: gradient of the Gaussian's exponent); colours;
// |gradient of the mean| along x and y.
constexpr int PAIR_GRADS = 12;

struct LaneOffsets {
  vf index;
  LaneOffsets() {
    for (int l = 0; l < W; ++l) index[l] = static_cast<float>(l);
  }
};

// exp2 on [-126, 126]: integer part into the exponent, a polynomial (relative error 1e-7) for the rest.
inline vf vexp2(vf x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const vf shifted = x + magic;
  const vf f = x - (shifted - magic);
  vf p = splat(0.0013276472454890609f);
  p = p * f + 0.009675541892647743f;
  p = p * f + 0.05550713092088699f;
  p = p * f + 0.24022120237350464f;
  p = p * f + 0.6931469440460205f;
  p = p * f + 1.0000001192092896f;
  return from_bits(bits(p) + (bits(shifted) << 23));
}

// The blocks of a tile that a splat's ellipse reaches, as bits: block by * BLOCKS_X + bx. (x, y): the splat's centre
// relative to the centre of the tile's first pixel.
inline uint64_t reached_blocks(const Splat& s, float x, float y, const LaneOffsets& lanes) {
  uint64_t reached = 0;
  for (int by = 0; by < BLOCKS_Y; by += W) {  // a lane for each row of blocks
    vi first = vi{} + TILE_SIZE, last = vi{} - 1;
    for (int row = 0; row < BLOCK_HEIGHT; ++row) {
      const vf v = lanes.index * static_cast<float>(BLOCK_HEIGHT) + (by * BLOCK_HEIGHT + row - y);
      const vf reach2 = s.k1 - s.k2 * v * v;
      const vf reach = vsqrt(vmax(reach2, vf{})) + SPAN_MARGIN, middle = x + s.slope * v;
      // Truncation rounds towards zero: shift the range to positive numbers first.
      const vf left = vmin(vmax(middle - reach, splat(-1.0f)), splat(TILE_SIZE)) + 2.0f;
      const vf right = vmin(vmax(middle + reach, splat(-1.0f)), splat(TILE_SIZE)) + 2.0f;
      const vi left_floor = __builtin_convertvector(left, vi);
      const vi left_ceil = left_floor - (__builtin_convertvector(left_floor, vf) < left);  // a true lane is -1
      const vi from = left_ceil - 2, to = __builtin_convertvector(right, vi) - 2;
      // Rows off the ellipse by more than the margin can make up for, and rows between two pixels. A NaN counts as
      // reached.
      const vi empty = (reach2 < -SPAN_MARGIN * (1.0f + vabs(s.k2 * v))) | (from > to);
      first = ~empty & (from < first) ? from : first;
      last = ~empty & (to > last) ? to : last;
    }
    first = (first < 0 ? vi{} : first) / BLOCK_WIDTH;
    last = last < 0 ? vi{} - 1 : (last > TILE_SIZE - 1 ? vi{} + (TILE_SIZE - 1) : last) / BLOCK_WIDTH;
    alignas(64) int32_t row_bits[W];
    const vi in_row = last >= first ? (vi{} + 2 << last) - (vi{} + 1 << first) : vi{};
    std::memcpy(row_bits, &in_row, sizeof row_bits);
    for (int l = 0; l < W && by + l < BLOCKS_Y; ++l)
      reached |= static_cast<uint64_t>(row_bits[l]) << ((by + l) * BLOCKS_X);
  }
  return reached;
}

// Position of every pixel of a tile relative to its first one, in block order.
struct BlockPixels {
  alignas(64) float x[TILE_SIZE * TILE_SIZE], y[TILE_SIZE * TILE_SIZE];
  BlockPixels() {
    for (int i = 0; i < TILE_SIZE * TILE_SIZE; ++i) {
      const int block = i / W, lane = i % W;
      x[i] = static_cast<float>(block % BLOCKS_X * BLOCK_WIDTH + lane % BLOCK_WIDTH);
      y[i] = static_cast<float>(block / BLOCKS_X * BLOCK_HEIGHT + lane / BLOCK_WIDTH);
    }
  }
};

// Transposes between the image's rows and a tile's blocks. Pixels past the image's edge read as zero.
struct TilePixels {
  int x0, y0, width, height;  // the tile's corner and the image's size

  TilePixels(size_t tile, int image_width, int image_height) : width(image_width), height(image_height) {
    const TileGrid grid(image_width, image_height);
    x0 = static_cast<int>(tile % grid.width) * TILE_SIZE;
    y0 = static_cast<int>(tile / grid.width) * TILE_SIZE;
  }

  // f(index in block order, index in the image)
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

constexpr int TILE_PIXELS = TILE_SIZE * TILE_SIZE;

template <int D>
void blend_tile(const RasterizeInputs& in, const RasterScratch& scratch, size_t tile, float* render, float* alpha) {
  const Splat* splats = scratch.splats.data<Splat>();
  const uint64_t* tile_begin = scratch.tile_begin.data<uint64_t>();
  const TilePair* pairs = scratch.tile_pairs.data<TilePair>();
  const TilePixels pixels(tile, in.width, in.height);
  const LaneOffsets lanes;
  static const BlockPixels offsets;
  const float min_log2_alpha = std::log2(MIN_ALPHA);

  // T is zero once a pixel is finished; its last transmittance is kept in T_final.
  alignas(64) float T[TILE_PIXELS], T_final[TILE_PIXELS], color[D][TILE_PIXELS];
  std::memset(T, 0, sizeof T);
  std::memset(color, 0, sizeof color);
  pixels.for_each([&](int i, size_t) { T[i] = 1.0f; });
  std::memset(T_final, 0, sizeof T_final);
  uint64_t alive = ALL_BLOCKS;

  for (uint64_t k = tile_begin[tile]; k < tile_begin[tile + 1] && alive; ++k) {
    const Splat& s = splats[pairs[k].splat];
    __builtin_prefetch(&splats[pairs[k + 4 < tile_begin[tile + 1] ? k + 4 : k].splat]);
    const float x = s.x - 0.5f - pixels.x0, y = s.y - 0.5f - pixels.y0;
    for (uint64_t left = reached_blocks(s, x, y, lanes) & alive; left; left &= left - 1) {
      const int block = __builtin_ctzll(left);
      const vf dx = x - load(offsets.x + block * W), dy = y - load(offsets.y + block * W);
      const vf q = dx * (s.a * dx + s.b * dy) + s.c * dy * dy;
      const vf log2_alpha = s.log2_opacity - q;
      const vi reached = (log2_alpha >= min_log2_alpha) & (q >= 0.0f);
      const vf a = keep(reached, vmin(vexp2(log2_alpha), splat(MAX_ALPHA)));
      const vf t = load(T + block * W);
      vf weight = a * t, next_t = t - weight;
      const vi stop = next_t <= MIN_TRANSMITTANCE;
      if (__builtin_expect(!none(stop), 0)) {
        const vi now = stop & (t > 0.0f);
        const vf last = load(T_final + block * W);
        store(T_final + block * W, now ? t : last);
        next_t = stop ? vf{} : next_t;
        weight = stop ? vf{} : weight;
        if (none(next_t > 0.0f)) alive &= ~(uint64_t(1) << block);
      }
      store(T + block * W, next_t);
      for (int d = 0; d < D; ++d) store(color[d] + block * W, load(color[d] + block * W) + weight * s.color[d]);
    }
  }

  pixels.for_each([&](int i, size_t pixel) {
    const float t = T[i] > 0.0f ? T[i] : T_final[i];
    alpha[pixel] = 1.0f - t;
    for (int d = 0; d < D; ++d)
      render[pixel * D + d] = color[d][i] + (in.background ? t * in.background[d] : 0.0f);
  });
}

// Adds the lanes of four vectors: out[i] = sum(v[i]).
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
  const TilePixels pixels(tile, g.width, g.height);
  const LaneOffsets lanes;
  static const BlockPixels offsets;
  const float min_log2_alpha = std::log2(MIN_ALPHA);

  alignas(64) float T[TILE_PIXELS], Q[TILE_PIXELS], v_color[D][TILE_PIXELS];
  std::memset(T, 0, sizeof T);
  std::memset(Q, 0, sizeof Q);
  std::memset(v_color, 0, sizeof v_color);
  pixels.for_each([&](int i, size_t pixel) {
    T[i] = 1.0f;
    float q = -(1.0f - g.alpha[pixel]) * g.v_alpha[pixel];
    for (int d = 0; d < D; ++d) {
      v_color[d][i] = g.v_render[pixel * D + d];
      q += v_color[d][i] * g.render[pixel * D + d];
    }
    Q[i] = q;
  });
  uint64_t alive = ALL_BLOCKS;

  for (uint64_t k = tile_begin[tile]; k < tile_begin[tile + 1]; ++k) {
    float* grads = pair_grads + pairs[k].slot * size_t(PAIR_GRADS);
    if (!alive) {
      std::memset(grads, 0, PAIR_GRADS * sizeof(float));
      continue;
    }
    const Splat& s = splats[pairs[k].splat];
    __builtin_prefetch(&splats[pairs[k + 4 < tile_begin[tile + 1] ? k + 4 : k].splat]);
    const float x = s.x - 0.5f - pixels.x0, y = s.y - 0.5f - pixels.y0;
    vf sums[PAIR_GRADS] = {};
    for (uint64_t left = reached_blocks(s, x, y, lanes) & alive; left; left &= left - 1) {
      const int block = __builtin_ctzll(left);
      const vf dx = x - load(offsets.x + block * W), dy = y - load(offsets.y + block * W);
      const vf q = dx * (s.a * dx + s.b * dy) + s.c * dy * dy;
      const vf log2_alpha = s.log2_opacity - q;
      const vf raw_alpha = vexp2(log2_alpha);
      vf a = keep((log2_alpha >= min_log2_alpha) & (q >= 0.0f), vmin(raw_alpha, splat(MAX_ALPHA)));
      const vf t = load(T + block * W);
      vf weight = a * t, next_t = t - weight;
      const vi stop = next_t <= MIN_TRANSMITTANCE;
      if (__builtin_expect(!none(stop), 0)) {
        next_t = stop ? vf{} : next_t;
        weight = stop ? vf{} : weight;
        a = stop ? vf{} : a;
        if (none(next_t > 0.0f)) alive &= ~(uint64_t(1) << block);
      }
      store(T + block * W, next_t);
      vf dot{};
      for (int d = 0; d < D; ++d) {
        const vf v = load(v_color[d] + block * W);
        dot += v * s.color[d];
        sums[6 + d] += weight * v;
      }
      const vf behind = load(Q + block * W) - weight * dot;
      store(Q + block * W, behind);
      const vf v_alpha = t * dot - behind / (1.0f - a);
      // No gradient through the clamp; none at all where alpha is zero.
      const vf v_sigma = keep(raw_alpha <= MAX_ALPHA, -a * v_alpha);
      const vf v_dx = v_sigma * dx, v_dy = v_sigma * dy;
      sums[0] += v_sigma;
      sums[1] += v_dx;
      sums[2] += v_dy;
      sums[3] += v_dx * dx;
      sums[4] += v_dx * dy;
      sums[5] += v_dy * dy;
      if (ABS) {
        sums[10] += vabs(v_sigma * (2.0f * s.a * dx + s.b * dy));
        sums[11] += vabs(v_sigma * (s.b * dx + 2.0f * s.c * dy));
      }
    }
    for (int i = 0; i < PAIR_GRADS; i += 4) sum4(sums + i, grads + i);
  }
}

// Gathers each splat's pairs into the gradients of its inputs.
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
      g.v_means2d[id * 2] = a * sums[1] + b * sums[2];
      g.v_means2d[id * 2 + 1] = b * sums[1] + c * sums[2];
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
