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

class GuidedSampler {
 public:
  explicit GuidedSampler(const GuidedInputs& in) : in_(in), cells_(in.space), lanes_(first_lanes()) {
    while (2 * half_ < static_cast<int>(in.n_bins)) half_ *= 2;
  }

  // Returns the number of samples: 0 for a ray that misses the space.
  int operator()(size_t ray, float* middles, float* lengths) const {
    const RayRange range = range_of(in_.space, in_.ends, ray);
    if (!(range.near < range.far)) return 0;
    const float first = bin_coordinate(range.near), width = (bin_coordinate(range.far) - first) / float(in_.n_bins);
    float before[1 + MAX_BINS + W], edges[MAX_RAY_SAMPLES + 1 + W];  // the sum of all chances before a bin
    const int n_samples = static_cast<int>(in_.n_samples), n_bins = static_cast<int>(in_.n_bins);
    before[0] = 0.0f;
    find_chances(ray, first, width, before + 1);
    for (int bin = 1; bin <= n_bins; ++bin) before[bin] += before[bin - 1];
    const float share = before[n_bins] / float(n_samples + 1), offset = in_.ends.offsets ? in_.ends.offsets[ray] : 0.5f;
    const auto sums = [&](vi bin) { return from_bits((vi)gather(reinterpret_cast<const uint32_t*>(before), bin)); };
    for (int i = 0; i <= n_samples; i += W) {
      const vf wanted = (float(i) + lanes_ + offset) * share;
      vi bin{};
      for (int step = half_; step > 0; step /= 2) {
        const vi next = bin + step, exists = next < n_bins;
        bin += step & exists & (sums(next & exists) < wanted);
      }
      const vf lower = sums(bin), within = (wanted - lower) / (sums(bin + 1) - lower);
      const vf at = __builtin_convertvector(bin, vf) + vmin(vmax(within, vf{}), splat(1.0f));
      store(edges + i, bin_distance(first + width * at));
    }
    for (int i = 0; i < n_samples; ++i) middles[i] = 0.5f * (edges[i] + edges[i + 1]), lengths[i] = edges[i + 1] - edges[i];
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
    for (int bin = 0; bin < n_bins; bin += W) {
      const vf own = load(known + 1 + bin);
      store(chances + bin, 0.5f * (vmax(load(known + bin), own) + vmax(own, load(known + 2 + bin))) + everywhere);
    }
  }

  const GuidedInputs& in_;
  const GridCells cells_;
  const vf lanes_;
  int half_ = 1;  // the first step of a binary search for a bin: the highest power of 2 below the number of bins
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
