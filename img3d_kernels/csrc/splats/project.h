// SPDX-License-Identifier: Apache-2.0
// Projection of 3D Gaussians to the image, with covariance and spherical harmonics, and its gradient. EWA splatting
// (Zwicker et al. 2001) as in gsplat 1.4: fully_fused_projection_fwd.cu, utils.cuh. Blocks of Gaussians are transposed into
// structure-of-arrays form in a local buffer.
#pragma once

#include <cmath>

#include "kernels.h"
#include "common/parallel.h"
#include "common/simd.h"
#include "splats/spherical_harmonics.h"

namespace IMG3D_ISA {
namespace {

using img3d::FOV_MARGIN;
using img3d::GradStats;
using img3d::MAX_RADIUS;
using img3d::ProjectGradients;
using img3d::ProjectInputs;
using img3d::ProjectOutputs;
using img3d::Scratch;

constexpr size_t BLOCK = 32;               // Gaussians transposed at once; a multiple of every W
constexpr size_t GAUSSIANS_PER_TASK = 512;  // a multiple of BLOCK
static_assert(BLOCK % W == 0);

// The local, structure-of-arrays copy of up to BLOCK rows of an array [N, D].
template <int D>
struct Rows {
  float at[D][BLOCK];

  // Rows past the end repeat the last one, so that no lane computes with uninitialised values.
  // The array's columns are copied to or from `at[begin]` … `at[end - 1]`.
  void read(const float* array, size_t first, size_t count, size_t stride = D, int begin = 0, int end = D) {
    for (size_t i = 0; i < BLOCK; ++i) {
      const float* row = array + (first + (i < count ? i : count - 1)) * stride;
      for (int d = begin; d < end; ++d) at[d][i] = row[d - begin];
    }
  }

  // As `read`, but leaves rows that are not wanted as they are.
  void read_wanted(const float* wanted, const float* array, size_t first, size_t count, size_t stride, int begin,
                   int end) {
    for (size_t i = 0; i < count; ++i) {
      if (wanted[i] == 0.0f) continue;
      const float* row = array + (first + i) * stride;
      for (int d = begin; d < end; ++d) at[d][i] = row[d - begin];
    }
  }

  void write(float* array, size_t first, size_t count, size_t stride = D, int begin = 0, int end = D) const {
    for (size_t i = 0; i < count; ++i) {
      float* row = array + (first + i) * stride;
      for (int d = begin; d < end; ++d) row[d - begin] = at[d][i];
    }
  }

  // As `write`, but rows that are not wanted, and columns from `end` to the array's last one, become zero.
  void write_wanted(const float* wanted, float* array, size_t first, size_t count, size_t stride, size_t columns,
                    int begin, int end) const {
    for (size_t i = 0; i < count; ++i) {
      float* row = array + (first + i) * stride;
      const int written = wanted[i] == 0.0f ? 0 : end - begin;
      for (int d = 0; d < written; ++d) row[d] = at[begin + d][i];
      std::memset(row + written, 0, (columns - written) * sizeof(float));
    }
  }
};

struct Camera {
  float R[9], t[3], fx, fy, cx, cy, center[3];
  float lim_x_neg, lim_x_pos, lim_y_neg, lim_y_pos;  // limits of x/z and y/z inside the Jacobian

  Camera(const ProjectInputs& in, size_t c) {
    const float* V = in.viewmats + c * 16;
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) R[i * 3 + j] = V[i * 4 + j];
      t[i] = V[i * 4 + 3];
      center[i] = in.sh0 ? in.camera_centers[c * 3 + i] : 0.0f;
    }
    const float* K = in.Ks + c * 9;
    fx = K[0], fy = K[4], cx = K[2], cy = K[5];
    const float margin_x = FOV_MARGIN * (0.5f * in.width / fx), margin_y = FOV_MARGIN * (0.5f * in.height / fy);
    lim_x_neg = -(cx / fx + margin_x), lim_x_pos = (in.width - cx) / fx + margin_x;
    lim_y_neg = -(cy / fy + margin_y), lim_y_pos = (in.height - cy) / fy + margin_y;
  }
};

