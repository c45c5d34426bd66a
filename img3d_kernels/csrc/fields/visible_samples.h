// SPDX-License-Identifier: Apache-2.0
// Marches rays up to where they are opaque. Most of what an occupancy grid keeps of an object lies behind its surface (of
// NeRF-synthetic's chair, three quarters of the samples), and would be looked up in a training step for nothing.
#pragma once

#include "fields/radiance_field.h"

namespace IMG3D_ISA {
namespace {

constexpr int MARCHED_RAYS = 512;   // of a task
constexpr int SAMPLES_AT_A_TIME = 4;  // by which a ray advances, before its densities are evaluated
constexpr int RAYS_AT_A_TIME = BLOCK_SAMPLES / SAMPLES_AT_A_TIME;

struct MarchTask {
  Marcher::State state[MARCHED_RAYS];
  float transmittance[MARCHED_RAYS];
  int active[MARCHED_RAYS];
};

class VisibleMarch {
 public:
  VisibleMarch(const FieldInputs& in, const MarchInputs& march, int32_t* counts, float* middles, float* lengths)
      : march_(march), field_(in), marcher_(march), counts_(counts), middles_(middles), lengths_(lengths) {}

  void run(size_t first, int n_rays) const {
    MarchTask& task = kept_for_thread<MarchTask>();
    int n_active = 0;
    for (int i = 0; i < n_rays; ++i) {
      counts_[first + i] = 0;
      task.state[i] = marcher_.begin(first + i);
      task.transmittance[i] = 1.0f;
      if (task.state[i].far >= 0.0f) task.active[n_active++] = i;
    }
    while (n_active > 0) {
      int still_active = 0;
      for (int begin = 0; begin < n_active; begin += RAYS_AT_A_TIME)
        still_active = advance(task, first, begin, std::min(n_active, begin + RAYS_AT_A_TIME), still_active);
      n_active = still_active;
    }
  }

 private:
  // Advances some of the active rays. Those that go on are moved to the front of `active`, behind the first
  // `still_active` ones. Returns the new number of these.
  int advance(MarchTask& task, size_t first, int begin, int end, int still_active) const {
    Block& b = kept_for_thread<Block>();
    int found[RAYS_AT_A_TIME], n = 0;
    for (int a = begin; a < end; ++a) {
      const int i = task.active[a];
      const size_t ray = first + i, at = ray * march_.max_samples + counts_[ray];
      const int room = std::min(SAMPLES_AT_A_TIME, static_cast<int>(march_.max_samples) - counts_[ray]);
      const int count = marcher_.advance(ray, task.state[i], room, middles_ + at, lengths_ + at);
      for (int k = 0; k < count; ++k, ++n) {
        b.ray[n] = static_cast<uint32_t>(ray);
        b.middle[n] = middles_[at + k], b.length[n] = lengths_[at + k];
      }
      found[a - begin] = count;
    }
    if (n > 0) {
      field_.place(b, n, march_.ends.origins, march_.ends.directions);
      field_.find_density(b, n);
      RadianceField::find_passing(b, n);
    }
    int row = 0;
    for (int a = begin; a < end; ++a) {
      const int i = task.active[a];
      float& transmittance = task.transmittance[i];
      int lit = 0;
      for (; lit < found[a - begin] && transmittance >= img3d::MIN_TRANSMITTANCE; ++lit) transmittance *= b.passing[row + lit];
      row += found[a - begin];
      int32_t& count = counts_[first + i];
      count += lit;
      const bool ends = task.state[i].far < 0.0f || transmittance < img3d::MIN_TRANSMITTANCE ||
                        count == static_cast<int32_t>(march_.max_samples);
      if (!ends) task.active[still_active++] = i;
    }
    return still_active;
  }

  const MarchInputs& march_;
  const RadianceField field_;
  const Marcher marcher_;
  int32_t* const counts_;
  float *const middles_, *const lengths_;
};

void field_march_visible(const FieldInputs& in, const MarchInputs& march, int32_t* counts, float* middles, float* lengths) {
  const VisibleMarch pass(in, march, counts, middles, lengths);
  const size_t n_rays = march.ends.n_rays;
  parallel(ceil_div(n_rays, size_t(MARCHED_RAYS)), [&](size_t task) {
    const size_t first = task * MARCHED_RAYS;
    [[maybe_unused]] const MatrixUnit unit;
    pass.run(first, static_cast<int>(smaller(MARCHED_RAYS, n_rays - first)));
  });
}

}  // namespace
}  // namespace IMG3D_ISA
