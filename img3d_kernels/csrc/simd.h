// SPDX-License-Identifier: Apache-2.0
// Vectors of floats as wide as the instruction set this file is compiled for, through the compiler's own vector type
// (GCC and Clang), so that the kernels are written once for every instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace IMG3D_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));  // also a lane mask: all ones or zero

inline vf splat(float x) { return x - vf{}; }

inline vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

inline vi bits(vf v) {
  vi r;
  std::memcpy(&r, &v, sizeof r);
  return r;
}

inline vf from_bits(vi v) {
  vf r;
  std::memcpy(&r, &v, sizeof r);
  return r;
}

// Zero in the lanes that the mask leaves out.
inline vf keep(vi mask, vf v) { return from_bits(mask & bits(v)); }

inline vf vmin(vf a, vf b) { return a < b ? a : b; }
inline vf vmax(vf a, vf b) { return a > b ? a : b; }
inline vf vabs(vf v) { return from_bits(bits(v) & 0x7fffffff); }

inline vf vsqrt(vf v) {
  vf r;
  for (int l = 0; l < W; ++l) r[l] = __builtin_sqrtf(v[l]);
  return r;
}

// No lane of the mask is set. The compiler's vector type has no such test, hence the one use of intrinsics.
inline bool none(vi mask) {
#if defined(__AVX512F__)
  __m512i m;
  std::memcpy(&m, &mask, sizeof m);
  return _mm512_test_epi32_mask(m, m) == 0;
#elif defined(__AVX2__)
  __m256i m;
  std::memcpy(&m, &mask, sizeof m);
  return _mm256_testz_si256(m, m);
#else
  int32_t any = 0;
  for (int l = 0; l < W; ++l) any |= mask[l];
  return any == 0;
#endif
}

inline float sum(vf v) {
  float parts[W];
  store(parts, v);
  for (int half = W / 2; half >= 1; half /= 2)
    for (int l = 0; l < half; ++l) parts[l] += parts[l + half];
  return parts[0];
}

}  // namespace
}  // namespace IMG3D_ISA
