// SPDX-License-Identifier: Apache-2.0
// One training step: the rays' colours, the loss, and the gradients of all that is learned. All but the tables are dealt
// with in a single pass over blocks of rays. Before it, features of all samples are read level by level, and after it,
// gradients of entries are accumulated so: a level's table fits into the L2 cache, all of them do not. The gradients of the
// networks' weights are summed in a fixed number of parts, so that no lock is needed and the results do not depend on the
// number of threads.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "fields/radiance_field.h"

namespace IMG3D_ISA {
namespace {

using img3d::FieldGradients;
using img3d::FieldLossInputs;
using img3d::RaySamples;

constexpr size_t MAX_PARTS = 32;           // partial sums of the weights' gradients
constexpr size_t LEVEL_SAMPLES = 1 << 14;  // in a task that reads features of one level
static_assert(LEVEL_SAMPLES % POINTS == 0);

struct LossBlock : Block {
  alignas(64) float v_color[ROOM * COLOR_STRIDE];
  alignas(64) Activation v_hidden[ROOM * HIDDEN];
  alignas(64) float v_hidden2[ROOM * HIDDEN];
  alignas(64) float v_geometry[ROOM * GEOMETRY];
  alignas(64) float v_features[ROOM * MAX_FEATURES];
  float weight[ROOM], after[ROOM], v_weight[ROOM];
};

// Consecutive rays whose samples fit into one block.
struct RayRun {
  size_t first_ray, end_ray;
  size_t first_sample;  // the index from which its samples are kept for the tables' gradients
  int kept = 0;
};

class LossPass {
 public:
  LossPass(const FieldInputs& in, const FieldRays& rays, const RaySamples& samples, const FieldLossInputs& loss,
           const FieldGradients& gradients, img3d::Scratch& scratch)
      : in_(in), rays_(rays), samples_(samples), loss_(loss), gradients_(gradients), field_(in) {
    size_t in_run = BLOCK_SAMPLES + 1;
    for (size_t ray = 0; ray < rays.n_rays; ++ray) {
      const size_t count = samples.counts[ray];
      if (in_run + count > BLOCK_SAMPLES) {
        if (!runs_.empty()) runs_.back().end_ray = ray;
        runs_.push_back({ray, ray, total_});
        in_run = 0;
      }
      in_run += count, total_ += count;
    }
    if (!runs_.empty()) runs_.back().end_ray = rays.n_rays;
    n_parts_ = smaller(MAX_PARTS, runs_.size());
    stride_ = field_.networks().stride;
    const size_t room = total_ + BLOCK_SAMPLES;  // whole vectors are read
    const size_t pairs = 2 * in.n_levels * (gradients.v_origins ? 4 : 1);
    float* memory = scratch.get<float>(room * (3 + stride_ + pairs) + n_parts_ * WEIGHT_ROWS * HIDDEN);
    for (float*& axis : unit_) axis = memory, memory += room;
    kept_v_features_ = memory, memory += room * stride_;
    features_ = memory, memory += total_ * 2 * in.n_levels;
    slopes_ = gradients.v_origins ? memory : nullptr, memory += room * pairs - total_ * 2 * in.n_levels;
    parts_ = memory;
    std::memset(parts_, 0, n_parts_ * WEIGHT_ROWS * HIDDEN * sizeof(float));
    part_losses_.assign(n_parts_, {});
  }

  void run(float* losses, float* rgb) {
    parallel(runs_.size(), [&](size_t index) { place(runs_[index]); });
    const size_t chunks = ceil_div(total_, LEVEL_SAMPLES);
    parallel(in_.n_levels * chunks, [&](size_t task) {
      find_features(in_.n_levels - 1 - task / chunks, task % chunks * LEVEL_SAMPLES);
    });
    parallel(n_parts_, [&](size_t part) {
      [[maybe_unused]] const MatrixUnit unit;
      for (size_t i = part * runs_.size() / n_parts_; i < (part + 1) * runs_.size() / n_parts_; ++i)
        run_rays(runs_[i], part, rgb);
    });
    double sums[2] = {};
    for (const auto& part : part_losses_)
      for (int i = 0; i < 2; ++i) sums[i] += part[i];
    for (int i = 0; i < 2; ++i) losses[i] = rays_.n_rays ? static_cast<float>(sums[i] / double(rays_.n_rays)) : 0.0f;
    sum_weight_gradients();
    parallel(in_.n_levels, [&](size_t task) { sum_table_gradients(in_.n_levels - 1 - task); });
  }

