// SPDX-License-Identifier: Apache-2.0
// PatchMatch multi-view stereo: finds a slanted plane for each pixel of a reference picture. It tries the planes of
// neighbouring pixels and random changes of them, and keeps the plane under which the sources look most alike.
//
//   Galliani, Lasinger, Schindler 2015, "Massively parallel multiview stereopsis by surface normal diffusion" (Gipuma):
//     the checkerboard: its two colours take turns, so that all pixels of one colour are processed in parallel;
//   Schönberger, Zheng, Pollefeys, Frahm 2016, "Pixelwise view selection for unstructured multi-view stereo" (COLMAP):
//     the bilaterally weighted normalised cross-correlation, and the geometric term;
//   Xu and Tao 2019, "Multi-scale geometric consistency guided multi-view stereo" (ACMM):
//     the areas from which planes are propagated, and the weight of each source at a pixel.
//
// A plane is stored as an inverse depth that is an affine function of the pixel: its value at the pixel and its slopes
// along x and y. Propagating a plane takes two multiplications, and the homography to a source is
// A + b (slope_x, slope_y, constant). SIMD lanes hold W pixels of one colour in a row.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

using img3d::PatchMatchInputs;
using img3d::StereoSource;

constexpr int SAMPLES = 32;          // per patch: every other pixel of 11 x 11, without the four corners
constexpr float SIGMA_SPACE = 5.0f;  // pixels
constexpr float SIGMA_COLOR = 0.2f * 255.0f;
constexpr float MIN_VARIANCE = 1e-5f * 255.0f * 255.0f;  // of the grey values in a patch; below it, no texture
constexpr float MAX_COST = 2.0f;                         // one minus a correlation of -1
constexpr float MIN_COSINE = 0.1f;                       // between the normal and the viewing ray
constexpr int CANDIDATES = 8;                            // planes propagated from neighbours
constexpr int BEST = 3;                                  // sources that are averaged where no source has a weight
// ACMM, section 3.2: costs of good and bad matches, and how many candidates must have them.
constexpr float GOOD_COST = 0.8f, GOOD_COST_FALL = 90.0f, BAD_COST = 1.2f, WEIGHT_SIGMA = 0.3f;
constexpr float ENOUGH_GOOD = 2.0f, TOO_MANY_BAD = 3.0f;
// ACMM, section 3.3: the geometric term; the error is in pixels of the reference.
constexpr float GEOMETRIC_WEIGHT = 0.2f, MAX_GEOMETRIC_ERROR = 3.0f;

struct PatchOffsets {
  float x[SAMPLES], y[SAMPLES], falloff[SAMPLES];  // falloff: log2 of the spatial weight

  PatchOffsets() {
    int i = 0;
    for (int dy = -5; dy <= 5; dy += 2)
      for (int dx = -5; dx <= 5; dx += 2)
        if (dx * dx + dy * dy < 50) {
          x[i] = static_cast<float>(dx), y[i] = static_cast<float>(dy);
          falloff[i++] = -static_cast<float>(dx * dx + dy * dy) / (2 * SIGMA_SPACE * SIGMA_SPACE) * 1.442695041f;
        }
  }
};

inline vf vexp2_of(vf x) { return vexp2(Vec<1>{{vmax(x, splat(-125.0f))}})[0]; }

struct Plane {
  vf inverse_depth, slope_x, slope_y;
};

// W pixels of the reference and their patches.
struct Patch {
  vf x, y;    // integers at pixel centres
  vi wanted;    // inside the picture and its mask
  vi textured;  // wanted, and with enough variance
  vf weight[SAMPLES];   // normalised: their sum is 1
  vf centred[SAMPLES];  // weight * (grey value - weighted mean)
  vf variance;
};

