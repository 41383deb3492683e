// Vectors of one instruction set; VECTOR_BYTES is given on the command line.
//
// GCC's and Clang's vector types: the same code for AVX-512, AVX2, SSE2 and NEON.
#pragma once
#include <cstdint>
#include <cstring>

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

// Keep a vector in a register: compilers read memory again wherever they may.
#if defined(__x86_64__) || defined(_M_X64)
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define IN_REGISTER(v) __asm__("" : "+w"(v))
#else
#define IN_REGISTER(v)
#endif

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(I, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SHUFFLE
#define SHUFFLE(I, a, b, ...) __builtin_shuffle(a, b, (I){__VA_ARGS__})
#endif

namespace {

template <class S> struct Type;
template <> struct Type<float> {
  typedef float V __attribute__((vector_size(VECTOR_BYTES)));
  typedef float U
      __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
  typedef int32_t I __attribute__((vector_size(VECTOR_BYTES)));
};
template <> struct Type<double> {
  typedef double V __attribute__((vector_size(VECTOR_BYTES)));
  typedef double U
      __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
  typedef int64_t I __attribute__((vector_size(VECTOR_BYTES)));
};
template <class S> using Vec = typename Type<S>::V;
template <class S> constexpr int lanes() { return VECTOR_BYTES / (int)sizeof(S); }

// A vector at p; lanes at and beyond `end` are not read and come out as zero.
template <class S> INLINE Vec<S> load(const S *p, const S *end) {
  if (__builtin_expect(end - p < lanes<S>(), 0)) {
    Vec<S> v = {};
    if (p < end) memcpy(&v, p, (size_t)(end - p) * sizeof(S));
    return v;
  }
  return *(const typename Type<S>::U *)p;
}
template <class S> INLINE void store(S *p, const Vec<S> &v, int64_t count) {
  if (__builtin_expect(count < lanes<S>(), 0)) {
    const Vec<S> copy = v;  // or v itself would have to lie in memory
    memcpy(p, &copy, (size_t)count * sizeof(S));
  } else {
    *(typename Type<S>::U *)p = v;
  }
}

// Bring what is needed soon into the second cache.
INLINE void fetch(const void *p) { __builtin_prefetch(p, 0, 2); }

#define DEFINE_SHUFFLES(S, SWAP, EVEN, ODD, LOW, HIGH, MIX)                   \
  INLINE Vec<S> evens_of(Vec<S> a, Vec<S> b) { return SHUFFLE(Type<S>::I, a, b, EVEN); } \
  INLINE Vec<S> odds_of(Vec<S> a, Vec<S> b) { return SHUFFLE(Type<S>::I, a, b, ODD); }   \
  INLINE Vec<S> low_of(Vec<S> a, Vec<S> b) { return SHUFFLE(Type<S>::I, a, b, LOW); }    \
  INLINE Vec<S> high_of(Vec<S> a, Vec<S> b) { return SHUFFLE(Type<S>::I, a, b, HIGH); }  \
  INLINE Vec<S> swap(Vec<S> a) { return SHUFFLE(Type<S>::I, a, a, SWAP); }    \
  INLINE Vec<S> hadd(Vec<S> a, Vec<S> b) { return evens_of(a, b) + odds_of(a, b); }      \
  INLINE Vec<S> evens(Vec<S> a) { return SHUFFLE(Type<S>::I, a, a, SAME_##MIX(0)); } \
  INLINE Vec<S> odds(Vec<S> a) { return SHUFFLE(Type<S>::I, a, a, SAME_##MIX(1)); }  \
  INLINE Vec<S> mix(Vec<S> a, Vec<S> b) { return SHUFFLE(Type<S>::I, a, b, MIX_##MIX); }

#define LIST(...) __VA_ARGS__
#define SAME_2(k) k, k
#define SAME_4(k) k, k, 2 + k, 2 + k
#define SAME_8(k) SAME_4(k), 4 + k, 4 + k, 6 + k, 6 + k
#define SAME_16(k) \
  SAME_8(k), 8 + k, 8 + k, 10 + k, 10 + k, 12 + k, 12 + k, 14 + k, 14 + k
#define MIX_2 0, 3
#define MIX_4 0, 5, 2, 7
#define MIX_8 0, 9, 2, 11, 4, 13, 6, 15
#define MIX_16 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31
#define SHUFFLES_2(S)                                                         \
  DEFINE_SHUFFLES(S, LIST(1, 0), LIST(0, 2), LIST(1, 3), LIST(0, 2), LIST(1, 3), 2)
#define SHUFFLES_4(S)                                                         \
  DEFINE_SHUFFLES(S, LIST(1, 0, 3, 2), LIST(0, 2, 4, 6), LIST(1, 3, 5, 7),    \
                  LIST(0, 4, 1, 5), LIST(2, 6, 3, 7), 4)
#define SHUFFLES_8(S)                                                         \
  DEFINE_SHUFFLES(S, LIST(1, 0, 3, 2, 5, 4, 7, 6), LIST(0, 2, 4, 6, 8, 10, 12, 14), \
                  LIST(1, 3, 5, 7, 9, 11, 13, 15), LIST(0, 8, 1, 9, 2, 10, 3, 11),  \
                  LIST(4, 12, 5, 13, 6, 14, 7, 15), 8)
#define SHUFFLES_16(S)                                                        \
  DEFINE_SHUFFLES(S, LIST(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14),    \
                  LIST(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),  \
                  LIST(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31),  \
                  LIST(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),     \
                  LIST(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,    \
                       31),                                                   \
                  16)
#if VECTOR_BYTES == 64
SHUFFLES_16(float)
SHUFFLES_8(double)
#elif VECTOR_BYTES == 32
SHUFFLES_8(float)
SHUFFLES_4(double)
#else
SHUFFLES_4(float)
SHUFFLES_2(double)
#endif

// (-1, 1, -1, 1, ...)
template <class S> INLINE Vec<S> signs() {
  Vec<S> v;
  for (int k = 0; k < lanes<S>(); k++) v[k] = k % 2 ? S(1) : S(-1);
  return v;
}

// Sums over the lanes of n vectors, all at once; lanes from `valid` on do not count.
template <class S, int N>
INLINE void reduce(const Vec<S> *v, int64_t valid, S *out, bool add) {
  constexpr int W = lanes<S>();
  UNROLL for (int s = 0; s < N; s += W) {
    Vec<S> w[W];
    UNROLL for (int k = 0; k < W; k++) {
      w[k] = Vec<S>{};
      if (s + k < N) w[k] = v[s + k];
    }
    if (__builtin_expect(valid < W, 0))
      for (int k = 0; k < W; k++)
        for (int64_t i = valid; i < W; i++) w[k][i] = S(0);
    UNROLL for (int n = W / 2; n >= 1; n /= 2)
      UNROLL for (int k = 0; k < W / 2; k++)
        if (k < n) w[k] = hadd(w[2 * k], w[2 * k + 1]);
    UNROLL for (int k = 0; k < W; k++)
      if (s + k < N) out[s + k] = add ? out[s + k] + w[0][k] : w[0][k];
  }
}

}  // namespace
