// SPDX-License-Identifier: Apache-2.0
// Blends Gaussians along arbitrary rays, which rasterisation cannot do: along those of panoramas, fisheyes and texels. A
// packet of neighbouring rays considers the Gaussians that reach its bounding cone, nearest first along its axis. What a
// ray sees of a Gaussian is the maximum along the ray. ray_compositing.py has the same in torch.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "common/simd.h"
#include "kernels.h"
#include "splats/spherical_harmonics.h"

namespace IMG3D_ISA {
namespace {

using img3d::CompositeInputs;
using img3d::CompositeOutputs;
using img3d::Scratch;

constexpr int PACKET_RAYS = 64, PACKET_VECTORS = PACKET_RAYS / W;
constexpr float REACH = 3.0f;  // standard deviations

// Centres by coordinate, and the radius around each within which it can be seen; padded to whole vectors by points that
// nothing reaches.
struct GaussianSpheres {
  size_t size, stride;
  float* values;

  GaussianSpheres(const CompositeInputs& in, Scratch& scratch)
      : size(in.n_gaussians), stride(ceil_div(size, W) * W), values(scratch.get<float>(4 * stride)) {
    parallel(4, [&](size_t part) {
      float* to = values + part * stride;
      for (size_t i = 0; i < size; ++i) {
        const float* s = in.scales + i * 3;
        to[i] = part < 3 ? in.means[i * 3 + part] : REACH * std::max(s[0], std::max(s[1], s[2]));
      }
      std::fill(to + size, to + stride, part < 3 ? INFINITY : 0.0f);
    });
  }
  vf at(int part, size_t i) const { return load(values + part * stride + i); }
};

// The rays of a packet; the last one is repeated where there are fewer.
struct RayPacket {
  vf origin[3][PACKET_VECTORS], direction[3][PACKET_VECTORS], near[PACKET_VECTORS], far[PACKET_VECTORS];
  vf dilation[PACKET_VECTORS];  // variance that a pixel adds at distance 1
  vf basis[PACKET_VECTORS][MAX_SH];
  // The cone around all rays: from a sphere of the radius `wide` around the centre.
  float center[3], axis[3], wide, sine, cosine, nearest, farthest, pitch;

  RayPacket(const CompositeInputs& in, size_t first) {
    float parts[9][PACKET_RAYS];
    for (int i = 0; i < PACKET_RAYS; ++i) {
      const size_t ray = smaller(first + i, in.n_rays - 1);
      for (int k = 0; k < 3; ++k) {
        parts[k][i] = in.origins[ray * 3 + k];
        parts[3 + k][i] = in.directions[ray * 3 + k];
      }
      parts[6][i] = in.nears[ray], parts[7][i] = in.fars[ray], parts[8][i] = in.pixel_pitch[ray];
    }
    for (int v = 0; v < PACKET_VECTORS; ++v) {
      for (int k = 0; k < 3; ++k) origin[k][v] = load(parts[k] + v * W), direction[k][v] = load(parts[3 + k] + v * W);
      near[v] = load(parts[6] + v * W), far[v] = load(parts[7] + v * W);
      const vf pixel = load(parts[8] + v * W);
      dilation[v] = in.eps2d * pixel * pixel;
      if (in.sh_degree >= 0) sh_basis(in.sh_degree, direction[0][v], direction[1][v], direction[2][v], basis[v]);
    }
    for (int k = 0; k < 3; ++k) {
      const auto [low, high] = std::minmax_element(parts[k], parts[k] + PACKET_RAYS);
      center[k] = 0.5f * (*low + *high);
      axis[k] = 0.0f;
      for (size_t i = 0; i < smaller(PACKET_RAYS, in.n_rays - first); ++i) axis[k] += parts[3 + k][i];
    }
    const float length = std::sqrt(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2]);
    // Opposite rays have no mean direction.
    for (int k = 0; k < 3; ++k) axis[k] = length > 1e-3f ? axis[k] / length : parts[3 + k][0];
    wide = 0.0f, cosine = 1.0f;
    for (int i = 0; i < PACKET_RAYS; ++i) {
      float along = 0.0f, away = 0.0f;
      for (int k = 0; k < 3; ++k) {
        along += parts[3 + k][i] * axis[k];
        away += (parts[k][i] - center[k]) * (parts[k][i] - center[k]);
      }
      cosine = std::min(cosine, along), wide = std::max(wide, std::sqrt(away));
    }
    cosine = std::max(cosine, -1.0f);
    sine = std::sqrt(std::max(0.0f, 1.0f - cosine * cosine));
    nearest = *std::min_element(parts[6], parts[6] + PACKET_RAYS);
    farthest = *std::max_element(parts[7], parts[7] + PACKET_RAYS);
    pitch = *std::max_element(parts[8], parts[8] + PACKET_RAYS);
  }