// Lanes beyond the picture repeat its last pixel.
void read_patch(const PatchMatchInputs& in, const PatchOffsets& offsets, int first_x, int y, Patch& patch) {
  alignas(64) float grey[SAMPLES][W], counts[SAMPLES][W], center[W], xs[W];
  alignas(64) int32_t wanted[W];
  for (int l = 0; l < W; ++l) {
    const int x = first_x + 2 * l, column = x < in.width ? x : in.width - 1;
    xs[l] = static_cast<float>(x);
    wanted[l] = x < in.width && (!in.mask || in.mask[size_t(y) * in.width + x]) ? -1 : 0;
    center[l] = in.image[size_t(y) * in.width + column];
    for (int i = 0; i < SAMPLES; ++i) {
      int sx = column + static_cast<int>(offsets.x[i]), sy = y + static_cast<int>(offsets.y[i]);
      sx = sx < 0 ? 0 : sx >= in.width ? in.width - 1 : sx;
      sy = sy < 0 ? 0 : sy >= in.height ? in.height - 1 : sy;
      const size_t at = size_t(sy) * in.width + sx;
      grey[i][l] = in.image[at];
      counts[i][l] = !in.mask || in.mask[at] ? 1.0f : 0.0f;  // pixels outside the mask show another surface
    }
  }
  patch.x = load(xs), patch.y = splat(static_cast<float>(y));
  const vf middle = load(center);
  vf total{}, mean{};
  for (int i = 0; i < SAMPLES; ++i) {
    const vf difference = load(grey[i]) - middle;
    const float scale = -1.442695041f / (2 * SIGMA_COLOR * SIGMA_COLOR);
    patch.weight[i] = load(counts[i]) * vexp2_of(difference * difference * scale + offsets.falloff[i]);
    total += patch.weight[i];
    mean += patch.weight[i] * load(grey[i]);
  }
  const vf scale = 1.0f / vmax(total, splat(1e-6f));  // the whole patch may be outside the mask
  mean *= scale;
  patch.variance = vf{};
  for (int i = 0; i < SAMPLES; ++i) {
    patch.weight[i] *= scale;
    const vf difference = load(grey[i]) - mean;
    patch.centred[i] = patch.weight[i] * difference;
    patch.variance += patch.centred[i] * difference;
  }
  std::memcpy(&patch.wanted, wanted, sizeof patch.wanted);
  patch.textured = patch.wanted & (patch.variance > MIN_VARIANCE);
}

// Where a patch has no texture, the sources' depth maps still distinguish planes.
inline vi usable_of(const PatchMatchInputs& in, const Patch& patch) {
  return in.sources[0].depth ? patch.wanted : patch.textured;
}

// Bilinear interpolation of grey values. Each 32-bit word of a source packs the grey values of a pixel and its
// neighbours to the right, below, and below right: one gather instead of four.
inline vf interpolated(const StereoSource& source, vf u, vf v) {
  u = vmin(vmax(u, vf{}), splat(static_cast<float>(source.width - 1)));
  v = vmin(vmax(v, vf{}), splat(static_cast<float>(source.height - 1)));
  const vf column = whole(u), row = whole(v);
  const vf fx = u - column, fy = v - row;
  const vu quad = gather(source.quads, to_int(row * static_cast<float>(source.width) + column));
  const auto grey = [&](int shift) { return __builtin_convertvector((vi)(quad >> shift & 255u), vf); };
  const vf left = grey(0), below_left = grey(16);
  const vf upper = left + fx * (grey(8) - left), lower = below_left + fx * (grey(24) - below_left);
  return upper + fy * (lower - upper);
}

// Whether the source's mask contains the pixel nearest to (u, v); `inside` marks lanes inside the picture.
inline vi within_mask(const StereoSource& source, vi inside, vf u, vf v) {
  alignas(64) int32_t at[W], found[W];
  const vi nearest = to_int(whole(keep(inside, v) + 0.5f) * static_cast<float>(source.width) + whole(keep(inside, u) + 0.5f));
  std::memcpy(at, &nearest, sizeof at);
  for (int l = 0; l < W; ++l) found[l] = source.mask[at[l]] ? -1 : 0;
  vi r;
  std::memcpy(&r, found, sizeof r);
  return r;
}

