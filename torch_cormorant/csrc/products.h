// The Clebsch-Gordan square of nodes and the dot products of edges.
#pragma once
#include "sum.h"

namespace {

constexpr int MAX_SIDE = (MAX_LMAX + 1) * (MAX_LMAX + 1);

// Widened forms of all components of one node: (re, re) and (-im, im).
template <class S, bool CX>
INLINE void widen_all(const S *x, const S *end, int64_t wide, int count, Vec<S> *plain,
                      Vec<S> *turned) {
  for (int m = 0; m < count; m++) {
    const Vec<S> v = load(x + m * wide, end);
    plain[m] = CX ? evens(v) : v;
    if (CX) turned[m] = odds(v) * signs<S>();
  }
}

template <class S, bool CX>
void square_forward(const Square *p, int64_t first, int64_t last, void *scratch) {
  const int m1 = p->cg.first, m2 = p->cg.second;
  const int64_t wide = p->wide;
  const S *x = (const S *)p->x, *y = (const S *)p->y;
  const S *x_end = x + p->nodes * m1 * wide, *y_end = y + p->nodes * m2 * wide;
  Vec<S> *T = (Vec<S> *)scratch, re[MAX_SIDE], im[MAX_SIDE];
  for (int64_t node = first; node < last; node++) {
    for (int64_t at = 0; at < wide; at += lanes<S>()) {
      widen_all<S, CX>(x + node * m1 * wide + at, x_end, wide, m1, re, im);
      for (int b = 0; b < m2; b++) {
        const Vec<S> f = load(y + (node * m2 + b) * wide + at, y_end);
        const Vec<S> turned = CX ? swap(f) : f;
        for (int a = 0; a < m1; a++) {
          const int q = b * m1 + a;
          if (!p->cg.used[q]) continue;
          T[q] = re[a] * f;
          if (CX) T[q] += im[a] * turned;
        }
      }
      contract<S>(p->cg, T, p->out, p->out_rows, node, wide, at);
    }
  }
}

template <class S, bool CX>
void square_backward(const Square *p, int64_t first, int64_t last, void *scratch) {
  const int m1 = p->cg.first, m2 = p->cg.second;
  const int64_t wide = p->wide;
  const S *x = (const S *)p->x, *y = (const S *)p->y;
  const S *x_end = x + p->nodes * m1 * wide, *y_end = y + p->nodes * m2 * wide;
  Vec<S> *T = (Vec<S> *)scratch, *rows = T + m1 * m2;
  Vec<S> re[MAX_SIDE], im[MAX_SIDE], dx[MAX_SIDE], dx_turned[MAX_SIDE];
  for (int64_t node = first; node < last; node++) {
    for (int64_t at = 0; at < wide; at += lanes<S>()) {
      spread<S>(p->cg, T, p->out, p->out_rows, p->nodes, node, wide, at, rows);
      widen_all<S, CX>(x + node * m1 * wide + at, x_end, wide, m1, re, im);
      for (int a = 0; a < m1; a++) dx[a] = dx_turned[a] = Vec<S>{};
      for (int b = 0; b < m2; b++) {
        const Vec<S> f = load(y + (node * m2 + b) * wide + at, y_end);
        const Vec<S> fr = CX ? evens(f) : f, fi = CX ? odds(f) * signs<S>() : f;
        Vec<S> dy = {}, dy_turned = {};
        for (int a = 0; a < m1; a++) {
          const int q = b * m1 + a;
          if (!p->cg.used[q]) continue;
          const Vec<S> u = T[q];
          dy += re[a] * u;
          dx[a] += fr * u;
          if (CX) {
            dy_turned += im[a] * u;
            dx_turned[a] += fi * u;
          }
        }
        if (CX) dy += swap(dy_turned);
        store((S *)p->dy + (node * m2 + b) * wide + at, dy, wide - at);
      }
      for (int a = 0; a < m1; a++) {
        Vec<S> v = dx[a];
        if (CX) v += swap(dx_turned[a]);
        store((S *)p->dx + (node * m1 + a) * wide + at, v, wide - at);
      }
    }
  }
}

template <class S, bool CX>
void dots_forward(const Dots *p, int64_t first, int64_t last) {
  const int side = (p->lmax + 1) * (p->lmax + 1);
  const int64_t wide = p->wide;
  const S *a = (const S *)p->a, *b = (const S *)p->b;
  const S *a_end = a + p->rows_a * side * wide, *b_end = b + p->rows_b * side * wide;
  for (int64_t e = first; e < last; e++) {
    for (int64_t at = 0; at < wide; at += lanes<S>()) {
      const S *f = a + p->index_a[e] * side * wide + at;
      const S *h = b + p->index_b[e] * side * wide + at;
      for (int l = 0; l <= p->lmax; l++) {
        Vec<S> sum = {}, turned = {};
        for (int m = 0; m < 2 * l + 1; m++, f += wide, h += wide) {
          const Vec<S> u = load(f, a_end), v = load(h, b_end);
          sum += u * v;
          if (CX) turned += u * swap(v);
        }
        if (CX) sum = mix(sum - swap(sum), turned + swap(turned));
        store((S *)p->out + (e * (p->lmax + 1) + l) * wide + at, sum, wide - at);
      }
    }
  }
}

// to += conj(from) * u, degree by degree
template <class S, bool CX>
INLINE void add_weighted(S *to, const S *from, const S *from_end, const S *u,
                         const S *u_end, int lmax, int64_t wide) {
  for (int64_t at = 0; at < wide; at += lanes<S>()) {
    int m = 0;
    for (int l = 0; l <= lmax; l++) {
      const Vec<S> w = load(u + l * wide + at, u_end);
      const Vec<S> re = CX ? -(evens(w) * signs<S>()) : w, im = CX ? odds(w) : w;
      for (; m < (l + 1) * (l + 1); m++) {
        const Vec<S> f = load(from + m * wide + at, from_end);
        S *out = to + m * wide + at;
        Vec<S> v = load(out, to + (int64_t)(lmax + 1) * (lmax + 1) * wide) + f * re;
        if (CX) v += swap(f) * im;
        store(out, v, wide - at);
      }
    }
  }
}

template <class S, bool CX>
void dots_backward(const Dots *p, int owner, int owners) {
  const int64_t row = (int64_t)(p->lmax + 1) * (p->lmax + 1) * p->wide;
  const int64_t step = (p->lmax + 1) * p->wide;
  const S *a = (const S *)p->a, *b = (const S *)p->b, *u = (const S *)p->out;
  const S *a_end = a + p->rows_a * row, *b_end = b + p->rows_b * row;
  const S *u_end = u + p->edges * step;
  for (int64_t e = 0; e < p->edges; e++) {
    const int64_t i = p->index_a[e], j = p->index_b[e];
    if (p->da && i % owners == owner)
      add_weighted<S, CX>((S *)p->da + i * row, b + j * row, b_end, u + e * step, u_end,
                          p->lmax, p->wide);
    if (p->db && j % owners == owner)
      add_weighted<S, CX>((S *)p->db + j * row, a + i * row, a_end, u + e * step, u_end,
                          p->lmax, p->wide);
  }
}

}  // namespace