// Intermediate results for W Gaussians, used by the forward pass and recomputed by the backward pass.
struct Projection {
  vf q[4], inv_norm;                // the unit quaternion
  vf rot[9];                        // its matrix
  vf M[9];                          // camera rotation * rotation * scales: the covariance is M Mᵀ
  vf mean_c[3];                     // centre in the camera's frame
  vf inv_z, clamped_x, clamped_y;   // x/z and y/z after the Jacobian's clamp
  vf U[6];                          // Jacobian * M [2, 3]
  vf det_orig, det, conic[3], compensation;
  vi visible;
  vf radius, mean2d[2];

  Projection(const ProjectInputs& in, const Camera& cam, const vf* mean, const vf* quat, const vf* scale) {
    inv_norm = 1.0f / vsqrt(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2] + quat[3] * quat[3]);
    for (int i = 0; i < 4; ++i) q[i] = quat[i] * inv_norm;
    const vf w = q[0], x = q[1], y = q[2], z = q[3];
    rot[0] = 1.0f - 2.0f * (y * y + z * z);
    rot[1] = 2.0f * (x * y - w * z);
    rot[2] = 2.0f * (x * z + w * y);
    rot[3] = 2.0f * (x * y + w * z);
    rot[4] = 1.0f - 2.0f * (x * x + z * z);
    rot[5] = 2.0f * (y * z - w * x);
    rot[6] = 2.0f * (x * z - w * y);
    rot[7] = 2.0f * (y * z + w * x);
    rot[8] = 1.0f - 2.0f * (x * x + y * y);

    for (int i = 0; i < 3; ++i) {
      const float* R = cam.R + i * 3;
      mean_c[i] = R[0] * mean[0] + R[1] * mean[1] + R[2] * mean[2] + cam.t[i];
      for (int j = 0; j < 3; ++j) M[i * 3 + j] = (R[0] * rot[j] + R[1] * rot[3 + j] + R[2] * rot[6 + j]) * scale[j];
    }

    const vi in_depth = (mean_c[2] >= in.near_plane) & (mean_c[2] <= in.far_plane);
    // A depth of one avoids division by zero in lanes that are not visible.
    const vf safe_z = in_depth & (mean_c[2] != 0.0f) ? mean_c[2] : splat(1.0f);
    inv_z = 1.0f / safe_z;
    const vf px = mean_c[0] * inv_z, py = mean_c[1] * inv_z;
    clamped_x = vmin(vmax(px, splat(cam.lim_x_neg)), splat(cam.lim_x_pos));
    clamped_y = vmin(vmax(py, splat(cam.lim_y_neg)), splat(cam.lim_y_pos));
    const vf jx = cam.fx * inv_z, jy = cam.fy * inv_z;
    for (int j = 0; j < 3; ++j) {
      U[j] = jx * (M[j] - clamped_x * M[6 + j]);
      U[3 + j] = jy * (M[3 + j] - clamped_y * M[6 + j]);
    }
    vf cov00 = U[0] * U[0] + U[1] * U[1] + U[2] * U[2];
    const vf cov01 = U[0] * U[3] + U[1] * U[4] + U[2] * U[5];
    vf cov11 = U[3] * U[3] + U[4] * U[4] + U[5] * U[5];
    det_orig = cov00 * cov11 - cov01 * cov01;
    cov00 += in.eps2d;
    cov11 += in.eps2d;
    det = cov00 * cov11 - cov01 * cov01;
    const vf inv_det = 1.0f / (det > 0.0f ? det : splat(1.0f));
    conic[0] = cov11 * inv_det;
    conic[1] = -cov01 * inv_det;
    conic[2] = cov00 * inv_det;
    if (in.antialiased) compensation = vsqrt(vmax(det_orig * inv_det, vf{}));
    mean2d[0] = cam.fx * px + cam.cx;
    mean2d[1] = cam.fy * py + cam.cy;

