// Spherical harmonics and lengths of edges, a vector of edges at a time, with gradients
// and the gradients of these.
//
// Derivatives of solid harmonics are solid harmonics of the degree below, by a table:
// d S[q] / d v[k] = sum of coefficient * S[q'] over entries (k, q, q').
#pragma once
#include "gemm.h"
#include "geometry.h"

namespace {

constexpr int FRAME_DEGREES = 9;
constexpr int FRAME_ROWS = FRAME_DEGREES * FRAME_DEGREES;

template <class S> struct Point {
  Vec<S> x[3];
};

template <class S> INLINE Point<S> point_at(const void *from, int64_t e, int64_t count) {
  Point<S> p = {};
  const S *v = (const S *)from;
  if (v)
    for (int64_t q = 0; q < count; q++)
      for (int k = 0; k < 3; k++) p.x[k][q] = v[3 * (e + q) + k];
  return p;
}

template <class S> INLINE Vec<S> dot(const Point<S> &a, const Point<S> &b) {
  return a.x[0] * b.x[0] + a.x[1] * b.x[1] + a.x[2] * b.x[2];
}

template <class S> INLINE Vec<S> root(Vec<S> x) {
  for (int q = 0; q < lanes<S>(); q++)
    x[q] = sizeof(S) == 8 ? (S)__builtin_sqrt(x[q]) : (S)__builtin_sqrtf((float)x[q]);
  return x;
}

// Solid harmonics of all degrees; `pole` are their values over those of cos m phi.
template <class S>
void solid(const Frames *p, const Point<S> &v, Vec<S> *to) {
  const Vec<S> x = v.x[0], y = v.x[1], z = v.x[2], rho = x * x + y * y;
  const S *pole = (const S *)p->pole;
  Vec<S> cosine = Vec<S>{} + S(1), sine = {};
  for (int m = 0; m <= p->lmax; m++) {
    Vec<S> before = {}, now = Vec<S>{} + S(1), change = {};
    for (int l = m; l <= p->lmax; l++) {
      if (l == m + 1) {
        before = now;
        now = z;
      } else if (l > m + 1) {
        change = l == m + 2 ? rho * (S(-0.5) / S(m + 1))
                            : S(l - m - 1) / S(l + m) * (z * change - rho * before);
        before = now;
        now = change + z * now;
      }
      const Vec<S> part = pole[l * (p->lmax + 1) + m] * now;
      to[l * l + l + m] = part * cosine;
      if (m) to[l * l + l - m] = part * sine;
    }
    const Vec<S> turned = x * cosine - y * sine;
    sine = x * sine + y * cosine;
    cosine = turned;
  }
}

// What rounding has left of |u|^2 - 1: squares of a head on a grid are exact.
template <class S> INLINE Vec<S> excess_of(const Point<S> &u) {
  const S grid = sizeof(S) == 8 ? S(16777216) : S(1024);
  const S magic = sizeof(S) == 8 ? S(6755399441055744.0) : S(12582912);
  Vec<S> heads = {}, tails = {};
  for (int k = 0; k < 3; k++) {
    const Vec<S> shifted = u.x[k] * grid + magic, head = (shifted - magic) / grid;
    heads += head * head;
    tails += (u.x[k] - head) * (u.x[k] + head);
  }
  return (heads - S(1)) + tails;
}

template <class S>
INLINE void write_rows(S *to, int64_t e, int64_t count, int64_t rows, const Vec<S> *from) {
  for (int64_t q = 0; q < count; q++)
    for (int64_t m = 0; m < rows; m++) to[(e + q) * rows + m] = from[m][q];
}

// Gradient of the harmonics by the (unit) vector, for given rows of the degree below.
template <class S>
INLINE Point<S> pulled(const Frames *p, const Vec<S> *grad, const Vec<S> *below) {
  Point<S> to = {};
  const S *value = (const S *)p->values;
  const int32_t *at = p->entries;
  for (int64_t n = 0; n < p->count; n++, at += 3)
    to.x[at[0]] += value[n] * (grad[at[1]] * below[at[2]]);
  return to;
}

// Edges [first, last); `lengths` are gradients of the lengths of all edges.
template <class S>
void frames_run(const Frames *p, int64_t first, int64_t last, const S *lengths) {
  const int64_t rows = (int64_t)(p->lmax + 1) * (p->lmax + 1);
  const S *grads = (const S *)p->grad_sh;
  Vec<S> y[FRAME_ROWS], dy[FRAME_ROWS], grad[FRAME_ROWS];
  for (int64_t e = first; e < last; e += lanes<S>()) {
    const int64_t count = last - e < lanes<S>() ? last - e : lanes<S>();
    const Point<S> v = point_at<S>(p->vec, e, count);
    const Vec<S> length = root<S>(dot<S>(v, v));
    const Vec<S> one = Vec<S>{} + S(1), zero = {};
    const Vec<S> over = length == S(0) ? zero : one / length;
    Point<S> u;
    for (int k = 0; k < 3; k++) u.x[k] = length == S(0) ? zero : v.x[k] / length;
    const Point<S> &at = p->unit ? u : v;
    solid<S>(p, at, y);
    if (!p->order) {
      const Vec<S> excess = excess_of<S>(u);
      for (int l = 1; l <= p->lmax && p->unit; l++)
        for (int64_t m = l * l; m < (l + 1) * (l + 1); m++)
          y[m] *= length == S(0) ? one : S(1) - S(0.5) * S(l) * excess;
      write_rows<S>((S *)p->sh, e, count, rows, y);
      continue;
    }
    for (int64_t m = 0; m < rows; m++) {
      grad[m] = zero;
      for (int64_t q = 0; q < count && grads; q++) grad[m][q] = grads[(e + q) * rows + m];
    }
    Vec<S> pull = {};
    for (int64_t q = 0; q < count && lengths; q++) pull[q] = lengths[e + q];
    const Point<S> g = pulled<S>(p, grad, y);
    const Vec<S> along = dot<S>(u, g);
    Point<S> dv;
    for (int k = 0; k < 3; k++)
      dv.x[k] = (p->unit ? (g.x[k] - u.x[k] * along) * over : g.x[k]) + pull * u.x[k];
    if (p->order == 2) {
      const Point<S> w = point_at<S>(p->tangent, e, count);
      const Vec<S> stretch = dot<S>(u, w);
      Point<S> du;
      for (int k = 0; k < 3; k++) du.x[k] = (w.x[k] - u.x[k] * stretch) * over;
      const Point<S> &move = p->unit ? du : w;
      const S *value = (const S *)p->values;
      const int32_t *entry = p->entries;
      for (int64_t m = 0; m < rows; m++) dy[m] = zero;
      for (int64_t n = 0; n < p->count; n++, entry += 3)
        dy[entry[1]] += value[n] * (move.x[entry[0]] * y[entry[2]]);
      if (p->sh) write_rows<S>((S *)p->sh, e, count, rows, dy);
      const Point<S> dg = pulled<S>(p, grad, dy);
      const Vec<S> bent = dot<S>(du, g) + dot<S>(u, dg);
      for (int k = 0; k < 3; k++) {
        const Vec<S> turned = (dg.x[k] - du.x[k] * along - u.x[k] * bent) * over;
        const Vec<S> nearer = (g.x[k] - u.x[k] * along) * over * (stretch * over);
        dv.x[k] = (p->unit ? turned - nearer : dg.x[k]) + pull * du.x[k];
      }
    }
    if (!p->dvec) continue;
    S *to = (S *)p->dvec + 3 * e;
    for (int64_t q = 0; q < count; q++)
      for (int k = 0; k < 3; k++) to[3 * q + k] = dv.x[k][q];
  }
}

// Lengths of some edges, or what they change by.
template <class S> void frames_lengths(const Frames *p) {
  const S *v = (const S *)p->vec, *w = (const S *)p->tangent;
  S *to = (S *)p->length;
  for (int64_t k = 0; to && k < p->pairs; k++) {
    const int64_t e = 3 * (p->pair ? p->pair[k] : k);
    const S squared = v[e] * v[e] + v[e + 1] * v[e + 1] + v[e + 2] * v[e + 2];
    const S length = (S)__builtin_sqrt((double)squared);
    to[k] = length;
    if (p->order == 2)
      to[k] = squared == 0 ? S(0)
                           : (v[e] * w[e] + v[e + 1] * w[e + 1] + v[e + 2] * w[e + 2]) /
                                 length;
  }
}

// Gradients of the lengths of some edges as those of all edges.
template <class S> void frames_spread(const Frames *p, S *to) {
  const S *from = (const S *)p->grad_length;
  memset(to, 0, (size_t)p->edges * sizeof(S));
  for (int64_t k = 0; from && k < p->pairs; k++) to[p->pair ? p->pair[k] : k] += from[k];
}

}  // namespace
