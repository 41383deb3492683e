// Products of complex (or real) rows with weight matrices, in tiles.
//
// Features are interleaved, (re, im) of channel after channel; weights, results and
// what arrives for them are planar. Lanes are channels; rows are given by pointers.
#pragma once
#include "gemm.h"

namespace {

#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int GROUP = 8;  // rows, or columns, whose sums fill the registers
#else
constexpr int GROUP = 4;
#endif

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
      store(p, low_of(re[r], im[r]), 2 * (columns - at));
      store_some(p + lanes<S>(), high_of(re[r], im[r]), 2 * (columns - at) - lanes<S>());
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
      zr = evens_of(a, b);
      zi = odds_of(a, b);
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