    const vf half_trace = 0.5f * (cov00 + cov11);
    radius = 3.0f * vsqrt(half_trace + vsqrt(vmax(half_trace * half_trace - det, splat(0.01f))));
    for (int l = 0; l < W; ++l) radius[l] = __builtin_ceilf(radius[l]);
    // The upper bound also rejects infinities; NaN fails every comparison.
    visible = in_depth & (mean_c[2] != 0.0f) & (det > 0.0f) & (radius > in.radius_clip) & (radius < MAX_RADIUS) &
              (mean2d[0] + radius > 0.0f) & (mean2d[0] - radius < float(in.width)) & (mean2d[1] + radius > 0.0f) &
              (mean2d[1] - radius < float(in.height));
  }
};

struct GaussianBlock {
  Rows<3> means, scales;
  Rows<4> quats;
  Rows<3 * MAX_SH> sh{};

  void read(const ProjectInputs& in, size_t first, size_t count) {
    means.read(in.means, first, count);
    quats.read(in.quats, first, count);
    scales.read(in.scales, first, count);
  }

  // The harmonics, which are most of a Gaussian's memory, of those that a camera sees; `visible[i]` is 0 for others.
  void read_sh(const ProjectInputs& in, const float* visible, size_t first, size_t count) {
    sh.read_wanted(visible, in.sh0, first, count, in.sh0_stride, 0, 3);
    sh.read_wanted(visible, in.sh_rest, first, count, in.sh_rest_stride, 3,
                   3 * (in.sh_degree + 1) * (in.sh_degree + 1));
  }
};

template <int D>
inline void load_lanes(const Rows<D>& rows, size_t lane, vf* out) {
  for (int d = 0; d < D; ++d) out[d] = load(rows.at[d] + lane);
}

// Unit direction from the camera to the Gaussian; returns 1 / length.
inline vf view_direction(const Camera& cam, const vf* mean, vf* dir) {
  for (int i = 0; i < 3; ++i) dir[i] = mean[i] - cam.center[i];
  const vf inv_length = 1.0f / vsqrt(vmax(dir[0] * dir[0] + dir[1] * dir[1] + dir[2] * dir[2], splat(1e-24f)));
  for (int i = 0; i < 3; ++i) dir[i] *= inv_length;
  return inv_length;
}

void project_forward(const ProjectInputs& in, const ProjectOutputs& out) {
  const size_t n = in.n_gaussians, tasks = ceil_div(n, GAUSSIANS_PER_TASK);
  parallel(tasks * in.n_cameras, [&](size_t task) {
    const size_t c = task / tasks, begin = task % tasks * GAUSSIANS_PER_TASK;
    const size_t end = smaller(begin + GAUSSIANS_PER_TASK, n);
    const Camera cam(in, c);
    GaussianBlock block;
    Rows<3> conics, colors;
    Rows<2> means2d;
    Rows<1> depths, compensations, radii;
    for (size_t first = begin; first < end; first += BLOCK) {
      const size_t count = smaller(BLOCK, end - first);
      block.read(in, first, count);
      for (size_t lane = 0; lane < BLOCK; lane += W) {
        vf mean[3], quat[4], scale[3];
        load_lanes(block.means, lane, mean);
        load_lanes(block.quats, lane, quat);
        load_lanes(block.scales, lane, scale);
        const Projection p(in, cam, mean, quat, scale);
        store(radii.at[0] + lane, keep(p.visible, p.radius));
        store(depths.at[0] + lane, keep(p.visible, p.mean_c[2]));
        for (int i = 0; i < 2; ++i) store(means2d.at[i] + lane, keep(p.visible, p.mean2d[i]));
        for (int i = 0; i < 3; ++i) store(conics.at[i] + lane, keep(p.visible, p.conic[i]));
        if (in.antialiased) store(compensations.at[0] + lane, keep(p.visible, p.compensation));
      }
      if (in.sh0) {
        block.read_sh(in, radii.at[0], first, count);
        for (size_t lane = 0; lane < BLOCK; lane += W) {
          vf mean[3], dir[3], basis[MAX_SH];
          load_lanes(block.means, lane, mean);
          view_direction(cam, mean, dir);
          const int n_basis = sh_basis(in.sh_degree, dir[0], dir[1], dir[2], basis);
          const vi visible = load(radii.at[0] + lane) > 0.0f;
          for (int i = 0; i < 3; ++i) {
            vf color = splat(0.5f);
            for (int k = 0; k < n_basis; ++k) color += basis[k] * load(block.sh.at[k * 3 + i] + lane);
            store(colors.at[i] + lane, keep(visible, vmax(color, vf{})));
          }
        }
      }
      const size_t row = c * n + first;
      for (size_t i = 0; i < count; ++i) {
        out.radii[row + i] = static_cast<int32_t>(radii.at[0][i]);
        out.opacities[row + i] = in.opacities[first + i] * (in.antialiased ? compensations.at[0][i] : 1.0f);
      }
      depths.write(out.depths, row, count);
      means2d.write(out.means2d, row, count);
      conics.write(out.conics, row, count);
      if (in.sh0) colors.write(out.colors, row, count);
    }
  });
}

