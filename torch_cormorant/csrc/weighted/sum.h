// The weighted neighbour sum and its derivatives for one instruction set and type.
//
// Receiver after receiver, its edges in blocks; path after path, a vector of channels
// at a time. Channels that fill no vector are copied into padded rows and back.
#pragma once
#include "path.h"
#include "problem.h"
#include "spline.h"

namespace {

// Room of one thread, cut from its scratch memory.
template <class S> struct Room {
  static constexpr int W = lanes<S>(), M = 2 * TOP_L + 1;
  Vec<S> *dy;                        // [EDGES][HARMONICS]
  S *y, *uy;                         // [HARMONICS][EDGES]
  S *a, *ua;                         // [ENTRIES][EDGES]
  S *x, *ux, *dx;                    // [EDGES][M][W], padded channels
  S *w, *uw, *dw;                    // [EDGES][W]
  S *out;                            // [M][W]
  S *part, *unused;                  // [EDGES][x_dim], a row of weights
  S *value, *slope, *dvalue;         // [EDGES][channels of a path]

  static int64_t numbers(const Weighted *p) {
    return EDGES * (HARMONICS * W + 2 * HARMONICS + 2 * ENTRIES + 3 * (M + 1) * W) +
           M * W + EDGES * p->x_dim + p->w_dim + 2 * W +
           (p->table || p->seen ? 3 * EDGES * p->w_dim : 0);
  }
  explicit Room(const Weighted *p, void *scratch) {
    S *at = (S *)scratch;
    const auto take = [&at](int64_t count) {
      S *found = at;
      at += count;
      return found;
    };
    dy = (Vec<S> *)take(EDGES * HARMONICS * W);
    y = take(HARMONICS * EDGES), uy = take(HARMONICS * EDGES);
    a = take(ENTRIES * EDGES), ua = take(ENTRIES * EDGES);
    x = take(EDGES * M * W), ux = take(EDGES * M * W), dx = take(EDGES * M * W);
    w = take(EDGES * W), uw = take(EDGES * W), dw = take(EDGES * W);
    out = take(M * W);
    unused = take(p->w_dim + W);
    part = take(EDGES * p->x_dim);
    const int64_t more = p->table || p->seen ? EDGES * p->w_dim : 0;
    value = take(more), slope = take(more), dvalue = take(more);
    memset(y, 0, sizeof(S) * 2 * HARMONICS * EDGES);
  }
};

template <class S> INLINE void add_row(S *to, const S *from, int64_t count) {
  for (int64_t k = 0; k < count; k++) to[k] += from[k];
}

// One block of edges of a receiver: what path after path reads.
template <class S> struct Block {
  const Weighted *p;
  Room<S> &room;
  int64_t node, begin;  // first edge, in the order of the plan
  int count;
  bool fresh, second;   // first block of the receiver; cotangents are read too
  Rows<S> rows;
  Places<S> places;
  bool again[EDGES];    // another edge wrote to its row of dw
  // first numbers of the rows of each edge
  const S *x0[EDGES], *w0[EDGES], *y0[EDGES], *ux0[EDGES], *uw0[EDGES], *uy0[EDGES];
  S *dw0[EDGES];

  Block(const Weighted *p, Room<S> &room, int64_t node, int64_t begin, int64_t end,
        bool fresh, bool second)
      : p(p), room(room), node(node), begin(begin),
        count((int)(end - begin < EDGES ? end - begin : EDGES)), fresh(fresh),
        second(second) {
    rows.count = count;
    for (int q = 0; q < count; q++) {
      const int64_t e = begin + q, j = p->source[e], row = row_of(e), edge = p->edge[e];
      x0[q] = (const S *)p->x + j * p->x_dim;
      w0[q] = (const S *)p->w + row * p->w_dim;
      y0[q] = (const S *)p->sh + edge * p->sh_dim;
      if (p->need_w && !p->table) dw0[q] = (S *)p->dw + dw_row(e) * p->w_dim;
      if (!second) continue;
      ux0[q] = (const S *)p->ux + j * p->ux_step;
      uw0[q] = (const S *)p->uw + row * p->uw_step;
      uy0[q] = (const S *)p->us + edge * p->us_step;
    }
  }

  int64_t row_of(int64_t e) const { return p->row ? p->row[e] : e - p->base; }
  int64_t dw_row(int64_t e) const {
    return p->seen ? p->row[e] : p->row ? p->edge[e] : e - p->base;
  }

  void transpose() {
    for (int q = 0; q < count; q++) {
      for (int m = 0; m < p->sh_dim; m++) room.y[m * EDGES + q] = y0[q][m];
      if (!second) continue;
      for (int m = 0; m < p->sh_dim; m++) room.uy[m * EDGES + q] = uy0[q][m];
    }
  }

  void place(bool slopes) {
    for (int q = 0; p->table && q < count; q++)
      places.set(p, q, ((const S *)p->w)[row_of(begin + q)], slopes);
  }

  void look() {
    for (int q = 0; p->seen && q < count; q++) {
      uint8_t &seen = p->seen[p->row[begin + q]];
      again[q] = seen;
      seen = 1;
    }
  }

  // Add what was kept apart to the rows of dw.
  void add_again(const WeightedPath &path) {
    for (int q = 0; p->seen && q < count; q++)
      if (again[q])
        add_row(dw0[q] + path.w, room.dvalue + q * path.channels, path.channels);
  }

  void aim(const WeightedPath &path, bool slopes = false) {
    if (p->table)
      places.evaluate(path.w, path.channels, count, room.value,
                      slopes ? room.slope : nullptr);
    for (int q = 0; q < count; q++) rows.x[q] = x0[q] + path.x;
    if (p->table)
      for (int q = 0; q < count; q++) rows.w[q] = room.value + q * path.channels;
    else
      for (int q = 0; q < count; q++) rows.w[q] = w0[q] + path.w;
    for (int q = 0; second && q < count; q++) {
      rows.ux[q] = ux0[q] + path.x;
      rows.uw[q] = uw0[q] + path.w;
    }
  }

  // Where gradients go: rows of `part` for x.
  void aim_gradients(const WeightedPath &path, S *part) {
    const int first = path.l2 * path.l2;
    rows.dy = room.dy + first;
    for (int q = 0; q < count; q++) {
      rows.y[q] = y0[q] + first;
      rows.dx[q] = part + q * p->x_dim + path.x;
    }
    for (int q = 0; second && q < count; q++) rows.uy[q] = uy0[q] + first;
    if (!p->need_w)
      for (int q = 0; q < count; q++) rows.dw[q] = room.unused;
    else if (p->table)
      for (int q = 0; q < count; q++) rows.dw[q] = room.dvalue + q * path.channels;
    else
      for (int q = 0; q < count; q++) rows.dw[q] = dw0[q] + path.w;
    for (int q = 0; p->seen && q < count; q++)
      if (again[q]) rows.dw[q] = room.dvalue + q * path.channels;
  }

  S *result(void *const *out, const WeightedPath &path) const {
    const WeightedOut &of = p->of_out[path.out];
    return (S *)out[path.out] + node * of.components * of.wide + path.at;
  }
};

// Copy `count` channels of every component between rows of different width.
template <class S>
INLINE void copy(S *to, int64_t to_step, const S *from, int64_t from_step, int components,
                 int64_t count) {
  for (int m = 0; m < components; m++)
    memcpy(to + m * to_step, from + m * from_step, (size_t)count * sizeof(S));
}

// The channels from `at` on, fewer than a vector, in padded rows of their own.
template <class S> class Tail {
 public:
  static constexpr int W = lanes<S>();
  Tail(const Block<S> &block, const WeightedPath &path, int64_t at)
      : from_(block.rows), room_(block.room), path_(path), at_(at),
        count_(path.channels - at), m1_(2 * path.l1 + 1) {
    const bool second = block.second;
    const size_t bytes = sizeof(S) * W * (size_t)from_.count;
    memset(room_.x, 0, bytes * m1_);
    memset(room_.w, 0, bytes);
    if (second) {
      memset(room_.ux, 0, bytes * m1_);
      memset(room_.uw, 0, bytes);
    }
    rows = from_;
    for (int q = 0; q < from_.count; q++) {
      rows.x[q] = padded(room_.x, q, from_.x[q], m1_);
      rows.w[q] = padded(room_.w, q, from_.w[q], 1);
      if (!second) continue;
      rows.ux[q] = padded(room_.ux, q, from_.ux[q], m1_);
      rows.uw[q] = padded(room_.uw, q, from_.uw[q], 1);
    }
  }
  Strides<S> strides() const { return {W, W}; }
  S *result(const S *out, int64_t wide, bool fill) {
    memset(room_.out, 0, sizeof(S) * W * (2 * path_.l + 1));
    if (fill) copy(room_.out, W, out + at_, wide, 2 * path_.l + 1, count_);
    return room_.out;
  }
  void give_result(S *out, int64_t wide) {
    copy(out + at_, wide, room_.out, W, 2 * path_.l + 1, count_);
  }
  void aim_gradients() {
    for (int q = 0; q < from_.count; q++) {
      rows.dx[q] = room_.dx + q * m1_ * W;
      rows.dw[q] = room_.dw + q * W;
      copy(rows.dx[q], W, from_.dx[q] + at_, path_.channels, m1_, count_);
    }
  }
  void give_gradients() {
    for (int q = 0; q < from_.count; q++) {
      copy(from_.dx[q] + at_, path_.channels, rows.dx[q], W, m1_, count_);
      copy(from_.dw[q] + at_, 0, rows.dw[q], 0, 1, count_);
    }
  }
  Rows<S> rows;

 private:
  const S *padded(S *to, int q, const S *from, int components) {
    S *row = to + q * components * W;
    copy(row, W, from + at_, path_.channels, components, count_);
    return row;
  }
  const Rows<S> &from_;
  Room<S> &room_;
  const WeightedPath &path_;
  const int64_t at_, count_;
  const int m1_;
};

template <class S>
void path_forward(Block<S> &block, const WeightedPath &path, void *const *outs) {
  constexpr int W = lanes<S>();
  const Functions<S> &f = functions<S>(path.l1, path.l2, path.l);
  Room<S> &room = block.room;
  const S *cg = (const S *)block.p->cg + path.cg;
  S *out = block.result(outs, path);
  const Strides<S> s = {path.channels, block.p->of_out[path.out].wide};
  const int from = path.l2 * path.l2 * EDGES;
  block.aim(path);
  f.prepare(cg, room.y + from, room.a);
  if (block.second) f.prepare(cg, room.uy + from, room.ua);
  int64_t at = 0;
  if (!block.second && !SMALL)
    for (; at + 2 * W <= path.channels; at += 2 * W)
      f.forward2(block.rows, room.a, out, s, at, block.fresh);
  const auto one = [&](const Rows<S> &rows, S *to, Strides<S> strides, int64_t k) {
    if (block.second)
      f.second_forward(rows, room.a, room.ua, to, strides, k, block.fresh);
    else
      f.forward1(rows, room.a, to, strides, k, block.fresh);
  };
  for (; at + W <= path.channels; at += W) one(block.rows, out, s, at);
  if (at == path.channels) return;
  Tail<S> tail(block, path, at);
  one(tail.rows, tail.result(out, s.wide, !block.fresh), tail.strides(), 0);
  tail.give_result(out, s.wide);
}

template <class S>
void clear(const Weighted *p, int64_t node, void *const *outs) {
  for (int k = 0; k < p->outs; k++) {
    const int64_t size = p->of_out[k].components * p->of_out[k].wide;
    memset((S *)outs[k] + node * size, 0, (size_t)size * sizeof(S));
  }
}

template <class S>
void sums(const Weighted *p, int64_t first, int64_t last, void *scratch, bool second) {
  Room<S> room(p, scratch);
  void *const *outs = second ? p->dout : p->out;
  for (int64_t node = first; node < last; node++) {
    const int64_t begin = p->rowptr[node], end = p->rowptr[node + 1];
    if (begin == end) clear<S>(p, node, outs);
    for (int64_t e = begin; e < end; e += EDGES) {
      Block<S> block(p, room, node, e, end, e == begin, second);
      block.transpose();
      block.place(false);
      for (int k = 0; k < p->paths; k++) path_forward<S>(block, p->path[k], outs);
    }
  }
}

template <class S>
void path_backward(Block<S> &block, const WeightedPath &path, S *part) {
  constexpr int W = lanes<S>();
  const Functions<S> &f = functions<S>(path.l1, path.l2, path.l);
  const auto run = f.backward[block.second ? 2 : block.p->need_sh ? 1 : 0];
  const S *cg = (const S *)block.p->cg + path.cg;
  const S *out = block.result(block.p->out, path);
  const Strides<S> s = {path.channels, block.p->of_out[path.out].wide};
  const bool slopes = block.p->table && block.p->need_w;
  block.aim(path, slopes);
  block.aim_gradients(path, part);
  int64_t at = 0;
  for (; at + W <= path.channels; at += W) run(block.rows, cg, out, s, at);
  if (at < path.channels) {
    Tail<S> tail(block, path, at);
    tail.aim_gradients();
    run(tail.rows, cg, tail.result(out, s.wide, true), tail.strides(), 0);
    tail.give_gradients();
  }
  if (block.p->need_w) block.add_again(path);
  if (slopes)
    block.places.add_slopes(path.channels, block.count, block.room.slope,
                            block.room.dvalue);
}

// Sums over the channels of the gradients of harmonics.
template <class S> void give_dsh(const Block<S> &block) {
  constexpr int W = lanes<S>();
  const int64_t dim = block.p->sh_dim;
  for (int q = 0; q < block.count; q++) {
    S *to = (S *)block.p->dsh + block.p->edge[block.begin + q] * dim;
    for (int64_t m = 0; m < dim; m += W) {
      S sums[W];
      reduce<S, W>(block.room.dy + q * HARMONICS + m, W, sums, false);
      memcpy(to + m, sums, (size_t)(dim - m < W ? dim - m : W) * sizeof(S));
    }
  }
}

template <class S>
void gradients(const Weighted *p, int64_t node, int64_t e0, int64_t e1, int64_t base,
               S *parts, void *scratch, bool second) {
  Room<S> room(p, scratch);
  for (int64_t e = e0; e < e1; e += EDGES) {
    Block<S> block(p, room, node, e, e1, true, second);
    const int count = block.count;
    block.place(true);
    block.look();
    S *part = parts ? parts + (e - base) * p->x_dim : room.part;
    memset(part, 0, sizeof(S) * (size_t)(count * p->x_dim));
    memset(room.dy, 0, sizeof(Vec<S>) * count * HARMONICS);
    for (int k = 0; k < p->paths; k++) path_backward<S>(block, p->path[k], part);
    if (p->need_sh) give_dsh<S>(block);
    for (int q = 0; p->table && p->need_w && q < count; q++)
      ((S *)p->dplace)[p->edge[e + q]] = block.places.gradient[q];
    if (!parts && p->need_x)
      for (int q = 0; q < count; q++)
        add_row((S *)p->dx + p->source[e + q] * p->x_dim, part + q * p->x_dim, p->x_dim);
  }
}

}  // namespace