 private:
  float* part(size_t index) { return parts_ + index * WEIGHT_ROWS * HIDDEN; }

  // The samples of a run, one after the other. Returns their number.
  int list_samples(const RayRun& run, LossBlock& b) const {
    int n = 0;
    for (size_t ray = run.first_ray; ray < run.end_ray; ++ray)
      for (int i = 0; i < samples_.counts[ray]; ++i, ++n) {
        b.ray[n] = static_cast<uint32_t>(ray);
        b.middle[n] = samples_.middles[ray * samples_.max_samples + i];
        b.length[n] = samples_.lengths[ray * samples_.max_samples + i];
      }
    return n;
  }

  void place(const RayRun& run) const {
    LossBlock& b = kept_for_thread<LossBlock>();
    const int n = list_samples(run, b);
    if (n == 0) return;
    field_.place(b, n, rays_.origins, rays_.directions);
    for (int axis = 0; axis < 3; ++axis) std::memcpy(unit_[axis] + run.first_sample, b.unit[axis], n * sizeof(float));
  }

  void find_features(size_t level, size_t first) const {
    const float* const points[3] = {unit_[0] + first, unit_[1] + first, unit_[2] + first};
    const size_t at = 2 * (level * total_ + first);
    field_.find_level_features(level, points, static_cast<int>(smaller(LEVEL_SAMPLES, total_ - first)), features_ + at, 2,
                               slopes_ ? slopes_ + 3 * at : nullptr);
  }

  // Copies what was found level by level for n samples to their rows.
  void take_features(const RayRun& run, LossBlock& b, int n) const {
    if (static_cast<int>(2 * in_.n_levels) < stride_) std::memset(b.features, 0, n * stride_ * sizeof(float));
    std::memset(b.features + n * stride_, 0, (padded(n, ROWS_AT_A_TIME) - n) * stride_ * sizeof(float));
    for (size_t l = 0; l < in_.n_levels; ++l) {
      const float* const from = features_ + 2 * (l * total_ + run.first_sample);
      for (int i = 0; i < n; ++i) store_pair(b.features + i * stride_ + 2 * l, load_pair(from + 2 * i));
    }
    for (int axis = 0; axis < 3; ++axis) std::memcpy(b.unit[axis], unit_[axis] + run.first_sample, n * sizeof(float));
    for (int i = 0; i < n; ++i) b.placed[i] = i;
    for (int i = n; i < padded(n, ROWS_AT_A_TIME); ++i) b.length[i] = 0.0f;
  }

  void run_rays(RayRun& run, size_t part_index, float* rgb) {
    LossBlock& b = kept_for_thread<LossBlock>();
    int n = list_samples(run, b);
    if (n > 0) {
      take_features(run, b, n);
      field_.find_density_of_features(b, n);
      RadianceField::find_passing(b, n);
      // Samples behind opaque ones get no colour and no gradient.
      float transmittance = 1.0f;
      uint32_t ray = b.ray[0];
      n = RadianceField::compact(b, n, stride_, [&](int i) {
        if (b.ray[i] != ray) ray = b.ray[i], transmittance = 1.0f;
        if (transmittance < img3d::MIN_TRANSMITTANCE) return false;
        transmittance *= b.passing[i];
        return true;
      });
      field_.find_color(b, n, rays_.features);
    }
    run.kept = n;
    int first = 0;
    for (size_t ray = run.first_ray; ray < run.end_ray; ++ray) {
      int end = first;
      while (end < n && b.ray[end] == ray) ++end;
      composite(b, ray, first, end, part_losses_[part_index].data(), rgb);
      first = end;
    }
    if (loss_.heaviest) raise_heaviest(b, n);
    if (n > 0) {
      backward(b, n, part(part_index));
      keep_for_tables(b, n, run);
    }
    if (gradients_.v_origins) add_ray_gradients(b, n, run);
  }

