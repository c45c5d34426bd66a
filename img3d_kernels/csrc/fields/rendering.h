// SPDX-License-Identifier: Apache-2.0
// Renders a field: the rays of a task advance together, a few samples each, until they leave the space or are opaque.
#pragma once

#include "fields/radiance_field.h"

namespace IMG3D_ISA {
namespace {

using img3d::FieldPicture;

constexpr int TILE_WIDTH = 16, TILE_HEIGHT = 8;  // of a picture: neighbours' samples often lie in the same cells of a grid
constexpr int TASK_RAYS = TILE_WIDTH * TILE_HEIGHT;
constexpr int MIN_AT_A_TIME = 4, MAX_AT_A_TIME = 32;  // samples by which a ray advances
constexpr float MIN_WEIGHT = 1e-4f;                   // the colours of samples with less weight are not evaluated

// Reads given samples through the interface of Marcher. `row_of(ray)` is the row of a ray's samples.
template <typename RowOf>
class SampleReader {
 public:
  SampleReader(const img3d::RaySamples& samples, const RowOf& row_of) : samples_(samples), row_of_(row_of) {}

  struct State {
    size_t row;
    int next;   // the index of the next sample
    float far;  // negative at the ray's end
  };

  State begin(size_t ray) const {
    const size_t row = row_of_(ray);
    return {row, 0, samples_.counts[row] > 0 ? 0.0f : -1.0f};
  }

  int advance(size_t, State& state, int room, float* middles, float* lengths) const {
    const size_t first = state.row * samples_.max_samples + state.next;
    const int count = std::min(room, samples_.counts[state.row] - state.next);
    std::copy_n(samples_.middles + first, count, middles);
    std::copy_n(samples_.lengths + first, count, lengths);
    state.next += count;
    if (state.next == samples_.counts[state.row]) state.far = -1.0f;
    return count;
  }

