// Rows of complex numbers, (re, im) side by side outside, as planes inside; real ones as
// they are. Planes have whole vectors: what pads them is zero.
#pragma once
#include "gemm.h"

namespace {

// Numbers of a row of `count` channels, read into planes.
template <class S, bool CX>
INLINE void split(const S *x, int64_t count, S *re, S *im) {
  constexpr int W = lanes<S>();
  typedef typename Type<S>::U U;
  int64_t c = 0;
  for (; c + W <= count; c += W) {
    if (CX) {
      const Vec<S> a = *(const U *)(x + 2 * c), b = *(const U *)(x + 2 * c + W);
      *(U *)(re + c) = evens_of(a, b);
      *(U *)(im + c) = odds_of(a, b);
    } else {
      *(U *)(re + c) = *(const U *)(x + c);
    }
  }
  if (c == count) return;
  Vec<S> r = {}, i = {};
  for (int64_t k = 0; k < count - c; k++) {
    r[k] = x[CX ? 2 * (c + k) : c + k];
    if (CX) i[k] = x[2 * (c + k) + 1];
  }
  *(U *)(re + c) = r;
  if (CX) *(U *)(im + c) = i;
}

// The inverse: planes written to a row, or added to it.
template <class S, bool CX>
INLINE void join(S *x, int64_t count, const S *re, const S *im, bool add) {
  constexpr int W = lanes<S>();
  typedef typename Type<S>::U U;
  int64_t c = 0;
  for (; c + W <= count; c += W) {
    Vec<S> a = *(const U *)(re + c), b = a;
    if (CX) {
      const Vec<S> i = *(const U *)(im + c);
      b = high_of(a, i);
      a = low_of(a, i);
    }
    U *to = (U *)(x + (CX ? 2 * c : c));
    if (add) a += to[0];
    to[0] = a;
    if (!CX) continue;
    if (add) b += to[1];
    to[1] = b;
  }
  for (; c < count; c++) {
    S *to = x + (CX ? 2 * c : c);
    to[0] = add ? to[0] + re[c] : re[c];
    if (CX) to[1] = add ? to[1] + im[c] : im[c];
  }
}

// A weight [P, out, in] in padded rows, and turned [in, out] in padded rows.
template <class S, bool CX>
void pack(const S *weight, int64_t out, int64_t in, const Rows<S> &w,
          const Rows<S> &turned) {
  for (int plane = 0; plane < (CX ? 2 : 1); plane++, weight += out * in) {
    S *to = plane ? w.im : w.re, *across = plane ? turned.im : turned.re;
    for (int64_t o = 0; o < out; o++) {
      const S *row = weight + o * in;
      if (to) {
        memcpy(to + o * w.row, row, (size_t)in * sizeof(S));
        for (int64_t k = in; k < w.row; k++) to[o * w.row + k] = S(0);
      }
      if (across)
        for (int64_t k = 0; k < in; k++) across[k * turned.row + o] = row[k];
    }
    if (across)
      for (int64_t k = 0; k < in; k++)
        for (int64_t o = out; o < turned.row; o++) across[k * turned.row + o] = S(0);
  }
}

// Padded rows added to a gradient [P, out, in].
template <class S, bool CX>
void unpack(const Rows<S> &w, int64_t out, int64_t in, S *gradient) {
  for (int plane = 0; plane < (CX ? 2 : 1); plane++, gradient += out * in) {
    const S *row = plane ? w.im : w.re;
    for (int64_t o = 0; o < out; o++)
      for (int64_t k = 0; k < in; k++) gradient[o * in + k] += row[o * w.row + k];
  }
}

}  // namespace