// One minus the weighted normalised cross-correlation of the patch with its image in the source under the plane.
vf photometric_cost(const StereoSource& source, const PatchOffsets& offsets, const Patch& patch, const Plane& plane) {
  vf at[3], along_x[3], along_y[3];
  for (int k = 0; k < 3; ++k) {
    const float* A = source.A + 3 * k;
    at[k] = A[0] * patch.x + A[1] * patch.y + A[2] + source.b[k] * plane.inverse_depth;
    along_x[k] = A[0] + source.b[k] * plane.slope_x;
    along_y[k] = A[1] + source.b[k] * plane.slope_y;
  }
  const vf u = at[0] / at[2], v = at[1] / at[2];
  vi inside = (at[2] > 0.0f) & (u >= 0.0f) & (u <= static_cast<float>(source.width - 1)) & (v >= 0.0f) &
              (v <= static_cast<float>(source.height - 1)) & patch.textured;
  if (source.mask) inside &= within_mask(source, inside, u, v);
  if (none(inside)) return splat(MAX_COST);
  vf sum{}, square_sum{}, product_sum{};
  for (int i = 0; i < SAMPLES; ++i) {
    const float dx = offsets.x[i], dy = offsets.y[i];
    const vf inverse = reciprocal(at[2] + dx * along_x[2] + dy * along_y[2]);
    const vf grey = interpolated(source, (at[0] + dx * along_x[0] + dy * along_y[0]) * inverse,
                                 (at[1] + dx * along_x[1] + dy * along_y[1]) * inverse);
    const vf weighted = patch.weight[i] * grey;
    sum += weighted;
    square_sum += weighted * grey;
    product_sum += patch.centred[i] * grey;
  }
  const vf variance = square_sum - sum * sum;
  const vi textured = inside & (variance > MIN_VARIANCE);
  const vf cost = 1.0f - product_sum / vsqrt(vmax(variance * patch.variance, splat(1e-6f)));
  return textured ? vmin(vmax(cost, vf{}), splat(MAX_COST)) : splat(MAX_COST);
}

// Reprojection error in pixels of the reference: from the plane's point to the source's own depth there and back.
vf geometric_error(const StereoSource& source, const Patch& patch, const Plane& plane) {
  vf at[3];
  for (int k = 0; k < 3; ++k) {
    const float* A = source.A + 3 * k;
    at[k] = A[0] * patch.x + A[1] * patch.y + A[2] + source.b[k] * plane.inverse_depth;
  }
  const vf u = at[0] / at[2] + 0.5f, v = at[1] / at[2] + 0.5f;
  const vi inside = (at[2] > 0.0f) & (u >= 0.0f) & (u < static_cast<float>(source.width)) & (v >= 0.0f) &
                    (v < static_cast<float>(source.height));
  const vf column = whole(keep(inside, u)), row = whole(keep(inside, v));
  const vf depth = (vf)gather(reinterpret_cast<const uint32_t*>(source.depth),
                              to_int(row * static_cast<float>(source.width) + column));
  const vf inverse = 1.0f / depth;
  vf back[3];
  for (int k = 0; k < 3; ++k) {
    const float* A = source.back_A + 3 * k;
    // The exact position, not the centre of the nearest pixel, which would add half a pixel of error.
    back[k] = A[0] * (u - 0.5f) + A[1] * (v - 0.5f) + A[2] + source.back_b[k] * inverse;
  }
  const vf dx = back[0] / back[2] - patch.x, dy = back[1] / back[2] - patch.y;
  const vf error = vsqrt(dx * dx + dy * dy);
  const vi known = inside & (depth > 0.0f) & (back[2] > 0.0f) & (error < MAX_GEOMETRIC_ERROR);
  return known ? error : splat(MAX_GEOMETRIC_ERROR);
}

inline vf cost_in(const StereoSource& source, const PatchOffsets& offsets, const Patch& patch, const Plane& plane) {
  const vf cost = photometric_cost(source, offsets, patch, plane);
  return source.depth ? cost + GEOMETRIC_WEIGHT * geometric_error(source, patch, plane) : cost;
}

// Whether the depth is in range and the surface is not seen at a grazing angle.
inline vi is_possible(const PatchMatchInputs& in, const Patch& patch, const Plane& plane) {
  const vf rx = (patch.x - in.cx) * (1.0f / in.fx), ry = (patch.y - in.cy) * (1.0f / in.fy);
  const vf nx = plane.slope_x * in.fx, ny = plane.slope_y * in.fy;
  const vf nz = plane.inverse_depth - nx * rx - ny * ry;
  const vf lengths = (nx * nx + ny * ny + nz * nz) * (rx * rx + ry * ry + 1.0f) * (MIN_COSINE * MIN_COSINE);
  return (plane.inverse_depth >= in.min_inverse_depth) & (plane.inverse_depth <= in.max_inverse_depth) &
         (plane.inverse_depth * plane.inverse_depth > lengths);
}

inline Plane chosen(vi mask, const Plane& a, const Plane& b) {
  return {mask ? a.inverse_depth : b.inverse_depth, mask ? a.slope_x : b.slope_x, mask ? a.slope_y : b.slope_y};
}

