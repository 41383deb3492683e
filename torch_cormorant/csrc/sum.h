// The neighbour sum and its gradient for one instruction set.
//
// T[m2, m1] = sum over the edges of Y[m1] (g F)[m2] stays in registers for one
// component m2 at a time; the Clebsch-Gordan contraction acts on T once per receiver.
#pragma once
#include "problem.h"
#include "vector.h"

namespace {

constexpr int BLOCK = 32;  // edges whose widened scalars stay in the first cache
constexpr int MAX_LMAX = 6;
#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int TOP_FORWARD = 4, TOP_BACKWARD = 3;  // degrees 0..TOP share a pass
#else
constexpr int TOP_FORWARD = 2, TOP_BACKWARD = 1;
#endif

// Edge scalars in the form that complex products need: (re, re), (-im, im).
template <class S, bool CX>
INLINE void widen(const S *g, const S *end, int64_t wide, int count, Vec<S> *out) {
  for (int l = 0; l < count; l++) {
    Vec<S> v = load(g + l * wide, end);
    if (CX) {
      out[2 * l] = evens(v);
      out[2 * l + 1] = odds(v) * signs<S>();
    } else {
      out[l] = v;
    }
  }
}

template <class S, bool CX>
INLINE Vec<S> times(const Vec<S> *g, int l, const Vec<S> &f, const Vec<S> &turned) {
  return CX ? g[2 * l] * f + g[2 * l + 1] * turned : g[l] * f;
}

// Add the edges of one block to T, degrees LO..HI.
template <class S, int LO, int HI, bool CX>
void accumulate(int edges, const S *const *x, const S *x_end, const Vec<S> *g,
                int g_step, const S *const *sh, int m1, int m2, int64_t wide,
                Vec<S> *T, bool fresh) {
  constexpr int A0 = LO * LO, NA = (HI + 1) * (HI + 1) - A0;
  for (int b = 0; b < m2; b++) {
    Vec<S> acc[NA];
    Vec<S> *t = T + b * m1 + A0;
    UNROLL for (int a = 0; a < NA; a++) acc[a] = fresh ? Vec<S>{} : t[a];
    for (int e = 0; e < edges; e++) {
      const Vec<S> f = load(x[e] + b * wide, x_end);
      const Vec<S> turned = CX ? swap(f) : f;
      const S *y = sh[e] + A0;
      const Vec<S> *ge = g + e * g_step;
      UNROLL for (int l = LO; l <= HI; l++) {
        const Vec<S> h = times<S, CX>(ge, l, f, turned);
        UNROLL for (int a = l * l - A0; a < (l + 1) * (l + 1) - A0; a++)
          acc[a] += y[a] * h;
      }
    }
    UNROLL for (int a = 0; a < NA; a++) t[a] = acc[a];
  }
}

// Gradients of one edge from T, degrees LO..HI.
template <class S, int LO, int HI, bool CX, bool NEED_SH>
void edge_gradients(const S *x, const S *x_end, const Vec<S> *g, const S *sh, int m1,
                    int m2, int64_t wide, int64_t valid, const Vec<S> *T, S *part_x,
                    S *part_g, int64_t padded, S *dsh, bool add_x, bool add_sh) {
  constexpr int A0 = LO * LO, NA = (HI + 1) * (HI + 1) - A0, NL = HI - LO + 1;
  Vec<S> dy[NA], dg[NL], dg_turned[NL];
  UNROLL for (int a = 0; a < NA; a++) dy[a] = Vec<S>{};
  UNROLL for (int k = 0; k < NL; k++) dg[k] = dg_turned[k] = Vec<S>{};
  const S *y = sh + A0;
  for (int b = 0; b < m2; b++) {
    const Vec<S> f = load(x + b * wide, x_end);
    const Vec<S> turned = CX ? swap(f) : f;
    const Vec<S> *t = T + b * m1 + A0;
    Vec<S> df = {}, df_turned = {};
    UNROLL for (int l = LO; l <= HI; l++) {
      Vec<S> h = {}, u = {};
      if (NEED_SH) h = times<S, CX>(g, l, f, turned);
      UNROLL for (int a = l * l - A0; a < (l + 1) * (l + 1) - A0; a++) {
        const Vec<S> s = t[a];
        u += y[a] * s;
        if (NEED_SH) dy[a] += s * h;
      }
      if (CX) {
        df += g[2 * l] * u;
        df_turned += g[2 * l + 1] * u;
        dg_turned[l - LO] += turned * u;
      } else {
        df += g[l] * u;
      }
      dg[l - LO] += f * u;
    }
    if (CX) df += swap(df_turned);
    Vec<S> *to = (Vec<S> *)(part_x + b * padded);
    *to = add_x ? *to + df : df;
  }
  UNROLL for (int k = 0; k < NL; k++) {
    Vec<S> v = dg[k];
    if (CX) v = mix(dg[k] + swap(dg[k]), dg_turned[k] - swap(dg_turned[k]));
    *(Vec<S> *)(part_g + (LO + k) * padded) = v;
  }
  if (NEED_SH) reduce<S, NA>(dy, valid, dsh + A0, add_sh);
}

// One row of the result after the other from the entries of T.
template <class S>
INLINE void contract(const Coefficients &cg, const Vec<S> *T, void *const *out,
                     const int64_t *out_rows, int64_t node, int64_t wide, int64_t at) {
  const S *val = (const S *)cg.row_val;
  for (int r = 0; r < cg.rows; r++) {
    Vec<S> acc = {};
    for (int k = cg.row_ptr[r]; k < cg.row_ptr[r + 1]; k++)
      acc += val[k] * T[cg.row_col[k]];
    const int l = cg.row_degree[r];
    S *to = (S *)out[l] + (node * out_rows[l] + cg.row_offset[r]) * wide + at;
    store(to, acc, wide - at);
  }
}

// The transposed contraction: entries of T from rows of the gradient.
template <class S>
INLINE void spread(const Coefficients &cg, Vec<S> *T, void *const *out,
                   const int64_t *out_rows, int64_t nodes, int64_t node, int64_t wide,
                   int64_t at, Vec<S> *rows) {
  for (int r = 0; r < cg.rows; r++) {
    const int l = cg.row_degree[r];
    const S *base = (const S *)out[l];
    rows[r] = load(base + (node * out_rows[l] + cg.row_offset[r]) * wide + at,
                   base + nodes * out_rows[l] * wide);
  }
  const S *val = (const S *)cg.col_val;
  for (int q = 0; q < cg.first * cg.second; q++) {
    Vec<S> acc = {};
    for (int k = cg.col_ptr[q]; k < cg.col_ptr[q + 1]; k++)
      acc += val[k] * rows[cg.col_row[k]];
    T[q] = acc;
  }
}

template <class S, bool CX>
void add_block(int lmax, int edges, const S *const *x, const S *x_end, const Vec<S> *g,
               int step, const S *const *sh, int m1, int m2, int64_t wide, Vec<S> *T,
               bool fresh) {
#define ADD(LO, HI) \
  accumulate<S, LO, HI, CX>(edges, x, x_end, g, step, sh, m1, m2, wide, T, fresh)
  switch (lmax < TOP_FORWARD ? lmax : TOP_FORWARD) {
    case 0: ADD(0, 0); break;
    case 1: ADD(0, 1); break;
    case 2: ADD(0, 2); break;
#if VECTOR_BYTES == 64 || defined(__aarch64__)
    case 3: ADD(0, 3); break;
    case 4: ADD(0, 4); break;
#endif
  }
#if !(VECTOR_BYTES == 64 || defined(__aarch64__))
  if (lmax >= 3) ADD(3, 3);
  if (lmax >= 4) ADD(4, 4);
#endif
  if (lmax >= 5) ADD(5, 5);
  if (lmax >= 6) ADD(6, 6);
#undef ADD
}

template <class S, bool CX>
void sum_forward(const Sum *p, int64_t first, int64_t last, void *scratch) {
  const int m1 = p->cg.first, m2 = p->cg.second, degrees = p->lmax1 + 1;
  const int step = CX ? 2 * degrees : degrees;
  const int64_t wide = p->wide;
  const S *x = (const S *)p->x, *g = (const S *)p->g, *sh = (const S *)p->sh;
  const S *x_end = x + p->sources * m2 * wide, *g_end = g + p->rows * degrees * wide;
  Vec<S> *T = (Vec<S> *)scratch, *widened = T + m1 * m2;
  const S *x_of[BLOCK], *sh_of[BLOCK];
  for (int64_t node = first; node < last; node++) {
    const int64_t begin = p->rowptr[node], end = p->rowptr[node + 1];
    for (int64_t at = 0; at < wide; at += lanes<S>()) {
      if (begin == end) memset(T, 0, sizeof(Vec<S>) * m1 * m2);
      for (int64_t e0 = begin; e0 < end; e0 += BLOCK) {
        const int count = (int)(end - e0 < BLOCK ? end - e0 : BLOCK);
        for (int k = 0; k < count; k++) {
          const int64_t e = e0 + k;
          x_of[k] = x + p->source[e] * m2 * wide + at;
          sh_of[k] = sh + p->edge[e] * m1;
          widen<S, CX>(g + p->row[e] * degrees * wide + at, g_end, wide, degrees,
                       widened + k * step);
        }
        add_block<S, CX>(p->lmax1, count, x_of, x_end, widened, step, sh_of, m1, m2,
                         wide, T, e0 == begin);
      }
      contract<S>(p->cg, T, p->out, p->out_rows, node, wide, at);
    }
  }
}

template <class S, bool CX, bool NEED_SH>
void sum_backward(const Sum *p, int64_t node, int64_t e0, int64_t e1, int64_t base,
                  S *part_x, S *part_g, void *scratch) {
  const int m1 = p->cg.first, m2 = p->cg.second, degrees = p->lmax1 + 1;
  const int64_t wide = p->wide;
  const int64_t padded = (wide + lanes<S>() - 1) / lanes<S>() * lanes<S>();
  const S *x = (const S *)p->x, *g = (const S *)p->g, *sh = (const S *)p->sh;
  const S *x_end = x + p->sources * m2 * wide, *g_end = g + p->rows * degrees * wide;
  Vec<S> *T = (Vec<S> *)scratch, *rows = T + m1 * m2;
  Vec<S> widened[2 * (MAX_LMAX + 1)];
  for (int64_t at = 0; at < wide; at += lanes<S>()) {
    spread<S>(p->cg, T, p->out, p->out_rows, p->targets, node, wide, at, rows);
    for (int64_t e = e0; e < e1; e++) {
      widen<S, CX>(g + p->row[e] * degrees * wide + at, g_end, wide, degrees, widened);
      const S *x_of = x + p->source[e] * m2 * wide + at, *y = sh + p->edge[e] * m1;
      S *px = part_x + (e - base) * m2 * padded + at;
      S *pg = part_g + (e - base) * degrees * padded + at;
      S *dsh = NEED_SH ? (S *)p->dsh + p->edge[e] * m1 : nullptr;
#define ADD(LO, HI)                                                                \
  edge_gradients<S, LO, HI, CX, NEED_SH>(x_of, x_end, widened, y, m1, m2, wide,    \
                                         wide - at, T, px, pg, padded, dsh,        \
                                         LO > 0, at > 0)
      switch (p->lmax1 < TOP_BACKWARD ? p->lmax1 : TOP_BACKWARD) {
        case 0: ADD(0, 0); break;
        case 1: ADD(0, 1); break;
#if VECTOR_BYTES == 64 || defined(__aarch64__)
        case 2: ADD(0, 2); break;
        case 3: ADD(0, 3); break;
#endif
      }
#if !(VECTOR_BYTES == 64 || defined(__aarch64__))
      if (p->lmax1 >= 2) ADD(2, 2);
      if (p->lmax1 >= 3) ADD(3, 3);
#endif
      if (p->lmax1 >= 4) ADD(4, 4);
      if (p->lmax1 >= 5) ADD(5, 5);
      if (p->lmax1 >= 6) ADD(6, 6);
#undef ADD
    }
  }
}

template <class S>
INLINE void add_rows(S *to, const S *from, int count, int64_t wide, int64_t padded) {
  for (int c = 0; c < count; c++, to += wide, from += padded)
    for (int64_t k = 0; k < wide; k++) to[k] += from[k];
}

template <class S>
void sum_collect(const Sum *p, int64_t e0, int64_t e1, const S *part_x,
                 const S *part_g, int owner, int owners) {
  const int m2 = p->cg.second, degrees = p->lmax1 + 1;
  const int64_t wide = p->wide;
  const int64_t padded = (wide + lanes<S>() - 1) / lanes<S>() * lanes<S>();
  for (int64_t e = e0; e < e1; e++) {
    const int64_t j = p->source[e], row = p->row[e];
    if (p->need_x && j % owners == owner)
      add_rows((S *)p->dx + j * m2 * wide, part_x + (e - e0) * m2 * padded, m2, wide,
               padded);
    if (p->need_g && row % owners == owner)
      add_rows((S *)p->dg + row * degrees * wide,
               part_g + (e - e0) * degrees * padded, degrees, wide, padded);
  }
}

}  // namespace
