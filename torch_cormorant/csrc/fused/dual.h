// A vector of numbers with what they change by, and functions of both.
#pragma once
#include "../vector.h"

namespace {

// exp(x): infinity where it is too large, zero where it is no normal number.
template <class S> INLINE Vec<S> exponential(const Vec<S> &x) {
  constexpr bool D = sizeof(S) == 8;
  constexpr int MANTISSA = D ? 52 : 23, TERMS = D ? 13 : 7;
  const S magic = D ? S(6755399441055744.0) : S(12582912.0f);  // rounds to whole numbers
  const S high = D ? S(0.693145751953125) : S(0.693359375f);   // of log 2
  const S low = D ? S(1.42860682030941723212e-6) : S(-2.12194440e-4f);
  const S least = D ? S(-708.39) : S(-87.33f), most = D ? S(709.78) : S(88.72f);
  typedef typename Type<S>::I I;
  const Vec<S> shifted = x * S(1.44269504088896340736) + magic;
  const Vec<S> n = shifted - magic;
  const Vec<S> r = (x - n * high) - n * low;
  static const S inverse[] = {S(1), S(1), S(1) / 2, S(1) / 6, S(1) / 24, S(1) / 120,
                              S(1) / 720, S(1) / 5040, S(1) / 40320, S(1) / 362880,
                              S(1) / 3628800, S(1) / 39916800, S(1) / 479001600,
                              S(1) / 6227020800.0};
  Vec<S> sum = inverse[TERMS] + Vec<S>{};
  UNROLL for (int k = TERMS - 1; k >= 0; k--) sum = sum * r + inverse[k];
  // 2^n as 2 * 2^(n - 1): n itself can be one too many for an exponent
  const I bits = (I)shifted - (I)(magic - Vec<S>{});
  const I half = (bits + ((D ? 1023 : 127) - 1)) << MANTISSA;
  sum = sum * (Vec<S>)half * S(2);
  sum = x < least ? Vec<S>{} : sum;
  return x > most ? Vec<S>{} + S(__builtin_inf()) : sum;
}

template <class S> INLINE Vec<S> sigmoid(const Vec<S> &x) {
  return S(1) / (S(1) + exponential<S>(-x));
}

template <class S> struct Dual {
  Vec<S> v, t;
};
template <class S> INLINE Dual<S> operator+(const Dual<S> &a, const Dual<S> &b) {
  return {a.v + b.v, a.t + b.t};
}
template <class S> INLINE Dual<S> operator-(const Dual<S> &a, const Dual<S> &b) {
  return {a.v - b.v, a.t - b.t};
}
template <class S> INLINE Dual<S> operator*(const Dual<S> &a, const Dual<S> &b) {
  return {a.v * b.v, a.v * b.t + a.t * b.v};
}
template <class S> INLINE Dual<S> sigmoid(const Dual<S> &x) {
  const Vec<S> s = sigmoid<S>(x.v);
  return {s, s * (S(1) - s) * x.t};
}
// exp(-x)
template <class S> INLINE Dual<S> decay(const Dual<S> &x) {
  const Vec<S> s = exponential<S>(-x.v);
  return {s, -s * x.t};
}
template <class S> INLINE Dual<S> inverse(const Dual<S> &x) {
  const Vec<S> s = S(1) / x.v;
  return {s, -s * s * x.t};
}

// A function of numbers that do not change is one of vectors.
template <class S> struct Plain {
  Vec<S> v;
};
template <class S> INLINE Plain<S> operator+(const Plain<S> &a, const Plain<S> &b) {
  return {a.v + b.v};
}
template <class S> INLINE Plain<S> operator-(const Plain<S> &a, const Plain<S> &b) {
  return {a.v - b.v};
}
template <class S> INLINE Plain<S> operator*(const Plain<S> &a, const Plain<S> &b) {
  return {a.v * b.v};
}
template <class S> INLINE Plain<S> sigmoid(const Plain<S> &x) {
  return {sigmoid<S>(x.v)};
}
template <class S> INLINE Plain<S> decay(const Plain<S> &x) {
  return {exponential<S>(-x.v)};
}
template <class S> INLINE Plain<S> inverse(const Plain<S> &x) { return {S(1) / x.v}; }

// Both from a value and a pointer to a change, which may be null.
template <class S> INLINE void set(Plain<S> &x, const Vec<S> &v, const Vec<S> &) {
  x.v = v;
}
template <class S> INLINE void set(Dual<S> &x, const Vec<S> &v, const Vec<S> &t) {
  x.v = v, x.t = t;
}
// What a derivative gives: the number, or what it changes by.
template <class S> INLINE Vec<S> last(const Plain<S> &x) { return x.v; }
template <class S> INLINE Vec<S> last(const Dual<S> &x) { return x.t; }

}  // namespace
