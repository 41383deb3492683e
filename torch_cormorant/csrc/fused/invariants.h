// Invariants of the levels of a network of one instruction set: the scalars, then for
// every degree, level and channel Re sum F F and sum |F|^2, side by side (sum F^2 of
// real levels). Linear and quadratic, so tangents take the place of one factor.
#pragma once
#include "../vector.h"
#include "nodes.h"

namespace {

// Numbers that stand side by side in pairs, to two vectors and back.
template <class S, bool CX>
INLINE void read_pairs(const S *p, int64_t left, Vec<S> &one, Vec<S> &two) {
  if (CX) {
    const S *end = p + 2 * left;
    const Vec<S> a = load(p, end), b = load(p + lanes<S>(), end);
    one = evens_of(a, b);
    two = odds_of(a, b);
  } else {
    one = two = load(p, p + left);
  }
}

template <class S, bool CX>
INLINE void write_pairs(S *p, int64_t left, const Vec<S> &one, const Vec<S> &two) {
  if (!CX) return store(p, one, left);
  store(p, low_of(one, two), 2 * left);
  const int64_t more = 2 * left - lanes<S>();
  if (more > 0) store(p + lanes<S>(), high_of(one, two), more);
}

// One degree of one level of a node. `first` and `at`: where its numbers begin in a row.
template <class S, bool CX>
void invariants_of(const Invariants *p, int64_t node, int s, int l, int64_t first,
                   int64_t at) {
  const int64_t c = p->sizes[2 * s], planes = CX ? 2 : 1, wide = planes * c;
  const int64_t side = p->sizes[2 * s + 1] + 1;
  const int64_t start = (node * side * side + (int64_t)l * l) * wide;
  const S *x = (const S *)p->x[s] + start, *v = p->tangents ? (const S *)p->tangents[s] : nullptr;
  const S *factor = p->second ? (v ? v + start : nullptr) : x;  // beside x, or 2 beside it
  const S *grad = p->grad ? (const S *)p->grad + node * p->columns : nullptr;
  S *out = p->out ? (S *)p->out + node * p->columns : nullptr;
  S *dx = p->dx && p->dx[s] ? (S *)p->dx[s] + start : nullptr;
  const S two = 2, scale = p->second ? two : S(1);
  for (int64_t k = 0; k < c; k += lanes<S>()) {
    const int64_t left = c - k;
    if (out) {
      Vec<S> re = {}, im = {};
      for (int m = 0; factor && m < 2 * l + 1; m++) {
        const S *a = x + m * wide, *b = factor + m * wide;
        re += load(a + k, a + c) * load(b + k, b + c);
        if (CX) im += load(a + c + k, a + wide) * load(b + c + k, b + wide);
      }
      write_pairs<S, CX>(out + at + planes * k, left, scale * (CX ? re - im : re),
                         scale * (re + im));
      const Vec<S> zero = {};
      if (l == 0 && factor)
        write_pairs<S, CX>(out + first + planes * k, left, load(factor + k, factor + c),
                           CX ? load(factor + c + k, factor + wide) : zero);
      else if (l == 0)
        write_pairs<S, CX>(out + first + planes * k, left, zero, zero);
    }
    if (!dx) continue;
    Vec<S> bilinear, norm, re = {}, im = {};
    read_pairs<S, CX>(grad + at + planes * k, left, bilinear, norm);
    if (l == 0 && !p->second) read_pairs<S, CX>(grad + first + planes * k, left, re, im);
    const Vec<S> of_re = CX ? two * (norm + bilinear) : two * norm;
    const Vec<S> of_im = two * (norm - bilinear);
    for (int m = 0; m < 2 * l + 1; m++) {
      const S *a = factor + m * wide;
      S *to = dx + m * wide + k;
      store(to, re + of_re * load(a + k, a + c), left);
      if (CX) store(to + c, im + of_im * load(a + c + k, a + wide), left);
    }
  }
}

template <class S, bool CX>
void invariants_run(const Invariants *p, int64_t from, int64_t last) {
  const int planes = CX ? 2 : 1;
  int top = 0;
  int64_t scalars = 0;
  for (int s = 0; s < p->levels; s++) {
    scalars += planes * p->sizes[2 * s];
    if (p->sizes[2 * s + 1] > top) top = p->sizes[2 * s + 1];
  }
  for (int64_t node = from; node < last; node++) {
    int64_t at = scalars;
    for (int l = 0; l <= top; l++) {
      int64_t first = 0;
      for (int s = 0; s < p->levels; s++) {
        const int64_t width = planes * p->sizes[2 * s];
        if (l <= p->sizes[2 * s + 1]) {
          invariants_of<S, CX>(p, node, s, l, first, at);
          at += width;
        }
        first += width;
      }
    }
  }
}

}  // namespace