// Gradient of the unit quaternion's rotation matrix, then of the normalisation.
inline void rotation_vjp(const Projection& p, const vf* v_rot, vf* v_quat) {
  const vf w = p.q[0], x = p.q[1], y = p.q[2], z = p.q[3];
  vf v[4];
  v[0] = 2.0f * (x * (v_rot[7] - v_rot[5]) + y * (v_rot[2] - v_rot[6]) + z * (v_rot[3] - v_rot[1]));
  v[1] = 2.0f * (-2.0f * x * (v_rot[4] + v_rot[8]) + y * (v_rot[1] + v_rot[3]) + z * (v_rot[2] + v_rot[6]) +
                 w * (v_rot[7] - v_rot[5]));
  v[2] = 2.0f * (x * (v_rot[1] + v_rot[3]) - 2.0f * y * (v_rot[0] + v_rot[8]) + z * (v_rot[5] + v_rot[7]) +
                 w * (v_rot[2] - v_rot[6]));
  v[3] = 2.0f * (x * (v_rot[2] + v_rot[6]) + y * (v_rot[5] + v_rot[7]) - 2.0f * z * (v_rot[0] + v_rot[4]) +
                 w * (v_rot[3] - v_rot[1]));
  const vf along = v[0] * w + v[1] * x + v[2] * y + v[3] * z;
  for (int i = 0; i < 4; ++i) v_quat[i] = (v[i] - along * p.q[i]) * p.inv_norm;
}

// Number of a camera's gradients that are summed over Gaussians: rotation [3, 3], translation [3], centre [3].
constexpr int CAMERA_GRADS = 15;

// Accumulates the statistics of one camera's Gaussians [first, first + count).
inline void add_grad_stats(const GradStats& s, const ProjectInputs& in, const int32_t* radii, const float* v_means2d,
                           size_t first, size_t count) {
  const float scale_x = 0.5f * in.width * in.n_cameras, scale_y = 0.5f * in.height * in.n_cameras;
  const float longer_side = static_cast<float>(in.width > in.height ? in.width : in.height);
  for (size_t i = 0; i < count; ++i) {
    if (radii[i] <= 0) continue;
    const float x = v_means2d[2 * i] * scale_x, y = v_means2d[2 * i + 1] * scale_y;
    s.grad2d[first + i] += std::sqrt(x * x + y * y);
    s.count[first + i] += 1.0f;
    if (!s.max_radii) continue;
    const float radius = static_cast<float>(radii[i]) / longer_side;
    if (radius > s.max_radii[first + i]) s.max_radii[first + i] = radius;
  }
}