  // Appends Gaussians that may be met, with their distance along the axis, nearest first.
  void find_gaussians(const GaussianSpheres& spheres, float eps2d, std::vector<std::pair<float, uint32_t>>& found) const {
    const float blur = REACH * std::sqrt(eps2d) * pitch;
    for (size_t first = 0; first < spheres.size; first += W) {
      const vf x = spheres.at(0, first) - center[0], y = spheres.at(1, first) - center[1],
               z = spheres.at(2, first) - center[2];
      const vf squared = x * x + y * y + z * z, distance = vsqrt(squared), along = x * axis[0] + y * axis[1] + z * axis[2];
      const vf beside = vsqrt(vmax(squared - along * along, vf{}));
      const vf radius = spheres.at(3, first) + blur * distance + wide;
      // By the angle beyond the cone: its sine and its cosine, times the distance.
      const vf sine_beyond = beside * cosine - along * sine, cosine_beyond = along * cosine + beside * sine;
      vi met = ((sine_beyond <= radius) & (cosine_beyond > 0.0f)) | (distance <= radius);
      if (cosine < 0.0f) met |= sine_beyond <= 0.0f;  // a cone that is wider than a half-space
      met &= (distance - radius <= farthest) & (distance + radius >= nearest);
      for (uint32_t lanes = lane_bits(met); lanes != 0; lanes &= lanes - 1) {
        const int lane = __builtin_ctz(lanes);
        if (first + lane < spheres.size) found.emplace_back(along[lane], static_cast<uint32_t>(first + lane));
      }
    }
    std::sort(found.begin(), found.end());
  }
};

// What the rays of a vector have gathered on their way.
struct Gathered {
  vf passing = splat(1.0f), rgb[3] = {}, distance = {}, normal[3] = {};
  vi goes_on = ~vi{};
};

// The rows of a Gaussian that blending reads.
struct OneGaussian {
  const float *mean, *rotation, *scales, *colors;
  float opacity, facing[3];  // the axis along which it is thinnest