  // An atomic maximum for each cell: floats that are not negative compare as their bit patterns do.
  void raise_heaviest(const LossBlock& b, int n) const {
    const GridCells grid(in_.space);
    alignas(64) int32_t cells[ROOM];
    for (int i = 0; i < n; i += W) {
      const vf unit[3] = {load(b.unit[0] + i), load(b.unit[1] + i), load(b.unit[2] + i)};
      const vi index = grid.of_unit(unit);
      std::memcpy(cells + i, &index, sizeof index);
    }
    for (int i = 0; i < n; ++i) {
      int32_t found, *const highest = reinterpret_cast<int32_t*>(loss_.heaviest + cells[i]);
      std::memcpy(&found, &b.weight[i], sizeof found);
      int32_t before = __atomic_load_n(highest, __ATOMIC_RELAXED);
      while (before < found &&
             !__atomic_compare_exchange_n(highest, &before, found, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      }
    }
  }

  // Computes one ray's colour and loss, and the gradients with respect to its samples' colours and densities before
  // their activations.
  void composite(LossBlock& b, size_t ray, int first, int end, double* losses, float* rgb) const {
    const float *target = loss_.targets + ray * 3, *background = loss_.backgrounds + ray * 3;
    float transmittance = 1.0f, color[3] = {};
    for (int i = first; i < end; ++i) {
      const float next = transmittance * b.passing[i];
      b.weight[i] = transmittance - next, b.after[i] = next;
      for (int c = 0; c < 3; ++c) color[c] += b.weight[i] * b.color[i * COLOR_STRIDE + c];
      transmittance = next;
    }
    float v_rgb[3];
    for (int c = 0; c < 3; ++c) {
      const float seen = color[c] + transmittance * background[c], difference = seen - target[c];
      rgb[ray * 3 + c] = seen;
      losses[0] += double(difference) * difference / 3.0;
      v_rgb[c] = difference * 2.0f / (3.0f * static_cast<float>(rays_.n_rays));
    }
    for (int i = first; i < end; ++i) {
      const float* const sample = b.color + i * COLOR_STRIDE;
      float v_weight = 0.0f;
      for (int c = 0; c < 3; ++c) v_weight += v_rgb[c] * (sample[c] - background[c]);
      b.v_weight[i] = v_weight;
    }
    if (loss_.distortion > 0.0f) add_distortion(b, first, end, losses);
    std::memset(b.v_color + first * COLOR_STRIDE, 0, (end - first) * COLOR_STRIDE * sizeof(float));
    float behind = 0.0f;  // the sum of weight * v_weight over the samples behind
    for (int i = end - 1; i >= first; --i) {
      const float t = b.middle[i];
      const float scale = loss_.near_scaling && t < 1.0f ? t * t : 1.0f;
      const float* const sample = b.color + i * COLOR_STRIDE;
      for (int c = 0; c < 3; ++c)
        b.v_color[i * COLOR_STRIDE + c] = scale * v_rgb[c] * b.weight[i] * sample[c] * (1.0f - sample[c]);
      const bool clamped = b.geometry[i * GEOMETRY] + in_.density_bias > img3d::MAX_LOG_DENSITY;
      const float v_density = b.length[i] * (b.v_weight[i] * b.after[i] - behind);
      b.v_geometry[i * GEOMETRY] = clamped ? 0.0f : scale * v_density * b.density[i];
      behind += b.weight[i] * b.v_weight[i];
    }
  }

  // The distortion loss of Mip-NeRF 360 (Barron et al. 2021, arXiv 2111.12077, equation 15) in linear time, over
  // t / (1 + t) instead of distances t.
  void add_distortion(LossBlock& b, int first, int end, double* losses) const {
    float places[img3d::MAX_RAY_SAMPLES + W], widths[img3d::MAX_RAY_SAMPLES + W];
    for (int i = first; i < end; i += W) {
      const vf t = load(b.middle + i), inverse = 1.0f / (1.0f + t);
      store(places + i - first, t * inverse);
      store(widths + i - first, load(b.length + i) * inverse * inverse);
    }
    const float factor = loss_.distortion / static_cast<float>(rays_.n_rays);
    float total = 0.0f, total_place = 0.0f;
    for (int i = first; i < end; ++i) total += b.weight[i], total_place += b.weight[i] * places[i - first];
    float before = 0.0f, before_place = 0.0f, sum = 0.0f;
    for (int i = first; i < end; ++i) {
      const float w = b.weight[i], at = places[i - first], width = widths[i - first];
      sum += 2.0f * w * (at * before - before_place) + w * w * width / 3.0f;
      const float behind = total - before - w, behind_place = total_place - before_place - w * at;
      b.v_weight[i] += factor * (2.0f * (at * (before - behind) - before_place + behind_place) + 2.0f / 3.0f * w * width);
      before += w, before_place += w * at;
    }
    losses[1] += double(sum);
  }

  void backward(LossBlock& b, int n, float* g) const {
    const Networks& networks = field_.networks();
    const int rows = padded(n, ROWS_AT_A_TIME);
    const auto clear = [&](float* values, int width) {  // clears the rows that pad the last group
      std::memset(values + n * width, 0, (rows - n) * width * sizeof(float));
    };
    clear(b.v_color, COLOR_STRIDE);
    const auto where = [](const Activation* activations) {
      return [activations](int row, int column, vf v) {
        return keep(load_activations(activations + row * HIDDEN + column) > 0.0f, v);
      };
    };
    float *const density1 = g, *const density2 = g + MAX_FEATURES * HIDDEN, *const color1 = density2 + GEOMETRY * HIDDEN,
                *const color2 = color1 + GEOMETRY * HIDDEN, *const color3 = color2 + HIDDEN * HIDDEN;
    Activation* const v_one = b.v_hidden;
    float* const v_other = b.v_hidden2;
    add_weight_gradient(b.v_color, COLOR_STRIDE, 4, b.hidden3, n, color3);
    multiply(b.v_color, COLOR_STRIDE, networks.color3_t, v_one, rows, zero_rows, where(b.hidden3));
    add_weight_gradient(b.hidden2, HIDDEN, HIDDEN, v_one, n, color2);
    multiply(v_one, HIDDEN, networks.color2_t, v_other, rows, zero_rows, where(b.hidden2));
    add_weight_gradient(b.geometry, GEOMETRY, GEOMETRY, v_other, n, color1);
    for (int i = 0; i < n; ++i) {
      float* const v_ray = gradients_.v_ray_features + b.ray[i] * size_t(HIDDEN);
      for (int k = 0; k < HIDDEN; k += W) store(v_ray + k, load(v_ray + k) + load(v_other + i * HIDDEN + k));
    }
    // The first column already has the gradient that comes through the density; the colour network's is added to it.
    float v_density[ROOM];
    for (int i = 0; i < n; ++i) v_density[i] = b.v_geometry[i * GEOMETRY];
    multiply(v_other, HIDDEN, networks.color1_t, b.v_geometry, rows, zero_rows, unchanged);
    for (int i = 0; i < n; ++i) b.v_geometry[i * GEOMETRY] += v_density[i];
    clear(b.v_geometry, GEOMETRY);
    add_weight_gradient(b.v_geometry, GEOMETRY, GEOMETRY, b.hidden1, n, density2);
    multiply(b.v_geometry, GEOMETRY, networks.density2_t, v_one, rows, zero_rows, where(b.hidden1));
    add_weight_gradient(b.features, stride_, stride_, v_one, n, density1);
    if (stride_ == 16)
      multiply(v_one, HIDDEN, networks.density1_t, b.v_features, rows, zero_rows, unchanged);
    else
      multiply(v_one, HIDDEN, networks.wide_density1_t, b.v_features, rows, zero_rows, unchanged);
  }

  void keep_for_tables(const LossBlock& b, int n, const RayRun& run) const {
    for (int axis = 0; axis < 3; ++axis)
      std::memcpy(unit_[axis] + run.first_sample, b.unit[axis], n * sizeof(float));
    std::memcpy(kept_v_features_ + run.first_sample * stride_, b.v_features, n * stride_ * sizeof(float));
  }

  void add_ray_gradients(LossBlock& b, int n, const RayRun& run) const {
    for (size_t i = run.first_ray * 3; i < run.end_ray * 3; ++i)
      gradients_.v_origins[i] = 0.0f, gradients_.v_directions[i] = 0.0f;
    if (n == 0) return;
    for (int i = 0; i < n; ++i) {
      const size_t ray = b.ray[i];
      feature_pair products[3] = {};
      for (size_t l = 0; l < in_.n_levels; ++l) {
        const feature_pair v_features = load_pair(b.v_features + i * stride_ + 2 * l);
        const float* const slopes = slopes_ + 6 * (l * total_ + run.first_sample + b.placed[i]);
        for (int axis = 0; axis < 3; ++axis) products[axis] += v_features * load_pair(slopes + 2 * axis);
      }
      float p[3], v[3];
      for (int axis = 0; axis < 3; ++axis) {
        p[axis] = rays_.origins[ray * 3 + axis] + b.middle[i] * rays_.directions[ray * 3 + axis];
        v[axis] = products[axis][0] + products[axis][1];
      }
      field_.to_unit().gradient(p, v);
      for (int axis = 0; axis < 3; ++axis) {
        gradients_.v_origins[ray * 3 + axis] += v[axis];
        gradients_.v_directions[ray * 3 + axis] += b.middle[i] * v[axis];
      }
    }
  }

  void sum_weight_gradients() {
    const int n_features = field_.networks().n_features;
    const size_t first[] = {0, MAX_FEATURES * HIDDEN}, size[] = {size_t(n_features) * HIDDEN,
                                                                 (2 * GEOMETRY + HIDDEN + 3) * HIDDEN};
    float* to = gradients_.v_networks;
    for (int piece = 0; piece < 2; to += size[piece], ++piece) {
      std::memset(to, 0, size[piece] * sizeof(float));
      for (size_t index = 0; index < n_parts_; ++index) {
        const float* const from = part(index) + first[piece];
        for (size_t i = 0; i < size[piece]; i += W) store(to + i, load(to + i) + load(from + i));
      }
    }
  }

  void sum_table_gradients(size_t l) const {
    const Level level(in_.resolutions[l], in_.table_size);
    float* const v_entries = gradients_.v_table + l * in_.table_size * 2;
    std::memset(v_entries, 0, in_.table_size * 2 * sizeof(float));
    Cells cells;
    for (const RayRun& run : runs_)
      for (int i = 0; i < run.kept; i += POINTS) {
        const size_t first = run.first_sample + i;
        const int count = std::min(POINTS, run.kept - i);
        const float* const points[3] = {unit_[0] + first, unit_[1] + first, unit_[2] + first};
        (level.dense ? find_cells<true> : find_cells<false>)(level, points, count, cells);
        (level.dense ? add_gradient<true> : add_gradient<false>)(
            cells, count, kept_v_features_ + first * stride_ + 2 * l, stride_, v_entries);
      }
  }

  const FieldInputs& in_;
  const FieldRays& rays_;
  const RaySamples& samples_;
  const FieldLossInputs& loss_;
  const FieldGradients& gradients_;
  const RadianceField field_;
  std::vector<RayRun> runs_;
  std::vector<std::array<double, 2>> part_losses_;
  size_t n_parts_ = 0;
  int stride_ = 0;
  size_t total_ = 0;  // samples
  float* unit_[3];    // the samples' coordinates in the unit cube; after a run, of those that it kept
  float* features_;   // [levels, samples, 2]
  float* slopes_;     // [levels, samples, 3, 2], or null
  float* kept_v_features_;  // [samples, stride]
  float* parts_;            // [parts, WEIGHT_ROWS, 64]
};

void field_loss(const FieldInputs& in, const FieldRays& rays, const RaySamples& samples, const FieldLossInputs& loss,
                const FieldGradients& gradients, float* losses, float* rgb, img3d::Scratch& scratch) {
  std::memset(gradients.v_ray_features, 0, rays.n_rays * HIDDEN * sizeof(float));
  LossPass(in, rays, samples, loss, gradients, scratch).run(losses, rgb);
}

}  // namespace
}  // namespace IMG3D_ISA