// The mean of the `BEST` lowest costs (Gipuma).
inline vf mean_of_best(const vf* costs, size_t n) {
  vf best[BEST];
  const int count = static_cast<int>(smaller(BEST, n));
  for (int k = 0; k < count; ++k) best[k] = splat(2 * MAX_COST);
  for (size_t j = 0; j < n; ++j) {
    vf cost = costs[j];
    for (int k = 0; k < count; ++k) {
      const vf more = vmax(best[k], cost);
      best[k] = vmin(best[k], cost);
      cost = more;
    }
  }
  vf sum{};
  for (int k = 0; k < count; ++k) sum += best[k];
  return sum * (1.0f / static_cast<float>(count));
}

// Weights of the sources at each pixel (ACMM, equations 3 to 5) from the costs [1 + CANDIDATES, n]. All are zero where
// no source is good.
void weigh_sources(const vf* costs, size_t n, int iteration, vf* weights) {
  const float good_cost = GOOD_COST * std::exp(-static_cast<float>(iteration * iteration) / GOOD_COST_FALL);
  for (size_t j = 0; j < n; ++j) {
    vf good{}, bad{}, confidence{};
    for (int i = 0; i <= CANDIDATES; ++i) {
      const vf cost = costs[i * n + j];
      const vi is_good = cost < good_cost;
      good += keep(is_good, splat(1.0f));
      bad += keep(cost > BAD_COST, splat(1.0f));
      confidence += keep(is_good, vexp2_of(cost * cost * (-1.442695041f / (2 * WEIGHT_SIGMA * WEIGHT_SIGMA))));
    }
    weights[j] = keep((good > ENOUGH_GOOD) & (bad < TOO_MANY_BAD), confidence / vmax(good, splat(1.0f)));
  }
}

inline vf weighted_cost(const vf* costs, const vf* weights, size_t n) {
  vf sum{}, total{};
  for (size_t j = 0; j < n; ++j) sum += weights[j] * costs[j], total += weights[j];
  const vi known = total > 1e-6f;
  return known ? sum / vmax(total, splat(1e-6f)) : mean_of_best(costs, n);
}

// Uniform random numbers in [0, 1), which depend on neither the number of threads nor the instruction set.
struct Random {
  vu state;

  Random(vf x, vf y, uint32_t seed) : state((vu)to_int(x) * 0x9e3779b1u ^ ((vu)to_int(y) * 0x85ebca77u + seed)) {}

  vf operator()() {
    state += 0x9e3779b9u;
    vu h = state;
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    h ^= h >> 16;
    return __builtin_convertvector((vi)(h >> 8), vf) * (1.0f / 16777216.0f);
  }
};

struct Normals {
  vf x, y, z;
};

inline Normals normals_of(const PatchMatchInputs& in, const Patch& patch, const Plane& plane) {
  const vf rx = (patch.x - in.cx) * (1.0f / in.fx), ry = (patch.y - in.cy) * (1.0f / in.fy);
  const vf nx = plane.slope_x * in.fx, ny = plane.slope_y * in.fy;
  const vf nz = plane.inverse_depth - nx * rx - ny * ry;
  const vf scale = 1.0f / vsqrt(vmax(nx * nx + ny * ny + nz * nz, splat(1e-30f)));
  return {nx * scale, ny * scale, nz * scale};
}

inline Plane plane_of(const PatchMatchInputs& in, const Patch& patch, const Normals& n, vf inverse_depth) {
  const vf rx = (patch.x - in.cx) * (1.0f / in.fx), ry = (patch.y - in.cy) * (1.0f / in.fy);
  const vf along_ray = n.x * rx + n.y * ry + n.z;
  // A normal perpendicular to the ray gives no visible plane; is_possible rejects the result.
  const vf scale = inverse_depth / (vabs(along_ray) > 1e-6f ? along_ray : splat(1e-6f));
  return {inverse_depth, n.x * scale * (1.0f / in.fx), n.y * scale * (1.0f / in.fy)};
}

// Propagation: from each of eight areas, the plane with the lowest cost is tried. Each of the four directions has a
// V-shaped area nearby and a strip beyond it. All their pixels have the other colour.
struct Area {
  int8_t count;
  int8_t dx[12], dy[12];
};

struct Areas {
  Area at[CANDIDATES];

