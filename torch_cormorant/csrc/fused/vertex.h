// The vertex step of one instruction set: tiles of a few nodes, all degrees at once.
//
// With rows z = (aggregate, x, square of x) and weights W: out = W z, dz = W^H grad,
// dW = grad z^H. The step is linear in W and in the aggregate and quadratic in x, so
// the derivatives of the gradients along tangents (a', x', W') need z' = (a', x',
// x (x) x' + x' (x) x) and W' in the same three products: dual numbers, written out.
#pragma once
#include "../products.h"
#include "mixing.h"

namespace {

constexpr int TILE = 8;                                  // nodes
constexpr int MOST_ROWS = TILE * (2 * MAX_DEGREES - 1);  // of one degree in a tile
enum Kind { AGGREGATE, IDENTITY, SQUARE, KINDS };

// Where things lie, in numbers: `plain` [planes, outs, padded columns] (and the sums of
// gradients), `turned` [columns, planes, padded outs].
template <class S> struct VertexLayout {
  int64_t columns[MAX_DEGREES][KINDS], plain[MAX_DEGREES][KINDS],
      turned[MAX_DEGREES][KINDS], square[MAX_DEGREES];
  int64_t sums = 0, set = 0, squares = 0, scratch = 0;
  int side, planes, wide;

  explicit VertexLayout(const Vertex *p) {
    planes = p->is_complex ? 2 : 1;
    wide = planes * p->channels;
    side = p->components;
    for (int l = 0; l <= p->lmax; l++)
      for (int q = 0; q < KINDS; q++) {
        columns[l][q] = (int64_t)p->blocks[4 * l + q] * p->channels;
        plain[l][q] = sums;
        sums += planes * p->outs * padded<S>(columns[l][q]);
      }
    set = sums;
    for (int l = 0; l <= p->lmax; l++) {
      for (int q = 0; q < KINDS; q++) {
        turned[l][q] = set;
        set += columns[l][q] * planes * padded<S>(p->outs);
      }
      square[l] = squares;
      squares += padded<S>((2 * l + 1) * TILE * columns[l][SQUARE] * planes);
    }
    const int64_t table = (int64_t)p->cg.first * p->cg.second;
    scratch = 3 * squares + lanes<S>() * (table + p->cg.rows);
  }
};

// ------------------------------------------------------------------------- weights

// Columns of equal paths of the square summed, the rest as it is; then turned.
template <class S>
void pack_weights(const Vertex *p, const VertexLayout<S> &lay, const void *const *from,
                  S *to) {
  const int64_t c = p->channels, outs = p->outs;
  memset(to, 0, sizeof(S) * lay.sums);
  const int32_t *fold = p->fold;
  for (int l = 0; l <= p->lmax; l++) {
    const int64_t all = p->blocks[4 * l + 3] * c;
    const int squares = p->blocks[4 * l + SQUARE];
    for (int64_t row = 0; row < lay.planes * outs; row++) {
      const S *w = (const S *)from[l] + row * all;
      for (int q = 0; q < SQUARE; q++) {
        const int64_t count = lay.columns[l][q];
        memcpy(to + lay.plain[l][q] + row * padded<S>(count), w, sizeof(S) * count);
        w += count;
      }
      w = (const S *)from[l] + row * all;
      S *s = to + lay.plain[l][SQUARE] + row * padded<S>(lay.columns[l][SQUARE]);
      for (int b = 0; b < squares; b++, s += c) {
        const int32_t *f = fold + 3 * b;
        const S *one = w + f[0] * c, *two = w + f[1] * c, sign = (S)f[2];
        for (int64_t k = 0; k < c; k++) s[k] = f[1] < 0 ? one[k] : one[k] + sign * two[k];
      }
    }
    fold += 3 * squares;
  }
}

template <class S>
void turn_weights(const Vertex *p, const VertexLayout<S> &lay, S *set) {
  const int64_t outs = p->outs, wide = padded<S>(outs);
  for (int l = 0; l <= p->lmax; l++)
    for (int q = 0; q < KINDS; q++) {
      const int64_t count = lay.columns[l][q], from_wide = padded<S>(count);
      const S *from = set + lay.plain[l][q];
      S *to = set + lay.turned[l][q];
      for (int64_t k = 0; k < count; k++)
        for (int z = 0; z < lay.planes; z++, to += wide) {
          const S *column = from + z * outs * from_wide + k;
          for (int64_t o = 0; o < outs; o++) to[o] = column[o * from_wide];
          for (int64_t o = outs; o < wide; o++) to[o] = S(0);
        }
    }
}

// Add up the sums of all blocks of nodes and give folded columns back to their paths.
template <class S> void unpack_gradients(const Vertex *p, S *sums, int64_t count) {
  const VertexLayout<S> lay(p);
  const int64_t c = p->channels, outs = p->outs;
  for (int64_t b = 1; b < count; b++)
    for (int64_t k = 0; k < lay.sums; k++) sums[k] += sums[b * lay.sums + k];
  const int32_t *fold = p->fold;
  for (int l = 0; l <= p->lmax; l++) {
    const int64_t all = p->blocks[4 * l + 3] * c;
    const int squares = p->blocks[4 * l + SQUARE];
    for (int64_t row = 0; p->dweights[l] && row < lay.planes * outs; row++) {
      S *const begin = (S *)p->dweights[l] + row * all, *w = begin;
      memset(w, 0, sizeof(S) * all);  // paths that vanish have no gradient
      for (int q = 0; q < SQUARE; q++) {
        const int64_t n = lay.columns[l][q];
        memcpy(w, sums + lay.plain[l][q] + row * padded<S>(n), sizeof(S) * n);
        w += n;
      }
      const S *s = sums + lay.plain[l][SQUARE] + row * padded<S>(lay.columns[l][SQUARE]);
      for (int b = 0; b < squares; b++, s += c) {
        const int32_t *f = fold + 3 * b;
        for (int64_t k = 0; k < c; k++) begin[f[0] * c + k] = s[k];
        for (int64_t k = 0; f[1] >= 0 && k < c; k++) begin[f[1] * c + k] = f[2] * s[k];
      }
    }
    fold += 3 * squares;
  }
}

// -------------------------------------------------------------------------- square

template <class S, bool CX> struct Widened {  // all components of a node, one vector
  Vec<S> plain[MAX_SIDE], turned[MAX_SIDE];
  INLINE_MEMBER void read(const S *x, const S *end, int64_t wide, int count) {
    widen_all<S, CX>(x, end, wide, count, plain, turned);
  }
};

template <class S, bool CX>
INLINE Vec<S> product_of(const Widened<S, CX> &x, int m, const Vec<S> &y) {
  return CX ? x.plain[m] * y + x.turned[m] * swap(y) : x.plain[m] * y;
}

// Folded square of the nodes of a tile, or with `along` its derivative.
template <class S, bool CX>
void square_rows(const Vertex *p, const VertexLayout<S> &lay, int64_t node, int count,
                 const S *along, S *to, Vec<S> *T) {
  void *out[MAX_DEGREES];
  for (int l = 0; l <= p->lmax; l++) out[l] = to + lay.square[l];
  const int64_t wide = lay.wide, row = lay.side * wide;
  const S *x = (const S *)p->x, *end = x + p->nodes * row;
  Widened<S, CX> one;
  for (int t = 0; t < count; t++)
    for (int64_t at = 0; at < wide; at += lanes<S>()) {
      const int64_t start = (node + t) * row + at;
      one.read(x + start, end, wide, lay.side);
      for (int64_t k = 0; k < p->pairs; k++) {
        const int32_t *pair = p->used + 3 * k;
        const int a = pair[1], b = pair[2];
        if (!along) {
          T[pair[0]] = product_of(one, a, load(x + start + b * wide, end));
        } else {
          const S *v = along + start, *v_end = along + p->nodes * row;
          T[pair[0]] = product_of(one, a, load(v + b * wide, v_end)) +
                       product_of(one, b, load(v + a * wide, v_end));
        }
      }
      contract<S>(p->cg, T, out, p->square_rows, t, wide, at);
    }
}

// Add to dx what follows from gradients of the square, at the point x.
template <class S, bool CX>
void square_gradient(const Vertex *p, const VertexLayout<S> &lay, int64_t node,
                     int count, const S *x, const S *from, Vec<S> *T) {
  void *rows_of[MAX_DEGREES];
  for (int l = 0; l <= p->lmax; l++) rows_of[l] = (void *)(from + lay.square[l]);
  Vec<S> *rows = T + (int64_t)p->cg.first * p->cg.second;
  const int64_t wide = lay.wide, row = lay.side * wide;
  const S *end = x + p->nodes * row;
  Widened<S, CX> one;
  Vec<S> d[MAX_SIDE], turned[MAX_SIDE];
  for (int t = 0; t < count; t++)
    for (int64_t at = 0; at < wide; at += lanes<S>()) {
      spread<S>(p->cg, T, rows_of, p->square_rows, TILE, t, wide, at, rows);
      one.read(x + (node + t) * row + at, end, wide, lay.side);
      for (int m = 0; m < lay.side; m++) d[m] = turned[m] = Vec<S>{};
      for (int64_t k = 0; k < p->pairs; k++) {
        const int32_t *pair = p->used + 3 * k;
        const Vec<S> u = T[pair[0]];
        for (int s = 1; s <= 2; s++) {
          d[pair[s]] += one.plain[pair[3 - s]] * u;
          if (CX) turned[pair[s]] += one.turned[pair[3 - s]] * u;
        }
      }
      S *to = (S *)p->dx + (node + t) * row + at;
      for (int m = 0; m < lay.side; m++, to += wide) {
        const Vec<S> v = CX ? d[m] + swap(turned[m]) : d[m];
        store(to, load(to, to + (wide - at)) + v, wide - at);
      }
    }
}

// --------------------------------------------------------------------------- tiles

// Rows of one degree in a tile: of the three kinds of features, or of results.
template <class S> struct TileRows {
  S *at[KINDS][MOST_ROWS];
};

template <class S>
INLINE void point(S **to, const void *base, int64_t node, int count, int l,
                  int components, int64_t wide) {
  S *from = (S *)base + (node * components + (int64_t)l * l) * wide;
  for (int t = 0; t < count; t++, from += components * wide)
    for (int m = 0; m < 2 * l + 1; m++) *to++ = from + m * wide;
}

template <class S>
void point_rows(TileRows<S> &to, const Vertex *p, const VertexLayout<S> &lay, int64_t node,
                int count, int l, const void *const *rows, const void *x,
                const S *square) {
  const int m = 2 * l + 1;
  const int64_t sums = lay.columns[l][AGGREGATE] * lay.planes;
  const int64_t squares = lay.columns[l][SQUARE] * lay.planes;
  for (int r = 0; r < count * m; r++) {
    if (rows && rows[l]) to.at[AGGREGATE][r] = (S *)rows[l] + (node * m + r) * sums;
    to.at[SQUARE][r] = (S *)square + lay.square[l] + r * squares;
  }
  if (x && lay.columns[l][IDENTITY])
    point(to.at[IDENTITY], x, node, count, l, lay.side, lay.wide);
}

template <class S, bool CX> class VertexTile {
 public:
  VertexTile(const Vertex *p, const S *packed, S *sums, S *scratch)
      : p_(p), lay_(p), weights_(packed), along_(packed + lay_.set), sums_(sums),
        square_(scratch), square_along_(scratch + lay_.squares),
        back_(scratch + 2 * lay_.squares), T_((Vec<S> *)(back_ + lay_.squares)) {
    second_ = p->second;
    has_weights_ = second_ && p->tangent_weights;
    const bool values = !second_ && (p->out || p->dweights);
    need_square_ = p->pairs && (values || (has_weights_ && p->out));
    need_along_ = p->pairs && second_ && p->tangent_x && (p->out || p->dweights);
  }

  void run(int64_t node, int count) {
    const S *x = (const S *)p_->x, *x_along = (const S *)p_->tangent_x;
    if (need_square_)
      square_rows<S, CX>(p_, lay_, node, count, nullptr, square_, T_);
    if (need_along_) square_rows<S, CX>(p_, lay_, node, count, x_along, square_along_, T_);
    if (p_->dx)
      memset((S *)p_->dx + node * lay_.side * lay_.wide, 0,
             sizeof(S) * count * lay_.side * lay_.wide);
    for (int l = 0; l <= p_->lmax; l++) degree(node, count, l);
    if (!p_->dx || !p_->pairs) return;
    const S *point = second_ ? x_along : x;  // where the weights themselves act
    if (point) {
      back(node, count, weights_);
      square_gradient<S, CX>(p_, lay_, node, count, point, back_, T_);
    }
    if (has_weights_) {
      back(node, count, along_);
      square_gradient<S, CX>(p_, lay_, node, count, x, back_, T_);
    }
  }

 private:
  void degree(int64_t node, int count, int l) {
    const int n = count * (2 * l + 1);
    const int side = (p_->lmax + 1) * (p_->lmax + 1), width = lay_.planes * p_->outs;
    if (p_->grad) point(grad_, p_->grad, node, count, l, side, width);
    const bool values = !second_ || has_weights_;
    if (values) point_rows(z_, p_, lay_, node, count, l, p_->rows, p_->x, square_);
    if (second_)
      point_rows(dz_, p_, lay_, node, count, l, p_->tangent_rows, p_->tangent_x,
                 square_along_);
    if (p_->out) {
      S *out[MOST_ROWS];
      point(out, p_->out, node, count, l, side, width);
      Part<S> parts[2 * KINDS];
      int used = 0;
      for (int q = 0; q < KINDS; q++) {
        if (second_ && here(q, l)) parts[used++] = part(dz_, l, q, weights_);
        if (values && lay_.columns[l][q])
          parts[used++] = part(z_, l, q, second_ ? along_ : weights_);
      }
      mix<S, CX>(parts, used, n, out, p_->outs);
    }
    if (p_->dweights)
      for (int q = 0; q < KINDS; q++)
        if (second_ ? here(q, l) : lay_.columns[l][q] > 0)
          outer<S, CX>(grad_, (second_ ? dz_ : z_).at[q], n, p_->outs,
                       sums_ + lay_.plain[l][q], lay_.columns[l][q]);
    if (second_ && !has_weights_) return;
    const S *matrix = second_ ? along_ : weights_;
    if (p_->drows && p_->drows[l] && lay_.columns[l][AGGREGATE]) {
      const int64_t wide = lay_.columns[l][AGGREGATE] * lay_.planes;
      for (int r = 0; r < n; r++)
        to_[r] = (S *)p_->drows[l] + (node * (2 * l + 1) + r) * wide;
      unmix<S, CX>(grad_, n, matrix + lay_.plain[l][AGGREGATE], p_->outs, to_,
                   lay_.columns[l][AGGREGATE]);
    }
    if (p_->dx && lay_.columns[l][IDENTITY]) {
      point(to_, p_->dx, node, count, l, lay_.side, lay_.wide);
      unmix<S, CX>(grad_, n, matrix + lay_.plain[l][IDENTITY], p_->outs, to_,
                   lay_.columns[l][IDENTITY]);
    }
  }

  // Gradients with respect to the rows of the square.
  void back(int64_t node, int count, const S *matrix) {
    const int side = (p_->lmax + 1) * (p_->lmax + 1), width = lay_.planes * p_->outs;
    for (int l = 0; l <= p_->lmax; l++) {
      const int64_t columns = lay_.columns[l][SQUARE];
      if (!columns) continue;
      const int n = count * (2 * l + 1);
      point(grad_, p_->grad, node, count, l, side, width);
      for (int r = 0; r < n; r++)
        to_[r] = back_ + lay_.square[l] + r * columns * lay_.planes;
      unmix<S, CX>(grad_, n, matrix + lay_.plain[l][SQUARE], p_->outs, to_, columns);
    }
  }

  // Whether there is a tangent of these rows.
  bool here(int q, int l) const {
    if (!lay_.columns[l][q]) return false;
    if (q == AGGREGATE) return p_->tangent_rows && p_->tangent_rows[l];
    return p_->tangent_x;
  }

  Part<S> part(const TileRows<S> &rows, int l, int q, const S *set) const {
    return {rows.at[q], set + lay_.turned[l][q], lay_.columns[l][q]};
  }

  const Vertex *p_;
  const VertexLayout<S> lay_;
  const S *weights_, *along_;  // packed weights and their tangents
  S *sums_, *square_, *square_along_, *back_;
  Vec<S> *T_;
  bool second_, has_weights_, need_square_, need_along_;
  TileRows<S> z_, dz_;
  S *grad_[MOST_ROWS], *to_[MOST_ROWS];
};

template <class S, bool CX>
void vertex_run(const Vertex *p, int64_t first, int64_t last, const S *packed, S *sums,
                S *scratch) {
  VertexTile<S, CX> tile(p, packed, sums, scratch);
  for (int64_t node = first; node < last; node += TILE)
    tile.run(node, (int)(last - node < TILE ? last - node : TILE));
}

template <class S> void vertex_pack(const Vertex *p, S *packed) {
  const VertexLayout<S> lay(p);
  pack_weights(p, lay, p->weights, packed);
  if (p->out) turn_weights(p, lay, packed);
  if (!p->second || !p->tangent_weights) return;
  pack_weights(p, lay, p->tangent_weights, packed + lay.set);
  if (p->out) turn_weights(p, lay, packed + lay.set);
}

template <class S> void vertex_sizes(const Vertex *p, int64_t *sizes) {
  const VertexLayout<S> lay(p);
  sizes[0] = lay.set * (p->second && p->tangent_weights ? 2 : 1);
  sizes[1] = lay.sums;
  sizes[2] = lay.scratch;
}

}  // namespace
