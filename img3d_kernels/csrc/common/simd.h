// SPDX-License-Identifier: Apache-2.0
// Float vectors of the width of the instruction set that this file is compiled for, as vector extensions of GCC and
// Clang, so that the kernels are written once for all instruction sets.
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
typedef uint32_t vu __attribute__((vector_size(4 * W)));

constexpr float LOG2_E = 1.4426950408889634f;

inline vf splat(float x) { return x - vf{}; }

inline vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

#if defined(__AVX512BF16__)
// Stores W floats as bfloat16.
inline void store_rounded(uint16_t* to, vf v) {
  const __m256bh rounded = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(to, &rounded, sizeof rounded);
}
#endif

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

// v in the lanes that are set in the mask, zero elsewhere.
inline vf keep(vi mask, vf v) { return from_bits(mask & bits(v)); }

// a in the lanes that are set in the mask, b elsewhere.
inline vf select(vi mask, vf a, vf b) { return from_bits((mask & bits(a)) | (~mask & bits(b))); }

// The last lanes of a, from lane SHIFT on, and then the first SHIFT lanes of b.
template <int SHIFT>
inline vf across(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_alignr_epi32((__m512i)b, (__m512i)a, SHIFT);
#else
  vf r;
  for (int l = 0; l < W; ++l) r[l] = l + SHIFT < W ? a[l + SHIFT] : b[l + SHIFT - W];
  return r;
#endif
}

// 0, 1, 2, ...
inline vf first_lanes() {
  vf v;
  for (int l = 0; l < W; ++l) v[l] = static_cast<float>(l);
  return v;
}

// If either argument is NaN, these return the second one.
#if defined(__AVX512F__)
inline vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
inline vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
inline vf fnma(vf a, vf b, vf c) { return (vf)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c); }
#elif defined(__AVX2__)
inline vf vmin(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
inline vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
inline vf fnma(vf a, vf b, vf c) { return (vf)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#else
inline vf vmin(vf a, vf b) { return a < b ? a : b; }
inline vf vmax(vf a, vf b) { return a > b ? a : b; }
inline vf fnma(vf a, vf b, vf c) { return c - a * b; }
#endif
// The next whole number towards zero.
#if defined(__AVX512F__)
inline vf whole(vf v) { return (vf)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#elif defined(__AVX2__)
inline vf whole(vf v) { return (vf)_mm256_round_ps((__m256)v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#else
inline vf whole(vf v) { return __builtin_convertvector(__builtin_convertvector(v, vi), vf); }
#endif
inline vi to_int(vf v) { return __builtin_convertvector(v, vi); }

// 1 / v to within some units in the last place; not for zero, infinity and what is near to them.
#if defined(__AVX512F__)
inline vf reciprocal(vf v) {
  const vf estimate = (vf)_mm512_rcp14_ps((__m512)v);
  return estimate * fnma(v, estimate, splat(2.0f));
}
#elif defined(__AVX2__)
inline vf reciprocal(vf v) {
  const vf estimate = (vf)_mm256_rcp_ps((__m256)v);
  return estimate * fnma(v, estimate, splat(2.0f));
}
#else
inline vf reciprocal(vf v) { return 1.0f / v; }
#endif

// base[index] in each lane.
inline vu gather(const uint32_t* base, vi index) {
#if defined(__AVX512F__)
  return (vu)_mm512_i32gather_epi32((__m512i)index, base, 4);
#elif defined(__AVX2__)
  return (vu)_mm256_i32gather_epi32(reinterpret_cast<const int*>(base), (__m256i)index, 4);
#else
  vu r;
  for (int l = 0; l < W; ++l) r[l] = base[index[l]];
  return r;
#endif
}

inline vf vabs(vf v) { return from_bits(bits(v) & 0x7fffffff); }

// U vectors that are processed together, so that their instructions overlap.
template <int U>
struct Vec {
  vf at[U];
  vf& operator[](int u) { return at[u]; }
  const vf& operator[](int u) const { return at[u]; }
};

// The vectors f(0) … f(U - 1).
template <int U, typename F>
inline Vec<U> each(const F& f) {
  Vec<U> r;
  for (int u = 0; u < U; ++u) r[u] = f(u);
  return r;
}

// exp2 on [-126, 126]: the integer part goes into the exponent, the fraction through a polynomial (relative error 1e-7).
// Outside that range the result is arbitrary.
template <int U>
inline Vec<U> vexp2(const Vec<U>& x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const Vec<U> shifted = each<U>([&](int u) { return x[u] + magic; });
  const Vec<U> f = each<U>([&](int u) { return x[u] - (shifted[u] - magic); });
  Vec<U> p = each<U>([&](int u) { return 0.0013276472454890609f * f[u] + 0.009675541892647743f; });
  for (float coefficient : {0.05550713092088699f, 0.24022120237350464f, 0.6931469440460205f, 1.0000001192092896f})
    p = each<U>([&](int u) { return p[u] * f[u] + coefficient; });
  // Unsigned: outside the range the sum overflows.
  return each<U>([&](int u) { return from_bits((vi)((vu)bits(p[u]) + ((vu)bits(shifted[u]) << 23))); });
}

inline vf vsqrt(vf v) {
  vf r;
  for (int l = 0; l < W; ++l) r[l] = __builtin_sqrtf(v[l]);
  return r;
}

// Whether no lane of the mask is set. Vector extensions have no such test, hence the intrinsics.
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

// Bit l is set if lane l of the mask is.
inline uint32_t lane_bits(vi mask) {
#if defined(__AVX512F__)
  __m512i m;
  std::memcpy(&m, &mask, sizeof m);
  return _mm512_test_epi32_mask(m, m);
#elif defined(__AVX2__)
  __m256 m;
  std::memcpy(&m, &mask, sizeof m);
  return _mm256_movemask_ps(m);
#else
  uint32_t r = 0;
  for (int l = 0; l < W; ++l) r |= (mask[l] & 1u) << l;
  return r;
#endif
}

// The mask whose lane l is set if bit l is: the inverse of `lane_bits`.
inline vi mask_of(uint32_t lanes) {
  vu bit;
  for (int l = 0; l < W; ++l) bit[l] = 1u << l;
  return (lanes & bit) != 0u;
}

inline float sum(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float parts[W];
  store(parts, v);
  for (int half = W / 2; half >= 1; half /= 2)
    for (int l = 0; l < half; ++l) parts[l] += parts[l + half];
  return parts[0];
#endif
}

}  // namespace
}  // namespace IMG3D_ISA
