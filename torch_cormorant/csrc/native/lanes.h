// Numbers of one register, real or complex, and what is done with all of their lanes.
#pragma once
#include "../vector.h"
#include "plan.h"

#define NOUNROLL _Pragma("GCC unroll 1")

namespace {

#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

template <class S> struct Aligned {
  typedef S V __attribute__((vector_size(VECTOR_BYTES), may_alias));
};
template <class S> INLINE Vec<S> at(const S *p) {
  return *(const typename Aligned<S>::V *)p;
}
template <class S> INLINE void put(S *p, const Vec<S> &v) {
  *(typename Aligned<S>::V *)p = v;
}

// What a stage is compiled for.
template <class Number, bool COMPLEX, int LMAX, bool EVEN_PATHS = false> struct Kind {
  typedef Number S;
  static constexpr bool CX = COMPLEX, EVEN = EVEN_PATHS;
  static constexpr int L = LMAX, M = (LMAX + 1) * (LMAX + 1), W = lanes<Number>();
  static constexpr int P = COMPLEX ? 2 : 1, U = P * W;
  // rows of pairs that share one pass over the weights
  static constexpr int PAIRS = (REGISTERS == 32 ? 8 : 6) * (COMPLEX ? 1 : 2);
  static constexpr int Y = harmonic_room(LMAX);
};
// For what does not depend on the degrees at compile time: compiled once for all of them.
template <class K> using AnyDegree = Kind<typename K::S, K::CX, 0>;
// Sums over edges know at compile time that only even paths are there, for one degree.
constexpr int EVEN_LMAX = 2;
template <class K> using EvenPaths = Kind<typename K::S, K::CX, K::L, true>;

// A unit: W complex or real numbers.
template <class S, bool CX> struct Num {
  Vec<S> re, im;
};
template <class S> struct Num<S, false> {
  Vec<S> re;
};
template <class K> using N = Num<typename K::S, K::CX>;

template <class K> INLINE N<K> zero() {
  N<K> x;
  x.re = Vec<typename K::S>{};
  if constexpr (K::CX) x.im = Vec<typename K::S>{};
  return x;
}
template <class K> INLINE N<K> get(const typename K::S *p) {
  N<K> x;
  x.re = at(p);
  if constexpr (K::CX) x.im = at(p + K::W);
  return x;
}
template <class K> INLINE void set(typename K::S *p, const N<K> &x) {
  put(p, x.re);
  if constexpr (K::CX) put(p + K::W, x.im);
}
template <class K> INLINE void add(N<K> &to, const N<K> &x) {
  to.re += x.re;
  if constexpr (K::CX) to.im += x.im;
}
template <class K, class F> INLINE N<K> scaled(const N<K> &x, const F &factor) {
  N<K> y;
  y.re = x.re * factor;
  if constexpr (K::CX) y.im = x.im * factor;
  return y;
}
// to += factor x
template <class K, class F>
INLINE void add_scaled(N<K> &to, const F &factor, const N<K> &x) {
  to.re += factor * x.re;
  if constexpr (K::CX) to.im += factor * x.im;
}
template <class K> INLINE N<K> times(const N<K> &x, const N<K> &y) {
  N<K> z;
  z.re = x.re * y.re;
  if constexpr (K::CX) {
    z.im = x.re * y.im;
    z.re -= x.im * y.im;
    z.im += x.im * y.re;
  }
  return z;
}
// to += x y
template <class K> INLINE void add_times(N<K> &to, const N<K> &x, const N<K> &y) {
  to.re += x.re * y.re;
  if constexpr (K::CX) {
    to.im += x.re * y.im;
    to.re -= x.im * y.im;
    to.im += x.im * y.re;
  }
}
// to += conj(x) y: the gradient of a product
template <class K> INLINE void add_conj(N<K> &to, const N<K> &x, const N<K> &y) {
  to.re += x.re * y.re;
  if constexpr (K::CX) {
    to.im += x.re * y.im;
    to.re += x.im * y.im;
    to.im -= x.im * y.re;
  }
}
// to += Re conj(x) y, lane by lane
template <class K>
INLINE void add_inner(Vec<typename K::S> &to, const N<K> &x, const N<K> &y) {
  to += x.re * y.re;
  if constexpr (K::CX) to += x.im * y.im;
}

// Sums over the lanes of n <= W vectors, n a power of two, added to `out`.
template <class S, int n> INLINE void add_sums(Vec<S> *v, S *out) {
  UNROLL for (int k = n / 2; k >= 1; k /= 2)
    UNROLL for (int j = 0; j < n / 2; j++)
      if (j < k) v[j] = hadd(v[2 * j], v[2 * j + 1]);
  for (int k = n; k < lanes<S>(); k *= 2) v[0] = hadd(v[0], v[0]);
  typedef S Part __attribute__((vector_size(n * sizeof(S)), aligned(sizeof(S)), may_alias));
  const Vec<S> all = v[0];
  Part sum;
  memcpy(&sum, &all, sizeof sum);
  *(Part *)out += sum;
}
// The same for any number of vectors; up to the next multiple of 16 (of 8 or 4, if they
// are not more) zeros are added.
template <class S, int n> INLINE void add_all_sums(const Vec<S> *v, S *out) {
  constexpr int W = lanes<S>();
  constexpr int part = n >= W ? W : n > 8 ? 16 : n > 4 ? 8 : n > 2 ? 4 : 2;
  UNROLL for (int k = 0; k < n; k += part) {
    Vec<S> w[part];
    UNROLL for (int j = 0; j < part; j++) {
      w[j] = Vec<S>{};
      if (k + j < n) w[j] = v[k + j];
    }
    add_sums<S, part>(w, out + k);
  }
}
template <class S> INLINE S total(Vec<S> v) {
  for (int k = 1; k < lanes<S>(); k *= 2) v = hadd(v, v);
  return v[0];
}

// exp, lane by lane: 2^n times a polynomial.
INLINE Vec<float> exponential(Vec<float> x) {
  typedef Vec<float> V;
  const V low = V{} - 87.0f, high = V{} + 87.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const V turns = x * 1.44269504088896341f + 12582912.0f;  // low bits: rounded to n
  const V n = turns - 12582912.0f;
  V f = x - n * 0.693359375f;
  f -= n * -2.12194440e-4f;
  V p = f * (1.0f / 5040) + 1.0f / 720;
  p = p * f + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f * f + f + 1.0f;
  Type<float>::I bits;
  memcpy(&bits, &turns, sizeof bits);
  bits = (bits + 127) << 23;
  V scale;
  memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}
INLINE Vec<double> exponential(Vec<double> x) {
  typedef Vec<double> V;
  const V low = V{} - 708.0, high = V{} + 708.0;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const V turns = x * 1.4426950408889634 + 6755399441055744.0;
  const V n = turns - 6755399441055744.0;
  V f = x - n * 6.93147180369123816490e-01;
  f -= n * 1.90821492927058770002e-10;
  constexpr double factorial[] = {6227020800.0, 479001600.0, 39916800.0, 3628800.0,
                                  362880.0,     40320.0,     5040.0,     720.0,
                                  120.0,        24.0,        6.0,        2.0};
  V p = V{} + 1.0 / factorial[0];
  UNROLL for (int k = 1; k < 12; k++) p = p * f + 1.0 / factorial[k];
  p = p * f * f + f + 1.0;
  Type<double>::I bits;
  memcpy(&bits, &turns, sizeof bits);
  bits = (bits + 1023) << 52;
  V scale;
  memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

INLINE void fetch_near(const void *p) { __builtin_prefetch(p, 0, 3); }
INLINE void fetch_to_write(const void *p) { __builtin_prefetch(p, 1, 3); }
// A row that is needed soon: n registers of it.
template <class S> INLINE void fetch_row(const S *p, int64_t n) {
  for (int64_t k = 0; k < n; k++) fetch_near(p + k * lanes<S>());
}
INLINE float root(float x) { return __builtin_sqrtf(x); }
INLINE double root(double x) { return __builtin_sqrt(x); }

}  // namespace