 private:
  const img3d::RaySamples& samples_;
  const RowOf row_of_;
};

template <typename Source>
struct RayTask {
  size_t ray[TASK_RAYS];  // indices of all rays
  typename Source::State state[TASK_RAYS];
  float transmittance[TASK_RAYS], color[TASK_RAYS][3], depth[TASK_RAYS];
  int active[TASK_RAYS];
  int count[TASK_RAYS];
  alignas(64) float waiting[TASK_RAYS][GEOMETRY];  // the weighted sum of outputs of samples whose colour is not yet evaluated
  float waiting_weight[TASK_RAYS];
  alignas(64) float shared[ROOM][GEOMETRY];  // the mean outputs of samples that share a colour
  float weight[ROOM];                        // of the samples that share a colour
  int owner[ROOM];                           // the ray of the samples that share a colour
};

template <typename Source>
void render_rays(const RadianceField& field, const FieldRays& rays, const Source& source, float sharing_weight,
                 RayTask<Source>& task, int n_rays, const FieldPicture& picture) {
  Block& b = kept_for_thread<Block>();
  int n_active = 0;
  for (int i = 0; i < n_rays; ++i) {
    task.state[i] = source.begin(task.ray[i]);
    task.transmittance[i] = 1.0f, task.depth[i] = 0.0f, task.waiting_weight[i] = 0.0f;
    for (float& c : task.color[i]) c = 0.0f;
    for (float& output : task.waiting[i]) output = 0.0f;
    if (task.state[i].far >= 0.0f) task.active[n_active++] = i;
  }
  while (n_active > 0) {
    const int room = std::min(MAX_AT_A_TIME, std::max(MIN_AT_A_TIME, BLOCK_SAMPLES / n_active));
    int n = 0;
    for (int a = 0; a < n_active; ++a) {
      const int i = task.active[a];
      task.count[a] = source.advance(task.ray[i], task.state[i], room, b.middle + n, b.length + n);
      for (int k = 0; k < task.count[a]; ++k) b.ray[n + k] = static_cast<uint32_t>(task.ray[i]);
      n += task.count[a];
    }
    if (n > 0) {
      field.place(b, n, rays.origins, rays.directions);
      field.find_density(b, n);
      RadianceField::find_passing(b, n);
    }
    int row = 0, shaded = 0;
    int still_active = 0;
    for (int a = 0; a < n_active; ++a) {
      const int i = task.active[a];
      float transmittance = task.transmittance[i], waiting_weight = task.waiting_weight[i];
      vf waiting[GEOMETRY / W];
      for (int v = 0; v < GEOMETRY / W; ++v) waiting[v] = load(task.waiting[i] + v * W);
      const auto shade = [&] {
        for (int v = 0; v < GEOMETRY / W; ++v) store(task.shared[shaded] + v * W, waiting[v] / waiting_weight), waiting[v] = vf{};
        task.weight[shaded] = waiting_weight, waiting_weight = 0.0f;
        task.owner[shaded] = i;
        b.ray[shaded++] = static_cast<uint32_t>(task.ray[i]);
      };
      for (int k = 0; k < task.count[a] && transmittance >= img3d::MIN_TRANSMITTANCE; ++k) {
        const float after = transmittance * b.passing[row + k], weight = transmittance - after;
        if (transmittance > 0.5f && after <= 0.5f) {
          const float share = std::log(2.0f * transmittance) / std::log(transmittance / std::fmax(after, 1e-30f));
          task.depth[i] = b.middle[row + k] + (share - 0.5f) * b.length[row + k];
        }
        transmittance = after, waiting_weight += weight;
        const float* const outputs = b.geometry + (row + k) * GEOMETRY;
        for (int v = 0; v < GEOMETRY / W; ++v) waiting[v] += weight * load(outputs + v * W);
        if (waiting_weight >= std::max(sharing_weight, MIN_WEIGHT)) shade();
      }
      row += task.count[a];
      const bool ends = task.state[i].far < 0.0f || transmittance < img3d::MIN_TRANSMITTANCE;
      if (ends && waiting_weight >= MIN_WEIGHT) shade();
      task.transmittance[i] = transmittance, task.waiting_weight[i] = waiting_weight;
      for (int v = 0; v < GEOMETRY / W; ++v) store(task.waiting[i] + v * W, waiting[v]);
      if (!ends) task.active[still_active++] = i;
    }
    n_active = still_active;
    if (shaded == 0) continue;
    std::memcpy(b.geometry, task.shared, shaded * sizeof task.shared[0]);
    field.find_color(b, shaded, rays.features);
    for (int i = 0; i < shaded; ++i)
      for (int c = 0; c < 3; ++c) task.color[task.owner[i]][c] += task.weight[i] * b.color[i * COLOR_STRIDE + c];
  }
  for (int i = 0; i < n_rays; ++i) {
    for (int c = 0; c < 3; ++c) picture.rgb[task.ray[i] * 3 + c] = task.color[i][c];
    picture.accumulation[task.ray[i]] = 1.0f - task.transmittance[i];
    picture.depth[task.ray[i]] = task.depth[i];
  }
}

template <typename Source>
void render_all_rays(const FieldInputs& in, const FieldRays& rays, const Source& source, float sharing_weight,
                     const FieldPicture& picture) {
  static_assert(TASK_RAYS * MIN_AT_A_TIME <= BLOCK_SAMPLES);
  const RadianceField field(in);
  const auto run = [&](RayTask<Source>& task, int n_rays) {
    [[maybe_unused]] const MatrixUnit unit;
    render_rays(field, rays, source, sharing_weight, task, n_rays, picture);
  };
  if (rays.width == 0) {
    parallel(ceil_div(rays.n_rays, TASK_RAYS), [&](size_t index) {
      RayTask<Source>& task = kept_for_thread<RayTask<Source>>();
      const size_t first = index * TASK_RAYS;
      const int n_rays = static_cast<int>(smaller(TASK_RAYS, rays.n_rays - first));
      for (int i = 0; i < n_rays; ++i) task.ray[i] = first + i;
      run(task, n_rays);
    });
    return;
  }
  const size_t across = ceil_div(rays.width, TILE_WIDTH), height = rays.n_rays / rays.width;
  parallel(across * ceil_div(height, TILE_HEIGHT), [&](size_t index) {
    RayTask<Source>& task = kept_for_thread<RayTask<Source>>();
    const size_t left = index % across * TILE_WIDTH, top = index / across * TILE_HEIGHT;
    int n_rays = 0;
    for (size_t y = top; y < smaller(height, top + TILE_HEIGHT); ++y)
      for (size_t x = left; x < smaller(rays.width, left + TILE_WIDTH); ++x) task.ray[n_rays++] = y * rays.width + x;
    run(task, n_rays);
  });
}

void field_render(const FieldInputs& in, const FieldRays& rays, const MarchInputs& march, float sharing_weight,
                  const FieldPicture& picture) {
  render_all_rays(in, rays, Marcher(march), sharing_weight, picture);
}

void field_render_samples(const FieldInputs& in, const FieldRays& rays, const img3d::RaySamples& samples,
                          float sharing_weight, const FieldPicture& picture) {
  const auto own_row = [](size_t ray) { return ray; };
  render_all_rays(in, rays, SampleReader(samples, own_row), sharing_weight, picture);
}

void field_render_blocks(const FieldInputs& in, const FieldRays& rays, const img3d::RaySamples& samples,
                         size_t block_side, float sharing_weight, const FieldPicture& picture) {
  const img3d::PictureBlocks blocks{rays.width, block_side};
  const auto block_row = [blocks](size_t ray) { return blocks.of(ray); };
  render_all_rays(in, rays, SampleReader(samples, block_row), sharing_weight, picture);
}

}  // namespace
}  // namespace IMG3D_ISA
