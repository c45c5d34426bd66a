// SPDX-License-Identifier: Apache-2.0
// Places samples along rays where earlier samples had large weights, by inverse transform sampling. A coarse grid holds
// these weights; Mip-NeRF 360 (Barron et al. 2021, arXiv 2111.12077, section 3) predicts them with a proposal network.
#pragma once

#include <cmath>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"
#include "fields/marching.h"

namespace IMG3D_ISA {
namespace {

using img3d::GuidedInputs;
using img3d::MAX_BINS;
using img3d::MAX_RAY_SAMPLES;

// Bins have equal widths in a coordinate that is linear in the distance up to 1, and linear in its inverse beyond.
inline float bin_coordinate(float t) { return t < 1.0f ? 0.5f * t : 1.0f - 0.5f / t; }
inline vf bin_distance(vf s) { return select(s < 0.5f, 2.0f * s, 0.5f / vmax(1.0f - s, splat(0.5f / MAX_DISTANCE))); }

// The bins of a ray, up to MAX_BINS of them.
struct RayBins {
  float first, width;  // in the coordinate
  int count;

  RayBins(const RayRange& range, size_t n_bins) : first(bin_coordinate(range.near)), count(static_cast<int>(n_bins)) {
    width = (bin_coordinate(range.far) - first) / float(n_bins);
  }
};

// Writes the unnormalised probability of each bin: its weight, widened to the neighbours (the mean of the two maxima with
// them, as in mip-NeRF, Barron et al. 2021, arXiv 2103.13415), plus a share that explores all bins. `known[1 + bin]` is a
// bin's weight, and both ends of `known` are set to 0.
inline void find_chances(float* known, int n_bins, float explored, float* chances) {
  known[0] = known[n_bins + 1] = 0.0f;
  const float everywhere = explored / float(n_bins);
  for (int bin = 0; bin < n_bins; bin += W) {
    const vf own = load(known + 1 + bin);
    store(chances + bin, 0.5f * (vmax(load(known + bin), own) + vmax(own, load(known + 2 + bin))) + everywhere);
  }
}

// Places samples by the weights of bins, at equal shares of the sum of the chances; `offset` moves them by a part of one.
inline void place_samples(const RayBins& bins, float* known, float explored, int n_samples, float offset, float* middles,
                          float* lengths) {
  float before[1 + MAX_BINS + W], edges[MAX_RAY_SAMPLES + 1 + W];  // the sum of all chances before a bin
  before[0] = 0.0f;
  find_chances(known, bins.count, explored, before + 1);
  for (int bin = 1; bin <= bins.count; ++bin) before[bin] += before[bin - 1];
  const float share = before[bins.count] / float(n_samples + 1);
  const auto sums = [&](vi bin) { return from_bits((vi)gather(reinterpret_cast<const uint32_t*>(before), bin)); };
  int half = 1;  // the first step of a binary search for a bin: the highest power of 2 below the number of bins
  while (2 * half < bins.count) half *= 2;
  for (int i = 0; i <= n_samples; i += W) {
    const vf wanted = (float(i) + first_lanes() + offset) * share;
    vi bin{};
    for (int step = half; step > 0; step /= 2) {
      const vi next = bin + step, exists = next < bins.count;
      bin += step & exists & (sums(next & exists) < wanted);
    }
    const vf lower = sums(bin), within = (wanted - lower) / (sums(bin + 1) - lower);
    const vf at = __builtin_convertvector(bin, vf) + vmin(vmax(within, vf{}), splat(1.0f));
    store(edges + i, bin_distance(bins.first + bins.width * at));
  }
  for (int i = 0; i < n_samples; ++i) middles[i] = 0.5f * (edges[i] + edges[i + 1]), lengths[i] = edges[i + 1] - edges[i];
}

class GuidedSampler {
 public:
  explicit GuidedSampler(const GuidedInputs& in) : in_(in), cells_(in.space) {}

  RayRange range(size_t ray) const { return range_of(in_.space, in_.ends, ray); }

  // Returns the number of samples: 0 for a ray that misses the space.
  int operator()(size_t ray, float* middles, float* lengths) const {
    const RayRange ends = range(ray);
    if (!(ends.near < ends.far)) return 0;
    const RayBins bins(ends, in_.n_bins);
    float known[MAX_BINS + 2 + W];
    for (int bin = 0; bin < bins.count; bin += W) {
      const vf t = bin_distance(bins.first + bins.width * (float(bin) + 0.5f + first_lanes()));
      vf p[3];
      for (int axis = 0; axis < 3; ++axis)
        p[axis] = in_.ends.origins[ray * 3 + axis] + t * in_.ends.directions[ray * 3 + axis];
      store(known + 1 + bin, from_bits((vi)gather(reinterpret_cast<const uint32_t*>(in_.weights), cells_(p))));
    }
    const int n_samples = static_cast<int>(in_.n_samples);
    place_samples(bins, known, in_.explored, n_samples, in_.ends.offsets ? in_.ends.offsets[ray] : 0.5f, middles, lengths);
    return n_samples;
  }

 private:
  const GuidedInputs& in_;
  const GridCells cells_;
};

void field_guided_samples(const GuidedInputs& in, int32_t* counts, float* middles, float* lengths) {
  constexpr size_t RAYS_PER_TASK = 64;
  const GuidedSampler sampler(in);
  parallel(ceil_div(in.ends.n_rays, RAYS_PER_TASK), [&](size_t task) {
    const size_t end = smaller(in.ends.n_rays, (task + 1) * RAYS_PER_TASK);
    for (size_t ray = task * RAYS_PER_TASK; ray < end; ++ray)
      counts[ray] = sampler(ray, middles + ray * in.n_samples, lengths + ray * in.n_samples);
  });
}

}  // namespace
}  // namespace IMG3D_ISA