  Areas() {
    static constexpr int TURNS[4][4] = {{1, 0, 0, 1}, {-1, 0, 0, -1}, {0, 1, 1, 0}, {0, -1, -1, 0}};
    for (int turn = 0; turn < 4; ++turn) {
      Area& near = at[2 * turn];
      Area& far = at[2 * turn + 1];
      near.count = far.count = 0;
      const auto add = [&](Area& area, int across, int away) {
        area.dx[area.count] = static_cast<int8_t>(TURNS[turn][0] * across + TURNS[turn][1] * away);
        area.dy[area.count++] = static_cast<int8_t>(TURNS[turn][2] * across + TURNS[turn][3] * away);
      };
      add(near, 0, 1);
      for (int step = 1; step <= 3; ++step) add(near, step, step + 1), add(near, -step, step + 1);
      for (int away = 3; away <= 23; away += 2) add(far, 0, away);
    }
  }
};

// The plane of the area's pixel with the lowest cost, evaluated at each of W pixels; not possible (all zero) where the
// area lies outside the picture.
Plane taken_over(const PatchMatchInputs& in, const Area& area, const float* planes, const float* costs, int first_x,
                 int y) {
  alignas(64) float values[3][W];
  for (int l = 0; l < W; ++l) {
    const int x = first_x + 2 * l;
    float least = 4 * MAX_COST;
    ptrdiff_t best = -1;
    int best_dx = 0, best_dy = 0;
    for (int i = 0; i < area.count; ++i) {
      const int nx = x + area.dx[i], ny = y + area.dy[i];
      if (nx < 0 || nx >= in.width || ny < 0 || ny >= in.height) continue;
      const ptrdiff_t at = ptrdiff_t(ny) * in.width + nx;
      if (costs[at] < least) least = costs[at], best = at, best_dx = area.dx[i], best_dy = area.dy[i];
    }
    const float* plane = planes + 3 * best;
    values[0][l] = best < 0 ? 0.0f : plane[0] - static_cast<float>(best_dx) * plane[1] - static_cast<float>(best_dy) * plane[2];
    values[1][l] = best < 0 ? 0.0f : plane[1];
    values[2][l] = best < 0 ? 0.0f : plane[2];
  }
  return {load(values[0]), load(values[1]), load(values[2])};
}

void read_planes(const PatchMatchInputs& in, const float* planes, int first_x, int y, Plane& plane) {
  alignas(64) float values[3][W];
  for (int l = 0; l < W; ++l) {
    const int x = first_x + 2 * l < in.width ? first_x + 2 * l : in.width - 1;
    for (int k = 0; k < 3; ++k) values[k][l] = planes[3 * (size_t(y) * in.width + x) + k];
  }
  plane = {load(values[0]), load(values[1]), load(values[2])};
}

void write_pixels(const PatchMatchInputs& in, const Plane& plane, vf cost, int first_x, int y, float* planes,
                  float* costs) {
  alignas(64) float values[4][W];
  store(values[0], plane.inverse_depth), store(values[1], plane.slope_x), store(values[2], plane.slope_y);
  store(values[3], cost);
  for (int l = 0; l < W && first_x + 2 * l < in.width; ++l) {
    const size_t at = size_t(y) * in.width + first_x + 2 * l;
    for (int k = 0; k < 3; ++k) planes[3 * at + k] = values[k][l];
    costs[at] = values[3][l];
  }
}

// Calls f(first_x, y) for each group of W pixels of a colour.
template <typename F>
void for_colour(const PatchMatchInputs& in, int colour, const F& f) {
  parallel(static_cast<size_t>(in.height), [&](size_t row) {
    const int y = static_cast<int>(row);
    for (int x = (y + colour) & 1; x < in.width; x += 2 * W) f(x, y);
  });
}

// Evaluates the costs of the given planes: the mean over the best sources.
void evaluate_planes(const PatchMatchInputs& in, const PatchOffsets& offsets, const float* planes, float* costs,
                     float* planes_out) {
  for (int colour = 0; colour < 2; ++colour)
    for_colour(in, colour, [&](int x, int y) {
      Patch patch;
      read_patch(in, offsets, x, y, patch);
      Plane plane;
      read_planes(in, planes, x, y, plane);
      vf of_sources[img3d::MAX_SOURCES];
      for (size_t j = 0; j < in.n_sources; ++j) of_sources[j] = cost_in(in.sources[j], offsets, patch, plane);
      const vi possible = usable_of(in, patch) & is_possible(in, patch, plane);
      const vf cost = possible ? mean_of_best(of_sources, in.n_sources) : splat(2 * MAX_COST);
      write_pixels(in, plane, cost, x, y, planes_out, costs);
    });
}