void project_backward(const ProjectInputs& in, const ProjectGradients& g, Scratch& scratch) {
  const size_t n = in.n_gaussians, tasks = ceil_div(n, GAUSSIANS_PER_TASK);
  const bool camera_grads = g.v_viewmats != nullptr || g.v_camera_centers != nullptr;
  double* partial_sums = camera_grads ? scratch.get<double>(tasks * in.n_cameras * CAMERA_GRADS) : nullptr;
  const int sh_columns = in.sh0 ? 3 * (in.sh_degree + 1) * (in.sh_degree + 1) : 0;

  parallel(tasks, [&](size_t task) {
    const size_t begin = task * GAUSSIANS_PER_TASK, end = smaller(begin + GAUSSIANS_PER_TASK, n);
    GaussianBlock block;
    Rows<3> v_means, v_scales, v_conics, v_colors;
    Rows<4> v_quats;
    Rows<2> v_means2d;
    Rows<1> v_depths, v_opacities, v_opacities_in, visible_rows, seen_rows, opacities;
    Rows<3 * MAX_SH> v_sh;
    if (camera_grads)
      for (size_t i = 0; i < in.n_cameras * CAMERA_GRADS; ++i)
        partial_sums[task * in.n_cameras * CAMERA_GRADS + i] = 0.0;

    for (size_t first = begin; first < end; first += BLOCK) {
      const size_t count = smaller(BLOCK, end - first);
      block.read(in, first, count);
      for (size_t i = 0; i < BLOCK; ++i) {
        bool seen = false;
        for (size_t c = 0; c < in.n_cameras && i < count; ++c) seen |= g.radii[c * n + first + i] > 0;
        seen_rows.at[0][i] = seen ? 1.0f : 0.0f;
      }
      if (in.sh0) block.read_sh(in, seen_rows.at[0], first, count);
      opacities.read(in.opacities, first, count);
      std::memset(&v_means, 0, sizeof v_means);
      std::memset(&v_quats, 0, sizeof v_quats);
      std::memset(&v_scales, 0, sizeof v_scales);
      std::memset(&v_opacities_in, 0, sizeof v_opacities_in);
      std::memset(&v_sh.at[0][0], 0, sh_columns * sizeof v_sh.at[0]);

      for (size_t c = 0; c < in.n_cameras; ++c) {
        const Camera cam(in, c);
        const size_t row = c * n + first;
        bool any = false;
        for (size_t i = 0; i < BLOCK; ++i) {
          const bool visible = i < count && g.radii[row + i] > 0;
          visible_rows.at[0][i] = visible ? 1.0f : 0.0f;
          any |= visible;
        }
        if (!any && in.antialiased) continue;
        v_opacities.read(g.v_opacities, row, count);
        if (any) {
          if (g.stats.grad2d) {
            const float* v = g.stats.v_means2d_abs ? g.stats.v_means2d_abs : g.v_means2d;
            add_grad_stats(g.stats, in, g.radii + row, v + 2 * row, first, count);
          }
          v_means2d.read(g.v_means2d, row, count);
          v_depths.read(g.v_depths, row, count);
          v_conics.read(g.v_conics, row, count);
          if (in.sh0) v_colors.read(g.v_colors, row, count);
        }

        for (size_t lane = 0; lane < BLOCK; lane += W) {
          const vi visible = load(visible_rows.at[0] + lane) > 0.5f;
          const vf v_opacity = load(v_opacities.at[0] + lane);
          float* v_opacity_in = v_opacities_in.at[0] + lane;
          if (!in.antialiased) store(v_opacity_in, load(v_opacity_in) + v_opacity);
          if (none(visible)) continue;

          vf mean[3], quat[4], scale[3], v_mean2d[2], v_conic[3];
          load_lanes(block.means, lane, mean);
          load_lanes(block.quats, lane, quat);
          load_lanes(block.scales, lane, scale);
          load_lanes(v_means2d, lane, v_mean2d);
          load_lanes(v_conics, lane, v_conic);
          // Gaussians out of view may be infinite or NaN, and 0 * NaN is NaN.
          for (int i = 0; i < 3; ++i) mean[i] = keep(visible, mean[i]);
          const Projection p(in, cam, mean, quat, scale);

          // Inverse covariance to covariance: -P V P, with V the symmetric gradient of the conic P.
          const vf a = p.conic[0], b = p.conic[1], d = p.conic[2];
          const vf va = v_conic[0], vb = 0.5f * v_conic[1], vd = v_conic[2];
          const vf l00 = a * va + b * vb, l01 = a * vb + b * vd, l10 = b * va + d * vb, l11 = b * vb + d * vd;
          vf v_cov00 = -(l00 * a + l01 * b);
          vf v_cov01 = -(l00 * b + l01 * d) - (l10 * a + l11 * b);  // both off-diagonal elements
          vf v_cov11 = -(l10 * b + l11 * d);
          if (in.antialiased) {
            // compensation² = det_orig / det, where det_orig belongs to the covariance before the blur.
            const vf v_comp = v_opacity * load(opacities.at[0] + lane);
            store(v_opacity_in, load(v_opacity_in) + keep(visible, v_opacity * p.compensation));
            const vi positive = p.compensation > 0.0f;
            const vf half = 0.5f * v_comp / (positive ? p.compensation : splat(1.0f));
            const vf v_det_orig = keep(positive, half / p.det);
            const vf v_det = keep(positive, -half * p.compensation * p.compensation / p.det);
            const vf cov00 = d * p.det, cov01 = -b * p.det, cov11 = a * p.det;
            v_cov00 += v_det * cov11 + v_det_orig * (cov11 - in.eps2d);
            v_cov11 += v_det * cov00 + v_det_orig * (cov00 - in.eps2d);
            v_cov01 -= 2.0f * (v_det + v_det_orig) * cov01;
          }

          // Covariance to U = J M.
          vf v_U[6];
          for (int j = 0; j < 3; ++j) {
            v_U[j] = 2.0f * v_cov00 * p.U[j] + v_cov01 * p.U[3 + j];
            v_U[3 + j] = 2.0f * v_cov11 * p.U[3 + j] + v_cov01 * p.U[j];
          }
          const vf jx = cam.fx * p.inv_z, jy = cam.fy * p.inv_z;
          vf v_M[9];
          vf v_J00{}, v_J02{}, v_J11{}, v_J12{};
          for (int j = 0; j < 3; ++j) {
            v_M[j] = jx * v_U[j];
            v_M[3 + j] = jy * v_U[3 + j];
            v_M[6 + j] = -(p.clamped_x * v_M[j] + p.clamped_y * v_M[3 + j]);
            v_J00 += v_U[j] * p.M[j];
            v_J02 += v_U[j] * p.M[6 + j];
            v_J11 += v_U[3 + j] * p.M[3 + j];
            v_J12 += v_U[3 + j] * p.M[6 + j];
          }

          // J00 = fx / z, J02 = -fx clamp(x / z) / z, and the same for y; then the centre's projection.
          const vf px = p.mean_c[0] * p.inv_z, py = p.mean_c[1] * p.inv_z;
          const vf v_px = jx * keep((px >= cam.lim_x_neg) & (px <= cam.lim_x_pos), -v_J02) + cam.fx * v_mean2d[0];
          const vf v_py = jy * keep((py >= cam.lim_y_neg) & (py <= cam.lim_y_pos), -v_J12) + cam.fy * v_mean2d[1];
          const vf v_inv_z = cam.fx * (v_J00 - p.clamped_x * v_J02) + cam.fy * (v_J11 - p.clamped_y * v_J12) +
                             p.mean_c[0] * v_px + p.mean_c[1] * v_py;
          vf v_mean_c[3];
          v_mean_c[0] = keep(visible, v_px * p.inv_z);
          v_mean_c[1] = keep(visible, v_py * p.inv_z);
          v_mean_c[2] = keep(visible, load(v_depths.at[0] + lane) - v_inv_z * p.inv_z * p.inv_z);

          vf v_dir_world[3] = {};
          if (in.sh0) {
            vf dir[3], basis[MAX_SH], weight[MAX_SH];
            const vf inv_length = view_direction(cam, mean, dir);
            const int n_basis = sh_basis(in.sh_degree, dir[0], dir[1], dir[2], basis);
            vf v_color[3];
            for (int i = 0; i < 3; ++i) {
              vf color = splat(0.5f);
              for (int k = 0; k < n_basis; ++k) color += basis[k] * load(block.sh.at[k * 3 + i] + lane);
              v_color[i] = keep(visible & (color > 0.0f), load(v_colors.at[i] + lane));
            }
            for (int k = 0; k < n_basis; ++k) {
              weight[k] = vf{};
              for (int i = 0; i < 3; ++i) {
                float* v = v_sh.at[k * 3 + i] + lane;
                store(v, load(v) + basis[k] * v_color[i]);
                weight[k] += load(block.sh.at[k * 3 + i] + lane) * v_color[i];
              }
            }
            vf v_dir[3] = {};
            sh_basis_vjp(in.sh_degree, dir[0], dir[1], dir[2], weight, v_dir);
            const vf along = v_dir[0] * dir[0] + v_dir[1] * dir[1] + v_dir[2] * dir[2];
            for (int i = 0; i < 3; ++i) v_dir_world[i] = keep(visible, (v_dir[i] - along * dir[i]) * inv_length);
          }

          // Back to the world: M = R rot S, mean_c = R mean + t.
          vf v_rot[9], v_quat[4];
          for (int j = 0; j < 3; ++j) {
            vf v_scale{};
            for (int i = 0; i < 3; ++i) {
              const vf v = cam.R[i] * v_M[j] + cam.R[3 + i] * v_M[3 + j] + cam.R[6 + i] * v_M[6 + j];
              v_scale += v * p.rot[i * 3 + j];
              v_rot[i * 3 + j] = v * scale[j];
            }
            float* v_scale_row = v_scales.at[j] + lane;
            store(v_scale_row, load(v_scale_row) + keep(visible, v_scale));
            float* v_mean_row = v_means.at[j] + lane;
            store(v_mean_row, load(v_mean_row) + cam.R[j] * v_mean_c[0] + cam.R[3 + j] * v_mean_c[1] +
                                  cam.R[6 + j] * v_mean_c[2] + v_dir_world[j]);
          }
          rotation_vjp(p, v_rot, v_quat);
          for (int i = 0; i < 4; ++i) {
            float* v_quat_row = v_quats.at[i] + lane;
            store(v_quat_row, load(v_quat_row) + keep(visible, v_quat[i]));
          }

          if (camera_grads) {
            double* sums = partial_sums + (task * in.n_cameras + c) * CAMERA_GRADS;
            for (int i = 0; i < 3; ++i) {
              for (int j = 0; j < 3; ++j) {
                vf v = v_mean_c[i] * mean[j];
                for (int k = 0; k < 3; ++k) v += keep(visible, v_M[i * 3 + k] * p.rot[j * 3 + k] * scale[k]);
                sums[i * 3 + j] += sum(v);
              }
              sums[9 + i] += sum(v_mean_c[i]);
              sums[12 + i] -= sum(v_dir_world[i]);
            }
          }
        }
      }
      v_means.write(g.v_means, first, count);
      v_quats.write(g.v_quats, first, count);
      v_scales.write(g.v_scales, first, count);
      v_opacities_in.write(g.v_opacities_in, first, count);
      if (in.sh0) {
        v_sh.write_wanted(seen_rows.at[0], g.v_sh0, first, count, in.sh0_stride, 3, 0, 3);
        v_sh.write_wanted(seen_rows.at[0], g.v_sh_rest, first, count, in.sh_rest_stride, in.sh_rest_size, 3,
                          sh_columns);
      }
    }
  });

  if (!camera_grads) return;
  for (size_t c = 0; c < in.n_cameras; ++c) {
    double sums[CAMERA_GRADS] = {};
    for (size_t task = 0; task < tasks; ++task)
      for (int i = 0; i < CAMERA_GRADS; ++i) sums[i] += partial_sums[(task * in.n_cameras + c) * CAMERA_GRADS + i];
    if (g.v_viewmats) {
      float* v = g.v_viewmats + c * 16;
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) v[i * 4 + j] = static_cast<float>(sums[i * 3 + j]);
        v[i * 4 + 3] = static_cast<float>(sums[9 + i]);
      }
      for (int j = 0; j < 4; ++j) v[12 + j] = 0.0f;
    }
    if (g.v_camera_centers)
      for (int i = 0; i < 3; ++i) g.v_camera_centers[c * 3 + i] = static_cast<float>(sums[12 + i]);
  }
}

}  // namespace
}  // namespace IMG3D_ISA
