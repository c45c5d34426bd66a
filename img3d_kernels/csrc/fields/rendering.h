// SPDX-License-Identifier: Apache-2.0
// Renders a field: the rays of a task advance together, a few samples each, until they leave the space or are opaque.
#pragma once

#include "fields/radiance_field.h"

namespace IMG3D_ISA {
namespace {

using img3d::FieldPicture;

constexpr int TASK_RAYS = 128;
constexpr int MIN_AT_A_TIME = 4, MAX_AT_A_TIME = 32;  // samples by which a ray advances
constexpr float MIN_WEIGHT = 1e-4f;                   // the colours of samples with less weight are not evaluated

// Reads given samples through the interface of Marcher.
class SampleReader {
 public:
  explicit SampleReader(const img3d::RaySamples& samples) : samples_(samples) {}

  struct State {
    int next;   // the index of the next sample
    float far;  // negative at the ray's end
  };

  State begin(size_t ray) const { return {0, samples_.counts[ray] > 0 ? 0.0f : -1.0f}; }

  int advance(size_t ray, State& state, int room, float* middles, float* lengths) const {
    const size_t first = ray * samples_.max_samples + state.next;
    const int count = std::min(room, samples_.counts[ray] - state.next);
    std::copy_n(samples_.middles + first, count, middles);
    std::copy_n(samples_.lengths + first, count, lengths);
    state.next += count;
    if (state.next == samples_.counts[ray]) state.far = -1.0f;
    return count;
  }

 private:
  const img3d::RaySamples& samples_;
};

template <typename Source>
struct RayTask {
  typename Source::State state[TASK_RAYS];
  float transmittance[TASK_RAYS], color[TASK_RAYS][3], depth[TASK_RAYS];
  size_t active[TASK_RAYS];
  int count[TASK_RAYS];
  float weight[ROOM];
};

template <typename Source>
void render_rays(const RadianceField& field, const FieldRays& rays, const Source& source, size_t first, size_t n_rays,
                 const FieldPicture& picture) {
  Block& b = kept_for_thread<Block>();
  RayTask<Source>& task = kept_for_thread<RayTask<Source>>();
  size_t n_active = 0;
  for (size_t i = 0; i < n_rays; ++i) {
    task.state[i] = source.begin(first + i);
    task.transmittance[i] = 1.0f, task.depth[i] = 0.0f;
    for (float& c : task.color[i]) c = 0.0f;
    if (task.state[i].far >= 0.0f) task.active[n_active++] = i;
  }
  while (n_active > 0) {
    const int room = std::min(MAX_AT_A_TIME, std::max(MIN_AT_A_TIME, BLOCK_SAMPLES / static_cast<int>(n_active)));
    int n = 0;
    for (size_t a = 0; a < n_active; ++a) {
      const size_t i = task.active[a];
      task.count[a] = source.advance(first + i, task.state[i], room, b.middle + n, b.length + n);
      for (int k = 0; k < task.count[a]; ++k) b.ray[n + k] = static_cast<uint32_t>(first + i);
      n += task.count[a];
    }
    if (n > 0) {
      field.place(b, n, rays.origins, rays.directions);
      field.find_density(b, n);
      RadianceField::find_passing(b, n);
    }
    int row = 0;
    size_t still_active = 0;
    for (size_t a = 0; a < n_active; ++a) {
      const size_t i = task.active[a];
      float transmittance = task.transmittance[i];
      for (int k = 0; k < task.count[a]; ++k, ++row) {
        const float after = transmittance * b.passing[row];
        task.weight[row] = transmittance < img3d::MIN_TRANSMITTANCE ? 0.0f : transmittance - after;
        if (transmittance > 0.5f && after <= 0.5f) {
          const float share = std::log(2.0f * transmittance) / std::log(transmittance / std::fmax(after, 1e-30f));
          task.depth[i] = b.middle[row] + (share - 0.5f) * b.length[row];
        }
        if (transmittance >= img3d::MIN_TRANSMITTANCE) transmittance = after;
      }
      task.transmittance[i] = transmittance;
      if (task.state[i].far >= 0.0f && transmittance >= img3d::MIN_TRANSMITTANCE) task.active[still_active++] = i;
    }
    n_active = still_active;
    if (n == 0) continue;
    int kept = 0;
    for (int i = 0; i < n; ++i)
      if (task.weight[i] >= MIN_WEIGHT) ++kept;
    if (kept == 0) continue;
    RadianceField::compact(b, n, 0, false, [&](int i) { return task.weight[i] >= MIN_WEIGHT; });
    field.find_color(b, kept, rays.features);
    for (int i = 0, to = 0; i < n; ++i) {
      if (task.weight[i] < MIN_WEIGHT) continue;
      for (int c = 0; c < 3; ++c) task.color[b.ray[to] - first][c] += task.weight[i] * b.color[to * COLOR_STRIDE + c];
      ++to;
    }
  }
  for (size_t i = 0; i < n_rays; ++i) {
    for (int c = 0; c < 3; ++c) picture.rgb[(first + i) * 3 + c] = task.color[i][c];
    picture.accumulation[first + i] = 1.0f - task.transmittance[i];
    picture.depth[first + i] = task.depth[i];
  }
}

template <typename Source>
void render_all_rays(const FieldInputs& in, const FieldRays& rays, const Source& source, const FieldPicture& picture) {
  static_assert(TASK_RAYS * MIN_AT_A_TIME <= BLOCK_SAMPLES);
  const RadianceField field(in);
  parallel(ceil_div(rays.n_rays, TASK_RAYS), [&](size_t task) {
    const size_t first = task * TASK_RAYS;
    [[maybe_unused]] const MatrixUnit unit;
    render_rays(field, rays, source, first, smaller(TASK_RAYS, rays.n_rays - first), picture);
  });
}

void field_render(const FieldInputs& in, const FieldRays& rays, const MarchInputs& march, const FieldPicture& picture) {
  render_all_rays(in, rays, Marcher(march), picture);
}

void field_render_samples(const FieldInputs& in, const FieldRays& rays, const img3d::RaySamples& samples,
                          const FieldPicture& picture) {
  render_all_rays(in, rays, SampleReader(samples), picture);
}

}  // namespace
}  // namespace IMG3D_ISA