void improve(const PatchMatchInputs& in, const PatchOffsets& offsets, const Areas& areas, int iteration, int x, int y,
             float* planes, float* costs) {
  const size_t n = in.n_sources;
  Patch patch;
  read_patch(in, offsets, x, y, patch);
  const vi usable = usable_of(in, patch);
  if (none(usable)) return;

  Plane tried[1 + CANDIDATES];
  vf of_sources[(1 + CANDIDATES) * img3d::MAX_SOURCES], weights[img3d::MAX_SOURCES];
  read_planes(in, planes, x, y, tried[0]);
  for (int i = 0; i < CANDIDATES; ++i) tried[1 + i] = taken_over(in, areas.at[i], planes, costs, x, y);
  vi possible[1 + CANDIDATES];
  for (int i = 0; i <= CANDIDATES; ++i) {
    possible[i] = is_possible(in, patch, tried[i]);
    for (size_t j = 0; j < n; ++j)
      of_sources[i * n + j] = possible[i] ? cost_in(in.sources[j], offsets, patch, tried[i]) : splat(2 * MAX_COST);
  }
  weigh_sources(of_sources, n, iteration, weights);
  Plane best = tried[0];
  vf least = possible[0] ? weighted_cost(of_sources, weights, n) : splat(4 * MAX_COST);
  for (int i = 1; i <= CANDIDATES; ++i) {
    const vf cost = weighted_cost(of_sources + i * n, weights, n);
    const vi better = possible[i] & (cost < least);
    best = chosen(better, tried[i], best);
    least = better ? cost : least;
  }

  // Sources whose weight is zero at all of these pixels are skipped.
  vf total{};
  for (size_t j = 0; j < n; ++j) total += weights[j];
  const bool all_known = none(usable & (total <= 1e-6f));
  Random random(patch.x, patch.y, in.seed + 0x632be5abu * static_cast<uint32_t>(iteration + 1));
  const auto attempt = [&](const Plane& plane) {
    const vi can_be = is_possible(in, patch, plane) & usable;
    if (none(can_be)) return;
    for (size_t j = 0; j < n; ++j)
      of_sources[j] = all_known && none(usable & (weights[j] > 0.0f)) ? splat(MAX_COST)
                                                                            : cost_in(in.sources[j], offsets, patch, plane);
    const vf cost = weighted_cost(of_sources, weights, n);
    const vi better = can_be & (cost < least);
    best = chosen(better, plane, best);
    least = better ? cost : least;
  };
  // A change of random sign; its size is log-uniform over some octaves: large changes explore, small ones refine.
  const auto change = [&](float largest, float octaves) {
    const vf size = largest * vexp2_of(random() * -octaves);
    return random() < 0.5f ? size : -size;
  };
  const auto any_normal = [&] {
    return Normals{random() * 2.0f - 1.0f, random() * 2.0f - 1.0f, random() * 2.0f - 1.0f};
  };
  const auto turned = [&](const Normals& n0) {
    const vf size = 0.5f * vexp2_of(random() * -5.0f);
    const Normals by = any_normal();
    return Normals{n0.x + size * by.x, n0.y + size * by.y, n0.z + size * by.z};
  };
  const vf any_depth = in.min_inverse_depth + random() * (in.max_inverse_depth - in.min_inverse_depth);
  if (iteration < in.random_iterations) attempt(plane_of(in, patch, any_normal(), any_depth));
  attempt(plane_of(in, patch, any_normal(), best.inverse_depth));
  attempt(plane_of(in, patch, normals_of(in, patch, best), best.inverse_depth * (1.0f + change(0.06f, 8.0f))));
  attempt(plane_of(in, patch, turned(normals_of(in, patch, best)), best.inverse_depth));
  // One after the other: compilers evaluate arguments in different orders, which would draw other random numbers.
  const vf near_best = best.inverse_depth * (1.0f + change(0.02f, 6.0f));
  attempt(plane_of(in, patch, turned(normals_of(in, patch, best)), near_best));
  write_pixels(in, best, usable ? least : splat(2 * MAX_COST), x, y, planes, costs);
}

void patch_match(const PatchMatchInputs& in, float* planes, float* costs) {
  static const PatchOffsets offsets;
  static const Areas areas;
  evaluate_planes(in, offsets, planes, costs, planes);
  for (int iteration = 0; iteration < in.iterations; ++iteration)
    for (int colour = 0; colour < 2; ++colour)
      for_colour(in, colour, [&](int x, int y) { improve(in, offsets, areas, iteration, x, y, planes, costs); });
}

}  // namespace
}  // namespace IMG3D_ISA
