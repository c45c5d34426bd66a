// SPDX-License-Identifier: Apache-2.0
// The real spherical harmonics up to degree 3, with the signs and constants that 3D Gaussian Splatting files use (Sloan,
// "Efficient Spherical Harmonic Evaluation", JCGT 2013), and their derivative with respect to the direction.
#pragma once

#include "common/simd.h"

namespace IMG3D_ISA {
namespace {

constexpr int MAX_SH = 16;

// Writes basis[k] at the unit direction (x, y, z); returns their number.
inline int sh_basis(int degree, vf x, vf y, vf z, vf* basis) {
  basis[0] = splat(0.28209479177387814f);
  if (degree < 1) return 1;
  const float c1 = 0.4886025119029199f;
  basis[1] = -c1 * y;
  basis[2] = c1 * z;
  basis[3] = -c1 * x;
  if (degree < 2) return 4;
  const vf xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
  basis[4] = 1.0925484305920792f * xy;
  basis[5] = -1.0925484305920792f * yz;
  basis[6] = 0.31539156525252005f * (2.0f * zz - xx - yy);
  basis[7] = -1.0925484305920792f * xz;
  basis[8] = 0.5462742152960396f * (xx - yy);
  if (degree < 3) return 9;
  basis[9] = -0.5900435899266435f * y * (3.0f * xx - yy);
  basis[10] = 2.890611442640554f * xy * z;
  basis[11] = -0.4570457994644658f * y * (4.0f * zz - xx - yy);
  basis[12] = 0.3731763325901154f * z * (2.0f * zz - 3.0f * xx - 3.0f * yy);
  basis[13] = -0.4570457994644658f * x * (4.0f * zz - xx - yy);
  basis[14] = 1.445305721320277f * z * (xx - yy);
  basis[15] = -0.5900435899266435f * x * (xx - 3.0f * yy);
  return 16;
}

// Adds sum_k weight[k] * d basis[k] / d (x, y, z) to v. The derivative is that of the polynomials as written above; the
// part that depends on how they extend off the unit sphere vanishes when the caller projects onto its tangent plane.
inline void sh_basis_vjp(int degree, vf x, vf y, vf z, const vf* weight, vf* v) {
  if (degree < 1) return;
  const float c1 = 0.4886025119029199f;
  vf vx = -c1 * weight[3], vy = -c1 * weight[1], vz = c1 * weight[2];
  if (degree >= 2) {
    const float c2 = 1.0925484305920792f, c20 = 0.31539156525252005f, c22 = 0.5462742152960396f;
    vx += c2 * (y * weight[4] - z * weight[7]) - 2.0f * c20 * x * weight[6] + 2.0f * c22 * x * weight[8];
    vy += c2 * (x * weight[4] - z * weight[5]) - 2.0f * c20 * y * weight[6] - 2.0f * c22 * y * weight[8];
    vz += c2 * (-y * weight[5] - x * weight[7]) + 4.0f * c20 * z * weight[6];
  }
  if (degree >= 3) {
    const float c33 = 0.5900435899266435f, c32 = 2.890611442640554f, c31 = 0.4570457994644658f;
    const float c30 = 0.3731763325901154f, c322 = 1.445305721320277f;
    const vf xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    vx += -6.0f * c33 * xy * weight[9] + c32 * yz * weight[10] + 2.0f * c31 * xy * weight[11] -
          6.0f * c30 * xz * weight[12] - c31 * (4.0f * zz - 3.0f * xx - yy) * weight[13] +
          2.0f * c322 * xz * weight[14] - 3.0f * c33 * (xx - yy) * weight[15];
    vy += -3.0f * c33 * (xx - yy) * weight[9] + c32 * xz * weight[10] -
          c31 * (4.0f * zz - xx - 3.0f * yy) * weight[11] - 6.0f * c30 * yz * weight[12] +
          2.0f * c31 * xy * weight[13] - 2.0f * c322 * yz * weight[14] + 6.0f * c33 * xy * weight[15];
    vz += c32 * xy * weight[10] - 8.0f * c31 * yz * weight[11] + 3.0f * c30 * (2.0f * zz - xx - yy) * weight[12] -
          8.0f * c31 * xz * weight[13] + c322 * (xx - yy) * weight[14];
  }
  v[0] += vx;
  v[1] += vy;
  v[2] += vz;
}

}  // namespace
}  // namespace IMG3D_ISA