  OneGaussian(const CompositeInputs& in, size_t i)
      : mean(in.means + i * 3), rotation(in.rotations + i * 9), scales(in.scales + i * 3),
        colors(in.colors + i * in.color_stride), opacity(in.opacities[i]) {
    const int thinnest = static_cast<int>(std::min_element(scales, scales + 3) - scales);
    for (int k = 0; k < 3; ++k) facing[k] = rotation[k * 3 + thinnest];
  }
};

inline void blend(const OneGaussian& g, const RayPacket& rays, int v, int sh_degree, Gathered& to) {
  const vf *d[3] = {&rays.direction[0][v], &rays.direction[1][v], &rays.direction[2][v]};
  vf offset[3], along{};
  for (int k = 0; k < 3; ++k) offset[k] = g.mean[k] - rays.origin[k][v], along += offset[k] * *d[k];
  // In the Gaussian's axes: the minimum of the quadratic form along the ray.
  vf local[3], turned[3], precision[3], towards{}, against{};
  for (int j = 0; j < 3; ++j) {
    local[j] = turned[j] = vf{};
    for (int k = 0; k < 3; ++k) {
      local[j] += offset[k] * g.rotation[k * 3 + j];
      turned[j] += *d[k] * g.rotation[k * 3 + j];
    }
    precision[j] = 1.0f / vmax(g.scales[j] * g.scales[j] + rays.dilation[v] * along * along, splat(1e-30f));
    towards += local[j] * turned[j] * precision[j];
    against += turned[j] * turned[j] * precision[j];
  }
  const vf peak = towards / against;
  vf form{};
  for (int j = 0; j < 3; ++j) {
    const vf closest = local[j] - peak * turned[j];
    form += closest * closest * precision[j];
  }
  const vf response = vexp2<1>({{vmax(-0.5f * LOG2_E * form, splat(-126.0f))}})[0];
  const vf alpha = vmin(g.opacity * response, splat(img3d::MAX_ALPHA));
  const vi seen = to.goes_on & (g.opacity * response >= img3d::MIN_ALPHA) & (along > rays.near[v]) & (along < rays.far[v]);
  if (none(seen)) return;
  const vf after = to.passing * (1.0f - alpha);
  // The Gaussian that would take the light below the minimum is skipped, and ends the ray.
  to.goes_on &= ~(seen & (after <= img3d::MIN_TRANSMITTANCE));
  const vi counts = seen & to.goes_on;
  const vf weight = keep(counts, alpha * to.passing);
  to.passing = select(counts, after, to.passing);
  to.distance += weight * along;
  vf facing{};
  for (int k = 0; k < 3; ++k) facing += *d[k] * g.facing[k];
  const vf turned_weight = select(facing > 0.0f, -weight, keep(facing < 0.0f, weight));
  for (int k = 0; k < 3; ++k) to.normal[k] += turned_weight * g.facing[k];
  for (int c = 0; c < 3; ++c) {
    vf color = splat(g.colors[c]);
    if (sh_degree >= 0) {
      color = splat(0.5f);
      for (int k = 0; k < (sh_degree + 1) * (sh_degree + 1); ++k) color += rays.basis[v][k] * g.colors[k * 3 + c];
      color = vmax(color, vf{});
    }
    to.rgb[c] += weight * color;
  }
}

void composite_rays(const CompositeInputs& in, const CompositeOutputs& out, Scratch& scratch) {
  if (in.n_rays == 0) return;
  const GaussianSpheres spheres(in, scratch);
  parallel(ceil_div(in.n_rays, PACKET_RAYS), [&](size_t task) {
    const size_t first = task * PACKET_RAYS;
    const RayPacket rays(in, first);
    static thread_local std::vector<std::pair<float, uint32_t>> met;  // kept between tasks
    met.clear();
    rays.find_gaussians(spheres, in.eps2d, met);
    Gathered gathered[PACKET_VECTORS];
    for (const auto& [along, i] : met) {
      const OneGaussian gaussian(in, i);
      bool any = false;
      for (int v = 0; v < PACKET_VECTORS; ++v) {
        if (none(gathered[v].goes_on)) continue;
        any = true;
        blend(gaussian, rays, v, in.sh_degree, gathered[v]);
      }
      if (!any) break;
    }
    const int count = static_cast<int>(smaller(PACKET_RAYS, in.n_rays - first));
    for (int i = 0; i < count; ++i) {
      const Gathered& from = gathered[i / W];
      const size_t ray = first + i;
      for (int k = 0; k < 3; ++k) {
        out.rgb[ray * 3 + k] = from.rgb[k][i % W];
        out.normals[ray * 3 + k] = from.normal[k][i % W];
      }
      out.passing[ray] = from.passing[i % W];
      out.distance[ray] = from.distance[i % W];
    }
  });
}

}  // namespace
}  // namespace IMG3D_ISA
