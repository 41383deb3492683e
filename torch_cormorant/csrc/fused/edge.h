// The edge network of a tile of pairs: dot products of their nodes, the products with
// the weights, the mask; gradients of all operands; gradients of the gradients.
//
// With a = [state, dots, radial] and h = W a the result is y = mask h. Gradients are
//   dh = mask dy    dmask = Re <h, dy>    da = W^H dh    dW = dh a^H,
// and those of the gradients are what these change by when the operands change by their
// tangents. Rows of tangents stand behind those of the values of a tile, so that one
// product with the weights serves both.
#pragma once
#include "mask.h"
#include "planar.h"

namespace {

constexpr int EDGE_TILE = 16;     // pairs
constexpr int EDGE_DEGREES = 16;  // at the most

// Hands out memory; without a beginning it only counts.
template <class S> class Arena {
 public:
  explicit Arena(S *base) : base_(base) {}
  S *take(int64_t count) {
    S *found = base_ ? base_ + used_ : nullptr;
    used_ += (count + 15) / 16 * 16;
    return found;
  }
  Rows<S> rows(int64_t count, int64_t row, bool planes) {
    S *re = take(count * row);
    return {re, planes ? take(count * row) : re, row};
  }
  int64_t used() const { return used_; }

 private:
  S *base_;
  int64_t used_ = 0;
};

template <class S> struct EdgeSizes {
  int64_t wide;    // of a row of channels, with its padding
  int64_t shared;  // columns that all degrees share: dots and radial functions
  int64_t inputs, state;  // strides of rows of these columns, and of the state
  int64_t node;    // numbers of a node
  int planes;
  explicit EdgeSizes(const Edge *p) {
    planes = p->is_complex ? 2 : 1;
    wide = padded<S>(p->channels);
    shared = (int64_t)p->dot_degrees * p->channels + p->radials;
    inputs = padded<S>(shared) + 2 * wide;
    state = padded<S>(p->state_channels);
    node = (int64_t)p->dot_degrees * p->dot_degrees * planes * wide;
  }
  static int64_t columns(const Edge *p, int l) {
    const int32_t *n = p->columns + 4 * l;
    return n[0] + n[1] + n[2] + n[3];
  }
  int64_t stride(const Edge *p, int l) const {
    return padded<S>(columns(p, l)) + wide + lanes<S>();
  }
};

// What all tiles share: weights in padded rows, nodes in planes.
template <class S> struct EdgeShared {
  Rows<S> weight[EDGE_DEGREES], turned[EDGE_DEGREES];
  Rows<S> d_weight[EDGE_DEGREES], d_turned[EDGE_DEGREES];
  S *radius, *width, *radius_sign, *width_sign, *d_radius, *d_width;
  S *target, *source, *d_target, *d_source;  // values, tangents
  S *to_target, *to_source;                  // gradients
  int64_t used;

  EdgeShared(const Edge *p, S *base) {
    const EdgeSizes<S> n(p);
    Arena<S> arena(base);
    for (int l = 0; l < p->degrees; l++) {
      const int64_t in = n.columns(p, l), row = n.stride(p, l);
      const bool cx = p->is_complex, changes = p->weights[l].tangent;
      weight[l] = arena.rows(p->channels, row, cx);
      turned[l] = arena.rows(in, n.wide, cx);
      d_weight[l] = arena.rows(changes ? p->channels : 0, row, cx);
      d_turned[l] = arena.rows(changes ? in : 0, n.wide, cx);
    }
    S **const sizes[] = {&radius, &width, &radius_sign, &width_sign, &d_radius, &d_width};
    for (S **part : sizes) *part = arena.take(n.wide);
    const auto nodes = [&](bool there, int64_t count) {
      return there ? arena.take(count * n.node) : nullptr;
    };
    const bool two = p->source.value;
    target = nodes(true, p->targets);
    d_target = nodes(p->target.tangent, p->targets);
    to_target = nodes(p->target.gradient, p->targets);
    source = two ? nodes(true, p->sources) : target;
    d_source = two ? nodes(p->source.tangent, p->sources) : d_target;
    to_source = two ? nodes(p->source.gradient, p->sources) : to_target;
    used = arena.used();
  }
};

// Gradients that are summed over pairs, of one block of them.
template <class S> struct EdgeSums {
  Rows<S> weight[EDGE_DEGREES];
  S *radius, *width;
  int64_t used;

  EdgeSums(const Edge *p, S *base) {
    const EdgeSizes<S> n(p);
    Arena<S> arena(base);
    for (int l = 0; l < p->degrees; l++)
      weight[l] = arena.rows(p->weights[l].gradient ? p->channels : 0, n.stride(p, l),
                             p->is_complex);
    radius = arena.take(n.wide);
    width = arena.take(n.wide);
    used = arena.used();
  }
};

// What lives between the steps of one tile.
template <class S> struct EdgeTile {
  Rows<S> in, d_in;  // shared columns, and their gradient
  Rows<S> state[EDGE_DEGREES], d_state;
  Rows<S> h[EDGE_DEGREES], dh[EDGE_DEGREES], dy[EDGE_DEGREES];
  int64_t used;

  EdgeTile(const Edge *p, S *base) {
    const EdgeSizes<S> n(p);
    const int64_t rows = 2 * EDGE_TILE;
    const bool cx = p->is_complex;
    Arena<S> arena(base);
    in = arena.rows(rows, n.inputs, cx);
    d_in = arena.rows(rows, n.inputs, cx);
    d_state = arena.rows(rows, n.state, cx);
    for (int l = 0; l < p->degrees; l++) {
      state[l] = arena.rows(l < p->state_used ? rows : 0, n.state, cx);
      h[l] = arena.rows(rows, n.wide, cx);
      dh[l] = arena.rows(p->order ? rows : 0, n.wide, cx);
      dy[l] = arena.rows(p->order ? EDGE_TILE : 0, n.wide, cx);
    }
    used = arena.used();
  }
};

// Gradients of the dots of many pairs, and behind them what they change by, from some
// pair on.
template <class S> struct EdgeKept {
  Rows<S> rows[2];
  int64_t used;

  EdgeKept(const Edge *p, S *base, int64_t room, int64_t pair) {
    const EdgeSizes<S> n(p);
    Arena<S> arena(base);
    for (Rows<S> &part : rows)
      part = arena.rows(room, n.inputs, p->is_complex);
    used = arena.used();
    if (!base) return;
    for (Rows<S> &part : rows) part = from(part, pair, 0);
  }
};

// ------------------------------------------------------------------- beginning

template <class S, bool CX>
void edge_weights(const Edge *p, const EdgeShared<S> &to) {
  const EdgeSizes<S> n(p);
  for (int l = 0; l < p->degrees; l++) {
    const int64_t in = n.columns(p, l);
    const Operand &w = p->weights[l];
    const Rows<S> none = {nullptr, nullptr, 0};
    const bool again = p->order != 1 || !p->mixed.value;  // multiply by W
    pack<S, CX>((const S *)w.value, p->channels, in, p->order ? to.weight[l] : none,
                again ? to.turned[l] : none);
    if (w.tangent)
      pack<S, CX>((const S *)w.tangent, p->channels, in, to.d_weight[l], to.d_turned[l]);
  }
  clamped<S>(p->radius.value, p->channels, to.radius, to.radius_sign);
  clamped<S>(p->width.value, p->channels, to.width, to.width_sign);
  const S *r = (const S *)p->radius.tangent, *w = (const S *)p->width.tangent;
  for (int64_t c = 0; c < n.wide; c++) {
    to.d_radius[c] = r && c < p->channels ? r[c] * to.radius_sign[c] : S(0);
    to.d_width[c] = w && c < p->channels ? w[c] * to.width_sign[c] : S(0);
  }
}

template <class S, bool CX>
void edge_nodes(const Edge *p, const EdgeShared<S> &to, int64_t first, int64_t last) {
  const EdgeSizes<S> n(p);
  const int64_t side = (int64_t)p->dot_degrees * p->dot_degrees;
  const int64_t row = p->channels * n.planes, step = n.planes * n.wide;
  const auto split_all = [&](const void *from, S *into, int64_t count) {
    if (!from) return;
    for (int64_t k = first * side; k < (last < count ? last : count) * side; k++)
      split<S, CX>((const S *)from + k * row, p->channels, into + k * step,
                   into + k * step + n.wide);
  };
  const auto clear = [&](S *into, int64_t count) {
    const int64_t end = last < count ? last : count;
    if (into && first < end)
      memset(into + first * n.node, 0, (size_t)((end - first) * n.node) * sizeof(S));
  };
  split_all(p->target.value, to.target, p->targets);
  split_all(p->target.tangent, to.d_target, p->targets);
  clear(to.to_target, p->targets);
  split_all(p->source.value, to.source, p->sources);
  split_all(p->source.tangent, to.d_source, p->sources);
  if (p->source.value) clear(to.to_source, p->sources);
}

// --------------------------------------------------------------------- inputs

// Dot products of one pair, or what they change by.
template <class S, bool CX>
INLINE void pair_dots(const Edge *p, const EdgeSizes<S> &n, const S *a, const S *b,
                      const S *da, const S *db, S *re, S *im) {
  typedef typename Type<S>::U U;
  for (int l = 0; l < p->dot_degrees; l++) {
    // in this order: what pads a row of channels is written over by the next
    for (int64_t c = 0; c < n.wide; c += lanes<S>()) {
      Vec<S> r = {}, i = {};
      const auto add = [&](const S *x, const S *y) {
        const Vec<S> xr = *(const U *)x, yr = *(const U *)y;
        r += xr * yr;
        if (!CX) return;
        const Vec<S> xi = *(const U *)(x + n.wide), yi = *(const U *)(y + n.wide);
        r -= xi * yi;
        i += xr * yi;
        i += xi * yr;
      };
      for (int64_t m = (int64_t)l * l; m < (int64_t)(l + 1) * (l + 1); m++) {
        const int64_t at = m * n.planes * n.wide + c;
        if (!da && !db) add(a + at, b + at);
        if (da) add(da + at, b + at);
        if (db) add(a + at, db + at);
      }
      *(U *)(re + l * p->channels + c) = r;
      if (CX) *(U *)(im + l * p->channels + c) = i;
    }
  }
}

template <class S> INLINE void clear_row(const Rows<S> &x, int64_t row, int64_t from_col) {
  const size_t bytes = (size_t)(x.row - from_col) * sizeof(S);
  memset(x.re + row * x.row + from_col, 0, bytes);
  memset(x.im + row * x.row + from_col, 0, bytes);
}

// Rows of a tensor of pairs as planes, zeros where there is none.
template <class S, bool CX>
INLINE void read_row(const void *from, int64_t at, int64_t count, const Rows<S> &to,
                     int64_t row, int64_t col) {
  if (!from) return clear_row(to, row, col);
  const int64_t k = row * to.row + col;
  split<S, CX>((const S *)from + at * count * (CX ? 2 : 1), count, to.re + k, to.im + k);
}

template <class S, bool CX>
INLINE void edge_inputs(const Edge *p, const EdgeSizes<S> &n, const EdgeShared<S> &all,
                        const EdgeTile<S> &t, int64_t first, int64_t count, bool values,
                        bool dual) {
  const int64_t radial = (int64_t)p->dot_degrees * p->channels;
  for (int64_t k = 0; k < count; k++) {
    const int64_t e = first + k, i = p->index_a[e] * n.node, j = p->index_b[e] * n.node;
    for (int d = values ? 0 : 1; d < (dual ? 2 : 1); d++) {
      const int64_t row = d * count + k;
      const S *da = d && all.d_target ? all.d_target + i : nullptr;
      const S *db = d && all.d_source ? all.d_source + j : nullptr;
      S *re = t.in.re + row * n.inputs, *im = t.in.im + row * n.inputs;
      if (d && !da && !db)
        clear_row(t.in, row, 0);
      else
        pair_dots<S, CX>(p, n, all.target + i, all.source + j, da, db, re, im);
      if (p->radials)
        read_row<S, CX>(d ? p->radial.tangent : p->radial.value, e, p->radials, t.in,
                        row, radial);
      for (int l = 0; l < p->state_used; l++)
        read_row<S, CX>(d ? p->state.tangent : p->state.value, e * p->state_rows + l,
                        p->state_channels, t.state[l], row, 0);
    }
  }
}

// First column of the inputs that degree l reads, and how many there are.
INLINE int64_t first_of(const Edge *p, int l) {
  return p->columns[4 * l + 1] ? 0 : (int64_t)p->dot_degrees * p->channels;
}
INLINE int64_t count_of(const Edge *p, int l) {
  return p->columns[4 * l + 1] + p->columns[4 * l + 2];
}

// h (+)= W a for some rows.
template <class S, bool CX>
INLINE void times_weights(const Edge *p, const EdgeTile<S> &t, const Rows<S> *turned,
                          int64_t from_row, int64_t rows, int64_t to_row, bool add) {
  if (!rows) return;
  for (int l = 0; l < p->degrees; l++) {
    const Rows<S> h = from(t.h[l], to_row, 0);
    product<S, CX>(rows, count_of(p, l), p->channels,
                   factor(from(t.in, from_row, first_of(p, l))),
                   from(turned[l], p->columns[4 * l], 0), h, add);
    if (l < p->state_used)
      product<S, CX>(rows, p->state_channels, p->channels,
                     factor(from(t.state[l], from_row, 0)), turned[l], h, true);
  }
}

// ----------------------------------------------------------------------- mask

// Which derivatives of a tile there are.
struct EdgeNeeds {
  bool inputs, mask, weights;          // gradients
  bool d_inputs, d_mask, d_weights;    // tangents
  explicit EdgeNeeds(const Edge *p) {
    inputs = p->target.gradient || p->source.gradient || p->state.gradient ||
             p->radial.gradient;
    mask = p->length.gradient || p->rows.gradient || p->radius.gradient ||
           p->width.gradient;
    d_inputs = p->target.tangent || p->source.tangent || p->state.tangent ||
               p->radial.tangent;
    d_mask = p->length.tangent || p->rows.tangent || p->radius.tangent ||
             p->width.tangent;
    if (p->mixed.gradient) d_mask = false;  // it ends at W a
    weights = d_weights = false;
    for (int l = 0; l < p->degrees; l++) {
      weights |= p->weights[l].gradient != nullptr;
      d_weights |= p->weights[l].tangent != nullptr;
    }
  }
};

// y = mask h in the forward pass; dh and gradients of the mask in the others.
template <class S, bool CX, class N>
INLINE void edge_mask(const Edge *p, const EdgeSizes<S> &n, const EdgeShared<S> &all,
                      const EdgeTile<S> &t, const EdgeSums<S> &sums, int64_t first,
                      int64_t count, bool dual, const EdgeNeeds &needs) {
  typedef typename Type<S>::U U;
  constexpr int W = lanes<S>();
  N zero, one;
  set<S>(zero, Vec<S>{}, Vec<S>{});
  set<S>(one, Vec<S>{} + S(1), Vec<S>{});
  const bool more = p->order == 1 && p->mixed.tangent;
  for (int64_t k = 0; k < count; k++) {
    const int64_t e = first + k;
    const S r = p->length.value ? ((const S *)p->length.value)[e] : S(1);
    const S dr = p->length.tangent ? ((const S *)p->length.tangent)[e] : S(0);
    const Envelope<S> outer(p, r);
    N length, envelope, slope;
    set<S>(length, Vec<S>{} + r, Vec<S>{} + dr);
    set<S>(envelope, Vec<S>{} + outer.value, Vec<S>{} + outer.slope * dr);
    set<S>(slope, Vec<S>{} + outer.slope, Vec<S>{} + outer.bend * dr);
    Vec<S> by_length = {};
    for (int64_t c = 0; c < n.wide; c += W) {
      const auto at = [&](const S *x) { return Vec<S>(*(const U *)(x + c)); };
      Mask<N> soft;
      if (p->mask == MASK_ROWS) {
        const auto row = [&](const void *x) {
          if (!x) return Vec<S>{};
          const S *begin = (const S *)x + e * p->channels;
          return load(begin + c, begin + p->channels);
        };
        set<S>(soft.value, row(p->rows.value), row(p->rows.tangent));
        soft.by_length = soft.by_radius = soft.by_width = zero;
      } else {
        N radius, width;
        set<S>(radius, at(all.radius), at(all.d_radius));
        set<S>(width, at(all.width), at(all.d_width));
        soft_mask(p->mask, length, radius, width, zero, one, soft);
      }
      const N mask = soft.value * envelope;
      N g = zero;
      for (int l = 0; l < p->degrees; l++) {
        const int64_t row = k * n.wide + c, behind = (count + k) * n.wide + c;
        for (int plane = 0; plane < (CX ? 2 : 1); plane++) {
          S *h = plane ? t.h[l].im : t.h[l].re;
          if (!p->order) {
            *(U *)(h + row) = mask.v * *(const U *)(h + row);
            continue;
          }
          S *dh = plane ? t.dh[l].im : t.dh[l].re;
          const Vec<S> dy = *(const U *)((plane ? t.dy[l].im : t.dy[l].re) + row);
          const Vec<S> value = *(const U *)(h + row);
          Vec<S> back = mask.v * dy;
          if (more) back += *(const U *)(dh + row);
          *(U *)(dh + row) = back;
          N now;
          set<S>(now, value, dual ? Vec<S>(*(const U *)(h + behind)) : Vec<S>{});
          N with;
          set<S>(with, dy, Vec<S>{});
          g = g + now * with;
          if (!dual) continue;
          *(U *)(dh + behind) = last(mask) * dy;
          *(U *)(h + behind) = last(mask * now);
        }
      }
      if (!needs.mask) continue;
      if (p->rows.gradient) {
        S *to = (S *)p->rows.gradient + e * p->channels + c;
        store(to, last(g), p->channels - c);
      }
      by_length += last(g * (soft.by_length * envelope + soft.value * slope));
      if (p->radius.gradient)
        *(U *)(sums.radius + c) += last(g * soft.by_radius * envelope) * at(all.radius_sign);
      if (p->width.gradient)
        *(U *)(sums.width + c) += last(g * soft.by_width * envelope) * at(all.width_sign);
    }
    if (p->length.gradient) {
      S sum = 0;
      for (int q = 0; q < W; q++) sum += by_length[q];
      ((S *)p->length.gradient)[e] = sum;
    }
  }
}

// ------------------------------------------------------------------ gradients

// da (+)= W^H dh for some rows: shared columns.
template <class S, bool CX>
INLINE void shared_gradient(const Edge *p, const EdgeTile<S> &t, const Rows<S> *weight,
                            int64_t from_row, int64_t rows, int64_t to_row, bool add) {
  for (int l = 0; l < p->degrees; l++)
    product<S, CX, -1>(rows, p->channels, count_of(p, l), factor(from(t.dh[l], from_row, 0)),
                       from(weight[l], 0, p->columns[4 * l]),
                       from(t.d_in, to_row, first_of(p, l)), add || l > 0);
}

template <class S, bool CX>
INLINE void state_gradient(const Edge *p, const EdgeShared<S> &all, const EdgeTile<S> &t,
                           const EdgeNeeds &needs, int64_t first, int64_t count,
                           bool dual) {
  const int64_t row = p->state_channels * (CX ? 2 : 1);
  S *to = (S *)p->state.gradient + first * p->state_rows * row;
  for (int l = 0; l < p->state_rows; l++, to += row) {
    const bool values = !dual || needs.d_mask, used = l < p->state_used;
    const bool changes = dual && used && p->weights[l].tangent;
    const bool there = used && (values || changes);
    if (there && values)
      product<S, CX, -1>(count, p->channels, p->state_channels,
                         factor(from(t.dh[l], dual ? count : 0, 0)), all.weight[l],
                         t.d_state, false);
    if (there && changes)
      product<S, CX, -1>(count, p->channels, p->state_channels, factor(t.dh[l]),
                         all.d_weight[l], t.d_state, values);
    for (int64_t k = 0; k < count; k++) {
      S *out = to + k * p->state_rows * row;
      if (there)
        join<S, CX>(out, p->state_channels, t.d_state.re + k * t.d_state.row,
                    t.d_state.im + k * t.d_state.row, false);
      else
        memset(out, 0, (size_t)row * sizeof(S));
    }
  }
}

template <class S, bool CX>
INLINE void weight_gradient(const Edge *p, const EdgeTile<S> &t, const EdgeSums<S> &sums,
                            int64_t dh_row, int64_t in_row, int64_t count) {
  for (int l = 0; l < p->degrees; l++) {
    if (!p->weights[l].gradient) continue;
    const Factor<S> dh = turned(from(t.dh[l], dh_row, 0));
    product<S, CX, -1>(p->channels, count, count_of(p, l), dh,
                       from(t.in, in_row, first_of(p, l)),
                       from(sums.weight[l], 0, p->columns[4 * l]), true);
    if (l < p->state_used)
      product<S, CX, -1>(p->channels, count, p->state_channels, dh,
                         from(t.state[l], in_row, 0), sums.weight[l], true);
  }
}

// to += conj(x) d, degree by degree, where to and x are nodes.
template <class S, bool CX>
INLINE void add_node(const Edge *p, const EdgeSizes<S> &n, S *to, const S *x,
                     const S *re, const S *im) {
  typedef typename Type<S>::U U;
  for (int64_t c = 0; c < n.wide; c += lanes<S>()) {
    int64_t m = 0;
    for (int l = 0; l < p->dot_degrees; l++) {
      const Vec<S> dr = *(const U *)(re + l * p->channels + c);
      const Vec<S> di = CX ? Vec<S>(*(const U *)(im + l * p->channels + c)) : dr;
      for (; m < (int64_t)(l + 1) * (l + 1); m++) {
        const int64_t at = m * n.planes * n.wide + c;
        const Vec<S> xr = *(const U *)(x + at);
        Vec<S> r = *(const U *)(to + at) + dr * xr;
        if (CX) {
          const Vec<S> xi = *(const U *)(x + at + n.wide);
          Vec<S> i = *(const U *)(to + at + n.wide) + di * xr;
          r += di * xi;
          i -= dr * xi;
          *(U *)(to + at + n.wide) = i;
        }
        *(U *)(to + at) = r;
      }
    }
  }
}

// Gradients of nodes from those of the dots of some pairs; those of nodes that `owner`
// owns, in the order of the pairs.
template <class S, bool CX>
void edge_scatter(const Edge *p, const EdgeShared<S> &all, int64_t first, int64_t count,
                  const Rows<S> &values, const Rows<S> &tangents, bool moved,
                  int64_t owner, int64_t owners) {
  const EdgeSizes<S> n(p);
  const auto add = [&](S *to, const S *x, const S *dx, int64_t k) {
    const int64_t at = k * values.row;
    add_node<S, CX>(p, n, to, x, values.re + at, values.im + at);
    if (dx && moved) add_node<S, CX>(p, n, to, dx, tangents.re + at, tangents.im + at);
  };
  for (int64_t k = 0; k < count; k++) {
    const int64_t i = p->index_a[first + k], j = p->index_b[first + k];
    if (all.to_target && i % owners == owner)
      add(all.to_target + i * n.node, all.source + j * n.node,
          all.d_source ? all.d_source + j * n.node : nullptr, k);
    if (all.to_source && j % owners == owner)
      add(all.to_source + j * n.node, all.target + i * n.node,
          all.d_target ? all.d_target + i * n.node : nullptr, k);
  }
}

// ----------------------------------------------------------------------- tile

template <class S, bool CX>
void edge_tile(const Edge *p, const EdgeShared<S> &all, const EdgeTile<S> &t,
               const EdgeSums<S> &sums, const EdgeNeeds &needs, int64_t first,
               int64_t count, const Rows<S> *later) {
  const EdgeSizes<S> n(p);
  const bool dual = p->order == 2, known = p->order && p->mixed.value;
  const bool inputs = !known || needs.d_weights ||
                      (needs.weights && (!dual || needs.d_mask));
  edge_inputs<S, CX>(p, n, all, t, first, count, inputs, dual);
  const bool changes = dual && needs.d_inputs;
  const int64_t skip = known ? count : 0;
  times_weights<S, CX>(p, t, all.turned, skip, (changes ? 2 * count : count) - skip, skip,
                       false);
  const auto kept_row = [&](const void *base, int64_t k, int l) {
    const int64_t row = p->channels * n.planes;
    return (S *)base + ((first + k) * p->degrees + l) * row;
  };
  const auto each = [&](const auto &work) {
    for (int l = 0; l < p->degrees; l++)
      for (int64_t k = 0; k < count; k++) work(k, l, k * n.wide);
  };
  if (known)
    each([&](int64_t k, int l, int64_t at) {
      split<S, CX>(kept_row(p->mixed.value, k, l), p->channels, t.h[l].re + at,
                   t.h[l].im + at);
    });
  else if (p->mixed.value)
    each([&](int64_t k, int l, int64_t at) {
      join<S, CX>(kept_row(p->mixed.value, k, l), p->channels, t.h[l].re + at,
                  t.h[l].im + at, false);
    });
  if (p->order == 1 && p->mixed.tangent)
    each([&](int64_t k, int l, int64_t at) {
      split<S, CX>(kept_row(p->mixed.tangent, k, l), p->channels, t.dh[l].re + at,
                   t.dh[l].im + at);
    });
  if (dual && !changes)
    for (int l = 0; l < p->degrees; l++)
      for (int64_t k = count; k < 2 * count; k++) clear_row(t.h[l], k, 0);
  if (dual && needs.d_weights)
    for (int l = 0; l < p->degrees; l++) {
      if (!p->weights[l].tangent) continue;
      const Rows<S> h = from(t.h[l], count, 0);
      product<S, CX>(count, count_of(p, l), p->channels,
                     factor(from(t.in, 0, first_of(p, l))),
                     from(all.d_turned[l], p->columns[4 * l], 0), h, true);
      if (l < p->state_used)
        product<S, CX>(count, p->state_channels, p->channels, factor(t.state[l]),
                       all.d_turned[l], h, true);
    }
  if (p->order)
    each([&](int64_t k, int l, int64_t) {
      read_row<S, CX>(p->grad, (first + k) * p->degrees + l, p->channels, t.dy[l], k, 0);
    });
  if (dual)
    edge_mask<S, CX, Dual<S>>(p, n, all, t, sums, first, count, true, needs);
  else
    edge_mask<S, CX, Plain<S>>(p, n, all, t, sums, first, count, false, needs);
  const int64_t last_row = dual ? count * n.wide : 0;
  if (p->out)
    each([&](int64_t k, int l, int64_t at) {
      join<S, CX>(kept_row(p->out, k, l), p->channels, t.h[l].re + last_row + at,
                  t.h[l].im + last_row + at, false);
    });
  if (p->mixed.gradient)
    each([&](int64_t k, int l, int64_t at) {
      join<S, CX>(kept_row(p->mixed.gradient, k, l), p->channels,
                  t.dh[l].re + last_row + at, t.dh[l].im + last_row + at, false);
    });
  if (!p->order) return;

  if (needs.weights) {
    if (!dual || needs.d_mask)
      weight_gradient<S, CX>(p, t, sums, dual ? count : 0, 0, count);
    if (dual && needs.d_inputs) weight_gradient<S, CX>(p, t, sums, 0, count, count);
  }
  if (p->state.gradient) state_gradient<S, CX>(p, all, t, needs, first, count, dual);
  const bool nodes = all.to_target || all.to_source;
  if (!nodes && !p->radial.gradient) return;

  // rows of d_in: gradients, and behind them what they change by
  const bool moved = dual && nodes && (all.d_target || all.d_source);
  const int64_t at = dual ? count : 0;
  const bool whole = !dual || needs.d_mask;
  if (moved || !dual)
    shared_gradient<S, CX>(p, t, all.weight, 0, moved && whole ? 2 * count : count, 0,
                           false);
  else if (whole)
    shared_gradient<S, CX>(p, t, all.weight, count, count, count, false);
  if (dual && !whole)
    for (int64_t k = count; k < 2 * count; k++) clear_row(t.d_in, k, 0);
  if (dual && needs.d_weights)
    for (int l = 0; l < p->degrees; l++)
      if (p->weights[l].tangent)
        product<S, CX, -1>(count, p->channels, count_of(p, l), factor(t.dh[l]),
                           from(all.d_weight[l], 0, p->columns[4 * l]),
                           from(t.d_in, count, first_of(p, l)), true);
  if (p->radial.gradient) {
    const int64_t col = (int64_t)p->dot_degrees * p->channels, wide = p->radials * n.planes;
    for (int64_t k = 0; k < count; k++) {
      const int64_t from_at = (at + k) * n.inputs + col;
      join<S, CX>((S *)p->radial.gradient + (first + k) * wide, p->radials,
                  t.d_in.re + from_at, t.d_in.im + from_at, false);
    }
  }
  if (!nodes) return;
  const Rows<S> values = from(t.d_in, at, 0), tangents = t.d_in;
  if (!later) return edge_scatter<S, CX>(p, all, first, count, values, tangents, moved, 0, 1);
  for (int d = 0; d < (moved ? 2 : 1); d++) {
    const Rows<S> &rows = d ? tangents : values;
    memcpy(later[d].re, rows.re, (size_t)(count * n.inputs) * sizeof(S));
    if (CX) memcpy(later[d].im, rows.im, (size_t)(count * n.inputs) * sizeof(S));
  }
}

// Pairs [first, last). Gradients of nodes are added at once, or their rows are kept for
// edge_scatter: in `later` from pair `base` on.
template <class S, bool CX>
void edge_run(const Edge *p, int64_t first, int64_t last, S *shared, S *sums, S *later,
              int64_t base, int64_t room, S *scratch) {
  const EdgeShared<S> all(p, shared);
  const EdgeSums<S> total(p, sums);
  const EdgeTile<S> tile(p, scratch);
  const EdgeNeeds needs(p);
  for (int64_t k = 0; k < 2 * EDGE_TILE; k++) clear_row(tile.in, k, 0);
  for (int64_t at = first; at < last; at += EDGE_TILE) {
    const int64_t count = last - at < EDGE_TILE ? last - at : EDGE_TILE;
    const EdgeKept<S> kept(p, later, room, at - base);
    edge_tile<S, CX>(p, all, tile, total, needs, at, count, later ? kept.rows : nullptr);
  }
}

template <class S, bool CX>
void edge_collect(const Edge *p, int64_t first, int64_t last, S *shared, S *later,
                  int64_t room, int64_t owner, int64_t owners) {
  const EdgeShared<S> all(p, shared);
  const EdgeKept<S> kept(p, later, room, 0);
  const bool moved = p->order == 2 && (all.d_target || all.d_source);
  edge_scatter<S, CX>(p, all, first, last - first, kept.rows[0], kept.rows[1], moved,
                      owner, owners);
}

// ------------------------------------------------------------------------ end

template <class S, bool CX>
void edge_finish_nodes(const Edge *p, const EdgeShared<S> &all, int64_t first,
                       int64_t last) {
  const EdgeSizes<S> n(p);
  const int64_t side = (int64_t)p->dot_degrees * p->dot_degrees;
  const int64_t row = p->channels * n.planes, step = n.planes * n.wide;
  const auto join_all = [&](void *to, const S *x, int64_t count) {
    if (!to) return;
    for (int64_t k = first * side; k < (last < count ? last : count) * side; k++)
      join<S, CX>((S *)to + k * row, p->channels, x + k * step, x + k * step + n.wide,
                  false);
  };
  join_all(p->target.gradient, all.to_target, p->targets);
  if (p->source.value) join_all(p->source.gradient, all.to_source, p->sources);
}

// Sums of the blocks in their order.
template <class S, bool CX>
void edge_finish_sums(const Edge *p, S *sums, int64_t blocks) {
  const EdgeSizes<S> n(p);
  const EdgeSums<S> total(p, sums);
  for (int64_t b = 1; b < blocks; b++)
    for (int64_t k = 0; k < total.used; k++) sums[k] += sums[b * total.used + k];
  for (int l = 0; l < p->degrees; l++) {
    const int64_t in = n.columns(p, l);
    S *to = (S *)p->weights[l].gradient;
    if (!to) continue;
    memset(to, 0, (size_t)(in * p->channels * n.planes) * sizeof(S));
    unpack<S, CX>(total.weight[l], p->channels, in, to);
  }
  const size_t bytes = (size_t)p->channels * sizeof(S);
  if (p->radius.gradient) memcpy(p->radius.gradient, total.radius, bytes);
  if (p->width.gradient) memcpy(p->width.gradient, total.width, bytes);
}

}  // namespace
