// Products of small dense matrices that lie in the first cache, real or complex.
//
// A complex matrix is two real ones, its planes. The second factor and the result have
// contiguous rows that begin with whole vectors: `cols` counts up to a multiple of the
// lanes, so there are no tails, and what pads a row must be readable and may be written.
// The first factor has any strides; that makes three products of one function, for
// y = W x with rows of x and y as samples:
//   y    += x W^T      product<S, CX, +1>(samples, in, out, x, transposed W, y)
//   dx   += dy conj(W) product<S, CX, -1>(samples, out, in, dy, W, dx)
//   dW   += dy^T conj(x) product<S, CX, -1>(out, samples, in, turned(dy), x, dW)
#pragma once
#include "../vector.h"

namespace {

template <class S> struct Factor {  // element (r, k) at r * row + k * step
  const S *re, *im;
  int64_t row, step;
};
template <class S> struct Rows {  // element (k, c) at k * row + c
  S *re, *im;
  int64_t row;
};

template <class S> INLINE Factor<S> factor(const Rows<S> &x) {
  return {x.re, x.im, x.row, 1};
}
template <class S> INLINE Factor<S> turned(const Rows<S> &x) {
  return {x.re, x.im, 1, x.row};
}
// The same rows from another row and column on.
template <class S> INLINE Rows<S> from(const Rows<S> &x, int64_t row, int64_t col) {
  const int64_t at = row * x.row + col;
  return {x.re + at, x.im ? x.im + at : nullptr, x.row};
}

template <class S> INLINE int64_t padded(int64_t count) {
  return (count + lanes<S>() - 1) / lanes<S>() * lanes<S>();
}

// Registers of results: complex R x V pairs, real R x V.
#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int PRODUCT_ROWS = 8;
#else
constexpr int PRODUCT_ROWS = 4;
#endif

// R rows and V vectors of columns: c (+)= a b, or a conj(b) with SIGN = -1.
template <class S, bool CX, int SIGN, int R, int V>
INLINE void block(int64_t steps, const Factor<S> &a, const Rows<S> &b, const Rows<S> &c,
                  bool add) {
  constexpr int W = lanes<S>();
  typedef typename Type<S>::U U;
  Vec<S> re[R][V], im[R][V];
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < V; v++) {
    re[r][v] = im[r][v] = Vec<S>{};
    if (add) {
      re[r][v] = *(const U *)(c.re + r * c.row + v * W);
      if (CX) im[r][v] = *(const U *)(c.im + r * c.row + v * W);
    }
  }
  const S *ar = a.re, *ai = a.im, *br = b.re, *bi = b.im;
  for (int64_t k = 0; k < steps; k++) {
    Vec<S> wr[V], wi[V];
    UNROLL for (int v = 0; v < V; v++) {
      wr[v] = *(const U *)(br + v * W);
      wi[v] = CX ? *(const U *)(bi + v * W) : wr[v];
    }
    UNROLL for (int r = 0; r < R; r++) {
      const S x = ar[r * a.row], y = CX ? ai[r * a.row] : x;
      UNROLL for (int v = 0; v < V; v++) {
        re[r][v] += x * wr[v];
        if (CX && SIGN > 0) {
          im[r][v] += x * wi[v];
          re[r][v] -= y * wi[v];
          im[r][v] += y * wr[v];
        } else if (CX) {
          im[r][v] -= x * wi[v];
          re[r][v] += y * wi[v];
          im[r][v] += y * wr[v];
        }
      }
    }
    ar += a.step, br += b.row;
    if (CX) ai += a.step, bi += b.row;
  }
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < V; v++) {
    *(U *)(c.re + r * c.row + v * W) = re[r][v];
    if (CX) *(U *)(c.im + r * c.row + v * W) = im[r][v];
  }
}

template <class S, bool CX, int SIGN, int R, int V>
__attribute__((noinline)) void columns(int64_t steps, int64_t cols, const Factor<S> &a,
                                       const Rows<S> &b, const Rows<S> &c, bool add) {
  int64_t at = 0;
  for (; at + V * lanes<S>() <= cols; at += V * lanes<S>())
    block<S, CX, SIGN, R, V>(steps, a, from(b, 0, at), from(c, 0, at), add);
  if (V > 1)
    for (; at < cols; at += lanes<S>())
      block<S, CX, SIGN, R, 1>(steps, a, from(b, 0, at), from(c, 0, at), add);
}

// c (+)= a b for rows 0 .. rows - 1, or a conj(b) with SIGN = -1.
template <class S, bool CX, int SIGN = 1>
__attribute__((noinline)) void product(int64_t rows, int64_t steps, int64_t cols, Factor<S> a, const Rows<S> &b,
             Rows<S> c, bool add) {
  constexpr int R = PRODUCT_ROWS, V = CX ? 1 : 2;
  cols = padded<S>(cols);
  const auto next = [&](int64_t count) {
    rows -= count;
    a.re += count * a.row, c.re += count * c.row;
    if (CX) a.im += count * a.row, c.im += count * c.row;
  };
  for (; rows >= R; next(R)) columns<S, CX, SIGN, R, V>(steps, cols, a, b, c, add);
  for (; rows >= R / 2; next(R / 2))
    columns<S, CX, SIGN, R / 2, V>(steps, cols, a, b, c, add);
  for (; rows > 0; next(1)) columns<S, CX, SIGN, 1, V>(steps, cols, a, b, c, add);
}

}  // namespace
