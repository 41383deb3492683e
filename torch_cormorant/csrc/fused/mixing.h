// Products of complex (or real) rows with weight matrices, in tiles.
//
// Features are interleaved, (re, im) of channel after channel; weights, results and
// what arrives for them are planar. Lanes are channels; rows are given by pointers.
#pragma once
#include "../vector.h"

namespace {

#define LOW_2 0, 2
#define HIGH_2 1, 3
#define LOW_4 0, 4, 1, 5
#define HIGH_4 2, 6, 3, 7
#define LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN_2 0, 2
#define ODD_2 1, 3
#define EVEN_4 0, 2, 4, 6
#define ODD_4 1, 3, 5, 7
#define EVEN_8 0, 2, 4, 6, 8, 10, 12, 14
#define ODD_8 1, 3, 5, 7, 9, 11, 13, 15
#define EVEN_16 EVEN_8, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD_16 ODD_8, 17, 19, 21, 23, 25, 27, 29, 31

// Between interleaved pairs of vectors and planar ones.
#define DEFINE_PLANES(S, W)                                                          \
  INLINE Vec<S> low(Vec<S> re, Vec<S> im) { return SHUFFLE(Type<S>::I, re, im, LOW_##W); } \
  INLINE Vec<S> high(Vec<S> re, Vec<S> im) { return SHUFFLE(Type<S>::I, re, im, HIGH_##W); } \
  INLINE Vec<S> reals(Vec<S> a, Vec<S> b) { return SHUFFLE(Type<S>::I, a, b, EVEN_##W); } \
  INLINE Vec<S> imags(Vec<S> a, Vec<S> b) { return SHUFFLE(Type<S>::I, a, b, ODD_##W); }
#if VECTOR_BYTES == 64
DEFINE_PLANES(float, 16)
DEFINE_PLANES(double, 8)
#elif VECTOR_BYTES == 32
DEFINE_PLANES(float, 8)
DEFINE_PLANES(double, 4)
#else
DEFINE_PLANES(float, 4)
DEFINE_PLANES(double, 2)
#endif

#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int GROUP = 8;  // rows, or columns, whose sums fill the registers
#else
constexpr int GROUP = 4;
#endif

template <class S> INLINE int64_t padded(int64_t count) {
  return (count + lanes<S>() - 1) / lanes<S>() * lanes<S>();
}

template <class S> INLINE const Vec<S> &at_vector(const S *p) {
  return *(const Vec<S> *)p;
}

template <class S> INLINE void store_some(S *p, const Vec<S> &v, int64_t count) {
  if (count > 0) store(p, v, count);
}

// Rows of features and the matrix [columns, planes, padded outs] that they meet.
template <class S> struct Part {
  const S *const *rows;
  const S *matrix;
  int64_t columns;
};

// out[r] = sum over the parts of matrix^T row[r], for N rows and one vector of outs.
template <class S, bool CX, int N>
INLINE void mix_rows(const Part<S> *part, int parts, int64_t first, S *const *out,
                     int64_t outs, int64_t at) {
  const int64_t wide = padded<S>(outs), step = CX ? 2 * wide : wide;
  Vec<S> re[N], im[N];
  UNROLL for (int r = 0; r < N; r++) re[r] = im[r] = Vec<S>{};
  for (; parts > 0; parts--, part++) {
    const S *z[N], *w = part->matrix + at;
    UNROLL for (int r = 0; r < N; r++) z[r] = part->rows[first + r];
    for (int64_t k = 0; k < part->columns; k++, w += step) {
      const Vec<S> wr = at_vector(w), wi = CX ? at_vector(w + wide) : wr;
      UNROLL for (int r = 0; r < N; r++) {
        if (CX) {
          const S zr = z[r][2 * k], zi = z[r][2 * k + 1];
          re[r] += zr * wr;
          im[r] += zr * wi;
          re[r] -= zi * wi;
          im[r] += zi * wr;
        } else {
          re[r] += z[r][k] * wr;
        }
      }
    }
  }
  UNROLL for (int r = 0; r < N; r++) {
    store(out[first + r] + at, re[r], outs - at);
    if (CX) store(out[first + r] + outs + at, im[r], outs - at);
  }
}

// to[r] = matrix^H grad[r], for N rows and one vector of columns; matrix
// [planes, outs, wide].
template <class S, bool CX, int N>
INLINE void unmix_rows(const S *const *grad, int64_t first, const S *matrix,
                       int64_t wide, int64_t outs, S *const *to, int64_t columns,
                       int64_t at) {
  const S *g[N], *w = matrix + at;
  UNROLL for (int r = 0; r < N; r++) g[r] = grad[first + r];
  Vec<S> re[N], im[N];
  UNROLL for (int r = 0; r < N; r++) re[r] = im[r] = Vec<S>{};
  for (int64_t o = 0; o < outs; o++, w += wide) {
    const Vec<S> wr = at_vector(w), wi = CX ? at_vector(w + outs * wide) : wr;
    UNROLL for (int r = 0; r < N; r++) {
      const S gr = g[r][o];
      re[r] += gr * wr;
      if (CX) {
        const S gi = g[r][outs + o];
        im[r] += gi * wr;
        re[r] += gi * wi;
        im[r] -= gr * wi;
      }
    }
  }
  UNROLL for (int r = 0; r < N; r++) {
    if (CX) {
      S *p = to[first + r] + 2 * at;
      store(p, low(re[r], im[r]), 2 * (columns - at));
      store_some(p + lanes<S>(), high(re[r], im[r]), 2 * (columns - at) - lanes<S>());
    } else {
      store(to[first + r] + at, re[r], columns - at);
    }
  }
}

// sum[o] += sum over the rows of grad[o] conj(row), for N outs and one vector of
// columns; sum [planes, outs, wide].
template <class S, bool CX, int N>
INLINE void outer_rows(const S *const *grad, const S *const *rows, int64_t count,
                       int64_t first, int64_t outs, S *sum, int64_t wide,
                       int64_t columns, int64_t at) {
  Vec<S> re[N], im[N];
  UNROLL for (int o = 0; o < N; o++) re[o] = im[o] = Vec<S>{};
  for (int64_t r = 0; r < count; r++) {
    const S *g = grad[r] + first, *z = rows[r];
    Vec<S> zr, zi;
    if (CX) {
      const S *end = z + 2 * columns;
      const Vec<S> a = load(z + 2 * at, end), b = load(z + 2 * at + lanes<S>(), end);
      zr = reals(a, b);
      zi = imags(a, b);
    } else {
      zr = zi = load(z + at, z + columns);
    }
    UNROLL for (int o = 0; o < N; o++) {
      re[o] += g[o] * zr;
      if (CX) {
        im[o] += g[outs + o] * zr;
        re[o] += g[outs + o] * zi;
        im[o] -= g[o] * zi;
      }
    }
  }
  UNROLL for (int o = 0; o < N; o++) {
    S *to = sum + (first + o) * wide + at;
    *(Vec<S> *)to += re[o];
    if (CX) *(Vec<S> *)(to + outs * wide) += im[o];
  }
}

// Call F for all of `count` in groups as large as possible.
#define IN_GROUPS(count, F, ...)                                    \
  do {                                                              \
    int64_t first = 0;                                              \
    for (; first + GROUP <= (count); first += GROUP) F(GROUP, __VA_ARGS__); \
    if (GROUP > 4 && first + 4 <= (count)) {                        \
      F(4, __VA_ARGS__);                                            \
      first += 4;                                                   \
    }                                                               \
    if (first + 2 <= (count)) {                                     \
      F(2, __VA_ARGS__);                                            \
      first += 2;                                                   \
    }                                                               \
    if (first < (count)) F(1, __VA_ARGS__);                         \
  } while (0)

template <class S, bool CX>
void mix(const Part<S> *part, int parts, int64_t count, S *const *out, int64_t outs) {
  for (int64_t at = 0; at < outs; at += lanes<S>()) {
#define MIX(N, ...) mix_rows<S, CX, N>(part, parts, first, out, outs, at)
    IN_GROUPS(count, MIX, );
#undef MIX
  }
}

template <class S, bool CX>
void unmix(const S *const *grad, int64_t count, const S *matrix, int64_t outs,
           S *const *to, int64_t columns) {
  const int64_t wide = padded<S>(columns);
  for (int64_t at = 0; at < columns; at += lanes<S>()) {
#define UNMIX(N, ...) \
  unmix_rows<S, CX, N>(grad, first, matrix, wide, outs, to, columns, at)
    IN_GROUPS(count, UNMIX, );
#undef UNMIX
  }
}

template <class S, bool CX>
void outer(const S *const *grad, const S *const *rows, int64_t count, int64_t outs,
           S *sum, int64_t columns) {
  const int64_t wide = padded<S>(columns);
  for (int64_t at = 0; at < columns; at += lanes<S>()) {
#define OUTER(N, ...) \
  outer_rows<S, CX, N>(grad, rows, count, first, outs, sum, wide, columns, at)
    IN_GROUPS(outs, OUTER, );
#undef OUTER
  }
}

}  // namespace
