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

// Bins have equal widths in a coordinate that is linear in the distance up to 1, and linear in its inverse beyond.
inline float bin_coordinate(float t) { return t < 1.0f ? 0.5f * t : 1.0f - 0.5f / t; }
inline float bin_distance(float s) { return s < 0.5f ? 2.0f * s : 0.5f / (1.0f - s); }
inline vf bin_distance(vf s) { return select(s < 0.5f, 2.0f * s, 0.5f / vmax(1.0f - s, splat(0.5f / MAX_DISTANCE))); }

class GuidedSampler {
 public:
  explicit GuidedSampler(const GuidedInputs& in) : in_(in), cells_(in.space), lanes_(first_lanes()) {}

  // Returns the number of samples: 0 for a ray that misses the space.
  int operator()(size_t ray, float* middles, float* lengths) const {
    const RayRange range = range_of(in_.space, in_.ends, ray);
    if (!(range.near < range.far)) return 0;
    const float first = bin_coordinate(range.near), width = (bin_coordinate(range.far) - first) / float(in_.n_bins);
    float chances[MAX_BINS + 1];
    find_chances(ray, first, width, chances);
    const int n_samples = static_cast<int>(in_.n_samples), n_bins = static_cast<int>(in_.n_bins);
    float sum = 0.0f;
    for (int bin = 0; bin < n_bins; ++bin) sum += chances[bin];
    const float share = sum / float(n_samples + 1), offset = in_.ends.offsets ? in_.ends.offsets[ray] : 0.5f;
    int bin = 0;
    float before = 0.0f, last = 0.0f;
    for (int i = 0; i <= n_samples; ++i) {
      const float wanted = (float(i) + offset) * share;
      while (bin + 1 < n_bins && before + chances[bin] < wanted) before += chances[bin++];
      const float within = std::fmin(std::fmax((wanted - before) / chances[bin], 0.0f), 1.0f);
      const float edge = bin_distance(first + width * (float(bin) + within));
      if (i > 0) middles[i - 1] = 0.5f * (last + edge), lengths[i - 1] = edge - last;
      last = edge;
    }
    return n_samples;
  }

 private:
  // The unnormalised probability of each bin: its weight, widened to the neighbours (the mean of the two maxima
  // with them, as in mip-NeRF, Barron et al. 2021, arXiv 2103.13415), plus a share that explores all bins.
  void find_chances(size_t ray, float first, float width, float* chances) const {
    const int n_bins = static_cast<int>(in_.n_bins);
    float known[MAX_BINS + 2 + W];
    for (int bin = 0; bin < n_bins; bin += W) {
      const vf t = bin_distance(first + width * (float(bin) + 0.5f + lanes_));
      vf p[3];
      for (int axis = 0; axis < 3; ++axis)
        p[axis] = in_.ends.origins[ray * 3 + axis] + t * in_.ends.directions[ray * 3 + axis];
      store(known + 1 + bin, from_bits((vi)gather(reinterpret_cast<const uint32_t*>(in_.weights), cells_(p))));
    }
    known[0] = known[n_bins + 1] = 0.0f;
    const float everywhere = in_.explored / float(n_bins);
    for (int bin = 0; bin < n_bins; ++bin)
      chances[bin] =
          0.5f * (std::fmax(known[bin], known[bin + 1]) + std::fmax(known[bin + 1], known[bin + 2])) + everywhere;
  }

  const GuidedInputs& in_;
  const GridCells cells_;
  const vf lanes_;
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
