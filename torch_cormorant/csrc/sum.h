// The neighbour sum and its gradient for one instruction set.
//
// T[m2, m1] = sum over the edges of Y[m1] (g F)[m2] stays in registers for one
// component m2 at a time; the Clebsch-Gordan contraction acts on T once per receiver.
//
// With tangents of x, g and Y (SECOND), the sum becomes its derivative along these and
// the gradients those of the gradients: the same sums, of values and tangents.
#pragma once
#include "contract.h"

namespace {

constexpr int AHEAD = 16;  // edges whose scalars are fetched before they are needed
constexpr int BLOCK = 32;  // edges whose widened scalars stay in the first cache
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

// Tangents of one edge, or of all edges of a block; null where there are none.
template <class S> struct Along {
  const S *const *x, *const *sh;
  const S *x_end;
  const Vec<S> *g;
};

// The tangent of g f. `turned` and the tangents of f are those of the caller.
template <class S, bool CX>
INLINE Vec<S> times_along(const Vec<S> *g, const Vec<S> *along_g, int l, const Vec<S> &f,
                          const Vec<S> &turned, const Vec<S> &along,
                          const Vec<S> &along_turned) {
  const Vec<S> h = times<S, CX>(g, l, along, along_turned);
  return along_g ? h + times<S, CX>(along_g, l, f, turned) : h;
}

// Fetch the scalars of an edge, as far as the vector at `at` needs them.
template <class S> INLINE void fetch_scalars(const Sum *p, int64_t e, int64_t at) {
  if (e >= p->edges) return;
  const S *g = (const S *)p->g + p->row[e] * (p->lmax1 + 1) * p->wide + at;
  for (int l = 0; l <= p->lmax1; l++) fetch(g + l * p->wide);
}

// Fetches the rows of a receiver, a few lines at a time.
template <class S> class Ahead {
 public:
  Ahead(const Sum *p, int64_t node, int64_t steps) : p_(p), node_(node) {
    if (node < 0 || node >= p->targets) degree_ = degrees_of(p->cg);
    int64_t lines = 0;
    for (int l = 0; l < degrees_of(p->cg); l++) lines += bytes(l) / 64 + 1;
    lines_ = lines / steps + 1;
  }
  INLINE_MEMBER void step() {
    for (int64_t k = 0; k < lines_; k++, next_ += 64) {
      while (next_ >= end_) {
        if (degree_ >= degrees_of(p_->cg)) return;
        next_ = (const char *)p_->out[degree_] + node_ * bytes(degree_);
        end_ = next_ + bytes(degree_++);
      }
      fetch(next_);
    }
  }

 private:
  int64_t bytes(int l) const { return p_->out_rows[l] * p_->wide * (int64_t)sizeof(S); }
  const Sum *p_;
  int64_t node_, lines_ = 0;
  int degree_ = 0;
  const char *next_ = nullptr, *end_ = nullptr;
};

// Add the edges of one block to T, degrees LO..HI. Meanwhile the rows of the receiver,
// where the result goes, can be fetched.
template <class S, int LO, int HI, bool CX, bool SECOND>
void accumulate(int edges, const S *const *x, const S *x_end, const Vec<S> *g,
                int g_step, const S *const *sh, int m1, int m2, int64_t wide,
                Vec<S> *T, bool fresh, Ahead<S> &ahead, const Along<S> &along) {
  constexpr int A0 = LO * LO, NA = (HI + 1) * (HI + 1) - A0;
  for (int b = 0; b < m2; b++) {
    Vec<S> acc[NA];
    Vec<S> *t = T + b * m1 + A0;
    UNROLL for (int a = 0; a < NA; a++) acc[a] = fresh ? Vec<S>{} : t[a];
    ahead.step();
    for (int e = 0; e < edges; e++) {
      const Vec<S> f = load(x[e] + b * wide, x_end);
      const Vec<S> turned = CX ? swap(f) : f;
      const S *y = sh[e] + A0;
      const Vec<S> *ge = g + e * g_step;
      Vec<S> ft = {}, ft_turned = {};
      if (SECOND && along.x) {
        ft = load(along.x[e] + b * wide, along.x_end);
        ft_turned = CX ? swap(ft) : ft;
      }
      const Vec<S> *gt = SECOND && along.g ? along.g + e * g_step : nullptr;
      const S *yt = SECOND && along.sh ? along.sh[e] + A0 : nullptr;
      UNROLL for (int l = LO; l <= HI; l++) {
        const Vec<S> h =
            SECOND ? times_along<S, CX>(ge, gt, l, f, turned, ft, ft_turned)
                   : times<S, CX>(ge, l, f, turned);
        UNROLL for (int a = l * l - A0; a < (l + 1) * (l + 1) - A0; a++)
          acc[a] += y[a] * h;
        if (!SECOND || !yt) continue;
        const Vec<S> k = times<S, CX>(ge, l, f, turned);
        UNROLL for (int a = l * l - A0; a < (l + 1) * (l + 1) - A0; a++)
          acc[a] += yt[a] * k;
      }
    }
    UNROLL for (int a = 0; a < NA; a++) t[a] = acc[a];
  }
}

// Where the gradients of one edge go. Passes over the degrees meet in `part`; the last
// one adds to `x`, and each its degrees to `g`, unless others have to add before: then
// these are null and `part` and `part_g` keep them.
template <class S> struct Gradients {
  S *part, *part_g, *x, *g, *sh;
  int64_t padded;  // numbers from one row of the parts to the next
  bool fresh_g;    // nothing was added to g yet
};

// Gradients of one edge from T, degrees LO..HI.
template <class S, int LO, int HI, bool CX, bool NEED_SH, bool SECOND>
INLINE void edge_gradients(const S *x, const S *x_end, const Vec<S> *g, const S *sh,
                           int m1, int m2, int64_t wide, int64_t at, const Vec<S> *T,
                           const Gradients<S> &to, bool last, const Along<S> &along) {
  constexpr int A0 = LO * LO, NA = (HI + 1) * (HI + 1) - A0, NL = HI - LO + 1;
  const int64_t valid = wide - at;
  Vec<S> dy[NA], dg[NL], dg_turned[NL];
  UNROLL for (int a = 0; a < NA; a++) dy[a] = Vec<S>{};
  UNROLL for (int k = 0; k < NL; k++) dg[k] = dg_turned[k] = Vec<S>{};
  const S *y = sh + A0, *yt = SECOND && along.sh ? *along.sh + A0 : nullptr;
  S *const total = last ? to.x : nullptr, *const total_end = to.x + m2 * wide - at;
  for (int b = 0; b < m2; b++) {
    const Vec<S> f = load(x + b * wide, x_end);
    const Vec<S> turned = CX ? swap(f) : f;
    const Vec<S> *t = T + b * m1 + A0;
    Vec<S> df, df_turned, ft = {}, ft_turned = {};
    if (SECOND && along.x) {
      ft = load(*along.x + b * wide, along.x_end);
      ft_turned = CX ? swap(ft) : ft;
    }
    UNROLL for (int l = LO; l <= HI; l++) {
      Vec<S> h, u, ut = {};
      if (NEED_SH)
        h = SECOND ? times_along<S, CX>(g, along.g, l, f, turned, ft, ft_turned)
                   : times<S, CX>(g, l, f, turned);
      UNROLL for (int a = l * l - A0; a < (l + 1) * (l + 1) - A0; a++) {
        Vec<S> s = t[a];
        if (NEED_SH || SECOND) IN_REGISTER(s);  // it is needed twice
        u = a == l * l - A0 ? y[a] * s : u + y[a] * s;
        if (SECOND && yt) ut += yt[a] * s;
        if (NEED_SH) dy[a] += s * h;
      }
      if (SECOND) {
        const Vec<S> zero = {};
        const Vec<S> gr = !along.g ? zero : along.g[CX ? 2 * l : l];
        df = l == LO ? gr * u : df + gr * u;
        df += g[CX ? 2 * l : l] * ut;
        if (CX) {
          const Vec<S> gi = !along.g ? zero : along.g[2 * l + 1];
          df_turned = l == LO ? gi * u : df_turned + gi * u;
          df_turned += g[2 * l + 1] * ut;
          dg_turned[l - LO] += ft_turned * u + turned * ut;
        }
        dg[l - LO] += ft * u + f * ut;
        continue;
      }
      if (CX) {
        df = l == LO ? g[2 * l] * u : df + g[2 * l] * u;
        df_turned = l == LO ? g[2 * l + 1] * u : df_turned + g[2 * l + 1] * u;
        dg_turned[l - LO] += turned * u;
      } else {
        df = l == LO ? g[l] * u : df + g[l] * u;
      }
      dg[l - LO] += f * u;
    }
    if (CX) df += swap(df_turned);
    Vec<S> *part = (Vec<S> *)(to.part + b * to.padded);
    if (LO > 0) df = *part + df;
    if (total)
      store(total + b * wide, load(total + b * wide, total_end) + df, valid);
    else
      *part = df;
  }
  UNROLL for (int k = 0; k < NL; k++) {
    Vec<S> v = dg[k];
    if (CX) v = mix(dg[k] + swap(dg[k]), dg_turned[k] - swap(dg_turned[k]));
    S *sum = to.g + (LO + k) * wide;
    if (to.part_g)
      *(Vec<S> *)(to.part_g + (LO + k) * to.padded) = v;
    else if (to.g)
      store(sum, to.fresh_g ? v : load(sum, sum + valid) + v, valid);
  }
  if (NEED_SH) reduce<S, NA>(dy, valid, to.sh + A0, at > 0);
}

template <class S, bool CX, bool SECOND>
void add_block(int lmax, int edges, const S *const *x, const S *x_end, const Vec<S> *g,
               int step, const S *const *sh, int m1, int m2, int64_t wide, Vec<S> *T,
               bool fresh, Ahead<S> &ahead, const Along<S> &along) {
#define ADD(LO, HI)                                                                 \
  accumulate<S, LO, HI, CX, SECOND>(edges, x, x_end, g, step, sh, m1, m2, wide, T,  \
                                    fresh, ahead, along)
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

template <class S, bool CX, bool SECOND>
void sum_forward(const Sum *p, int64_t first, int64_t last, void *scratch) {
  const int m1 = p->cg.first, m2 = p->cg.second, degrees = p->lmax1 + 1;
  const int step = CX ? 2 * degrees : degrees;
  const int64_t wide = p->wide;
  const S *x = (const S *)p->x, *g = (const S *)p->g, *sh = (const S *)p->sh;
  const S *x_end = x + p->sources * m2 * wide, *g_end = g + p->rows * degrees * wide;
  const S *tx = (const S *)p->tangent_x, *tg = (const S *)p->tangent_g;
  const S *tsh = (const S *)p->tangent_sh;
  Vec<S> *T = (Vec<S> *)scratch, *widened = T + m1 * m2;
  Vec<S> *widened_along = widened + BLOCK * step;
  const S *x_of[BLOCK], *sh_of[BLOCK], *tx_of[BLOCK], *tsh_of[BLOCK];
  const Along<S> along = {tx ? tx_of : nullptr, tsh ? tsh_of : nullptr,
                          tx ? tx + p->sources * m2 * wide : nullptr,
                          tg ? widened_along : nullptr};
  for (int64_t node = first; node < last; node++) {
    const int64_t begin = p->rowptr[node], end = p->rowptr[node + 1];
    Ahead<S> ahead(p, node, m2);
    for (int64_t at = 0; at < wide; at += lanes<S>()) {
      if (begin == end) memset(T, 0, sizeof(Vec<S>) * m1 * m2);
      for (int64_t e0 = begin; e0 < end; e0 += BLOCK) {
        const int count = (int)(end - e0 < BLOCK ? end - e0 : BLOCK);
        for (int k = 0; k < count; k++) {
          const int64_t e = e0 + k;
          fetch_scalars<S>(p, e + AHEAD, at);
          x_of[k] = x + p->source[e] * m2 * wide + at;
          sh_of[k] = sh + p->edge[e] * m1;
          widen<S, CX>(g + p->row[e] * degrees * wide + at, g_end, wide, degrees,
                       widened + k * step);
          if (SECOND && tx) tx_of[k] = tx + p->source[e] * m2 * wide + at;
          if (SECOND && tsh) tsh_of[k] = tsh + p->edge[e] * m1;
          if (SECOND && tg)
            widen<S, CX>(tg + p->row[e] * degrees * wide + at,
                         tg + p->rows * degrees * wide, wide, degrees,
                         widened_along + k * step);
        }
        add_block<S, CX, SECOND>(p->lmax1, count, x_of, x_end, widened, step, sh_of, m1,
                                 m2, wide, T, e0 == begin, ahead, along);
      }
      contract<S>(p->cg, T, p->out, p->out_rows, node, wide, at);
    }
  }
}

template <class S, bool CX, bool NEED_SH, bool SECOND>
void edge_backward(const Sum *p, const S *x, const S *x_end, const Vec<S> *g,
                   const S *sh, int64_t at, const Vec<S> *T, const Gradients<S> &to,
                   const Along<S> &along) {
  const int m1 = p->cg.first, m2 = p->cg.second, lmax = p->lmax1;
#define ADD(LO, HI)                                                                   \
  edge_gradients<S, LO, HI, CX, NEED_SH, SECOND>(x, x_end, g, sh, m1, m2, p->wide, at, \
                                                 T, to, HI == lmax, along)
  switch (lmax < TOP_BACKWARD ? lmax : TOP_BACKWARD) {
    case 0: ADD(0, 0); break;
    case 1: ADD(0, 1); break;
#if VECTOR_BYTES == 64 || defined(__aarch64__)
    case 2: ADD(0, 2); break;
    case 3: ADD(0, 3); break;
#endif
  }
#if !(VECTOR_BYTES == 64 || defined(__aarch64__))
  if (lmax >= 2) ADD(2, 2);
  if (lmax >= 3) ADD(3, 3);
#endif
  if (lmax >= 4) ADD(4, 4);
  if (lmax >= 5) ADD(5, 5);
  if (lmax >= 6) ADD(6, 6);
#undef ADD
}

// Edges [e0, e1) of a receiver. Without `part_g` they are added to the results at once,
// `part_x` then has room for one edge.
template <class S, bool CX, bool NEED_SH, bool SECOND>
void sum_backward(const Sum *p, int64_t node, int64_t e0, int64_t e1, int64_t base,
                  S *part_x, S *part_g, void *scratch) {
  const int m1 = p->cg.first, m2 = p->cg.second, degrees = p->lmax1 + 1;
  const int64_t wide = p->wide;
  const int64_t padded = (wide + lanes<S>() - 1) / lanes<S>() * lanes<S>();
  const S *x = (const S *)p->x, *g = (const S *)p->g, *sh = (const S *)p->sh;
  const S *x_end = x + p->sources * m2 * wide, *g_end = g + p->rows * degrees * wide;
  Vec<S> *T = (Vec<S> *)scratch, *rows = T + m1 * m2;
  const S *tx = (const S *)p->tangent_x, *tg = (const S *)p->tangent_g;
  const S *tsh = (const S *)p->tangent_sh, *tx_of, *tsh_of;
  S unused[(MAX_LMAX + 1) * (MAX_LMAX + 1)];
  Vec<S> widened[2 * (MAX_LMAX + 1)], widened_along[2 * (MAX_LMAX + 1)];
  const Along<S> along = {tx ? &tx_of : nullptr, tsh ? &tsh_of : nullptr,
                          tx ? tx + p->sources * m2 * wide : nullptr,
                          tg ? widened_along : nullptr};
  Ahead<S> ahead(p, node + 1, (e1 - e0) * (padded / lanes<S>()));
  for (int64_t at = 0; at < wide; at += lanes<S>()) {
    spread<S>(p->cg, T, p->out, p->out_rows, p->targets, node, wide, at, rows);
    for (int64_t e = e0; e < e1; e++) {
      fetch_scalars<S>(p, e + AHEAD, at);
      ahead.step();
      const int64_t j = p->source[e], row = p->row[e], k = part_g ? e - base : 0;
      widen<S, CX>(g + row * degrees * wide + at, g_end, wide, degrees, widened);
      Gradients<S> to = {part_x + k * m2 * padded + at, nullptr, nullptr, nullptr,
                         nullptr, padded, (bool)p->fresh_g};
      if (part_g)
        to.part_g = part_g + k * degrees * padded + at;
      else if (p->need_g)
        to.g = (S *)p->dg + row * degrees * wide + at;
      if (!part_g && p->need_x) to.x = (S *)p->dx + j * m2 * wide + at;
      if (NEED_SH) to.sh = p->need_sh ? (S *)p->dsh + p->edge[e] * m1 : unused;
      if (SECOND && tx) tx_of = tx + j * m2 * wide + at;
      if (SECOND && tsh) tsh_of = tsh + p->edge[e] * m1;
      if (SECOND && tg)
        widen<S, CX>(tg + row * degrees * wide + at, tg + p->rows * degrees * wide, wide,
                     degrees, widened_along);
      edge_backward<S, CX, NEED_SH, SECOND>(p, x + j * m2 * wide + at, x_end, widened,
                                            sh + p->edge[e] * m1, at, T, to, along);
    }
  }
}

template <class S>
INLINE void add_rows(S *to, const S *from, int count, int64_t wide, int64_t padded,
                     bool fresh) {
  for (int c = 0; c < count; c++, to += wide, from += padded)
    for (int64_t k = 0; k < wide; k++) to[k] = fresh ? from[k] : to[k] + from[k];
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
               padded, false);
    if (p->need_g && row % owners == owner)
      add_rows((S *)p->dg + row * degrees * wide, part_g + (e - e0) * degrees * padded,
               degrees, wide, padded, (bool)p->fresh_g);
  }
}

}  // namespace
