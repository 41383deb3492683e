// The message of PaiNN, receiver after receiver, and its gradients.
//
// Backward every node collects what its own messages to neighbours give it, so no row is
// written by two of them. What an edge and its reverse have in common, the gradients of
// their row of w and of u, is computed where the edge stands for the pair.
#pragma once
#include "../fused/gemm.h"
#include "lane.h"
#include "problem.h"

namespace {

// Rows of one edge: j sends to i.
template <class S> struct EdgeRows {
  bool first;  // whether it stands for its pair
  int64_t j, row;
  S u[3];
  const S *w;
  EdgeRows(const Message *p, int64_t e) {
    j = p->source[e], row = p->row[e];
    const int64_t edge = p->pair[row];
    first = p->edge[e] == edge;
    const S sign = first ? S(1) : S(-1), *sh = (const S *)p->sh + 4 * edge + 1;
    for (int m = 0; m < 3; m++) u[m] = sign * sh[m];
    w = (const S *)p->w + row * p->parts * p->channels;
  }
};

template <class S, bool VECTORS>
void message_forward(const Message *p, int64_t first, int64_t last) {
  const int64_t C = p->channels, wide = p->parts * C;
  for (int64_t i = first; i < last; i++) {
    S *out = (S *)p->out + 4 * i * C;
    if (VECTORS) {
      memcpy(out, (const S *)p->x + 4 * i * C, sizeof(S) * 4 * (size_t)C);
    } else {
      memcpy(out, (const S *)p->x + i * C, sizeof(S) * (size_t)C);
      memset(out + C, 0, sizeof(S) * 3 * (size_t)C);
    }
    for (int64_t e = p->rowptr[i]; e < p->rowptr[i + 1]; e++) {
      const EdgeRows<S> edge(p, e);
      const S *w = edge.w, *phi = (const S *)p->phi + edge.j * wide;
      const S *v = (const S *)p->x + 4 * edge.j * C + C;
      CHANNELS(S, C, lane) {
        lane.add(out, lane.get(w) * lane.get(phi));
        const Vec<S> b = lane.get(w + C) * lane.get(phi + C);
        Vec<S> d = {};
        if (VECTORS) d = lane.get(w + 2 * C) * lane.get(phi + 2 * C);
        UNROLL for (int m = 0; m < 3; m++) {
          Vec<S> sum = lane.get(out + (m + 1) * C) + edge.u[m] * b;
          if (VECTORS) sum += d * lane.get(v + m * C);
          lane.put(out + (m + 1) * C, sum);
        }
      });
    }
  }
}

constexpr int TILE = 32;  // rows of gradients of w that are multiplied at once

// Gradients of w for some pairs, and the product with the last layer.
template <class S> class Tile {
 public:
  static int64_t numbers(const Message *p) {
    return p->dhidden ? TILE * (p->parts * p->channels + padded<S>(p->hidden)) : 0;
  }
  Tile(const Message *p, const void *packed, void *scratch)
      : p_(p), packed_((S *)packed), wide_(p->parts * p->channels),
        out_wide_(padded<S>(p->hidden)), out_((S *)scratch),
        rows_(out_ + TILE * out_wide_) {}
  S *row(int64_t row) {
    if (p_->dw) return (S *)p_->dw + row * wide_;
    if (count_ == TILE) flush();
    index_[count_] = row;
    return rows_ + count_++ * wide_;
  }
  void flush() {
    if (!count_) return;
    const Factor<S> rows = {rows_, nullptr, wide_, 1};
    const Rows<S> last = {packed_, nullptr, out_wide_}, out = {out_, nullptr, out_wide_};
    product<S, false>(count_, wide_, out_wide_, rows, last, out, false);
    for (int k = 0; k < count_; k++)
      memcpy((S *)p_->dhidden + index_[k] * p_->hidden, out_ + k * out_wide_,
             sizeof(S) * (size_t)p_->hidden);
    count_ = 0;
  }

 private:
  const Message *const p_;
  S *const packed_;
  const int64_t wide_, out_wide_;
  S *const out_, *const rows_;
  int count_ = 0;
  int64_t index_[TILE];
};

// The last layer turned, its rows padded to whole vectors.
template <class S> void pack_last(const Message *p, S *to) {
  const int64_t wide = padded<S>(p->hidden);
  for (int64_t k = 0; k < p->parts * p->channels; k++)
    for (int64_t h = 0; h < wide; h++)
      to[k * wide + h] = h < p->hidden ? ((const S *)p->last)[h * p->last_step + k] : S(0);
}

// What the gradients at two nodes, i that collects and j, give for the edge between them.
template <class S, bool VECTORS> struct Between {
  const S *grad_i, *grad_j, *phi_i, *phi_j, *v_i, *v_j;

  // -u and v_i times the gradient at j
  template <class L>
  INLINE_MEMBER void reverse(const L &lane, const S *u, int64_t C, Vec<S> &q,
                             Vec<S> &t) const {
    q = Vec<S>{}, t = Vec<S>{};
    UNROLL for (int m = 0; m < 3; m++) {
      const Vec<S> g = lane.get(grad_j + (m + 1) * C);
      q -= u[m] * g;
      if (VECTORS) t += lane.get(v_i + m * C) * g;
    }
  }

  void to_node(const EdgeRows<S> &edge, int64_t C, S *dphi, S *dv) const {
    CHANNELS(S, C, lane) {
      Vec<S> q, t;
      reverse(lane, edge.u, C, q, t);
      lane.add(dphi, lane.get(edge.w) * lane.get(grad_j));
      lane.add(dphi + C, lane.get(edge.w + C) * q);
      if (VECTORS) {
        const Vec<S> w = lane.get(edge.w + 2 * C), d = w * lane.get(phi_i + 2 * C);
        lane.add(dphi + 2 * C, w * t);
        UNROLL for (int m = 0; m < 3; m++)
          lane.add(dv + m * C, d * lane.get(grad_j + (m + 1) * C));
      }
    });
  }

  void to_edge(const EdgeRows<S> &edge, int64_t C, S *dw, S *du) const {
    Vec<S> sums[3] = {};
    CHANNELS(S, C, lane) {
      Vec<S> q, t, forth = {}, along = {};
      reverse(lane, edge.u, C, q, t);
      const Vec<S> w = lane.get(edge.w + C);
      const Vec<S> b_i = lane.get(phi_i + C), b_j = lane.get(phi_j + C);
      UNROLL for (int m = 0; m < 3; m++) {
        const Vec<S> g = lane.get(grad_i + (m + 1) * C);
        forth += edge.u[m] * g;
        if (VECTORS) along += lane.get(v_j + m * C) * g;
        sums[m] += w * (b_j * g - b_i * lane.get(grad_j + (m + 1) * C));
      }
      lane.put(dw, lane.get(phi_j) * lane.get(grad_i) + lane.get(phi_i) * lane.get(grad_j));
      lane.put(dw + C, b_j * forth + b_i * q);
      if (VECTORS)
        lane.put(dw + 2 * C,
                 lane.get(phi_j + 2 * C) * along + lane.get(phi_i + 2 * C) * t);
    });
    if (du) reduce<S, 3>(sums, lanes<S>(), du, false);
  }
};

template <class S, bool VECTORS>
void message_backward(const Message *p, int64_t first, int64_t last, const void *packed,
                      void *scratch) {
  const int64_t C = p->channels, wide = p->parts * C, own = VECTORS ? 4 * C : C;
  const bool edges = p->dsh || p->dw || p->dhidden;
  Tile<S> tile(p, packed, scratch);
  S *unused = (S *)scratch + Tile<S>::numbers(p);
  const auto phi = [&](int64_t k) { return (const S *)p->phi + k * wide; };
  const auto grad = [&](int64_t k) { return (const S *)p->grad + 4 * k * C; };
  const auto vectors = [&](int64_t k) { return (const S *)p->x + 4 * k * C + C; };
  for (int64_t i = first; i < last; i++) {
    S *dx = nullptr, *dphi = nullptr;
    if (p->dx) {
      dx = (S *)p->dx + i * own, dphi = (S *)p->dphi + i * wide;
      memcpy(dx, grad(i), sizeof(S) * (size_t)own);
      memset(dphi, 0, sizeof(S) * (size_t)wide);
    }
    for (int64_t e = p->rowptr[i]; e < p->rowptr[i + 1]; e++) {
      const EdgeRows<S> edge(p, e);
      if (!dx && !edge.first) continue;
      const int64_t j = edge.j;
      const Between<S, VECTORS> ends = {grad(i), grad(j),    phi(i),
                                        phi(j),  vectors(i), vectors(j)};
      if (dx) ends.to_node(edge, C, dphi, VECTORS ? dx + C : nullptr);
      if (!edge.first || !edges) continue;
      S *dw = p->dw || p->dhidden ? tile.row(edge.row) : unused;
      ends.to_edge(edge, C, dw, p->dsh ? (S *)p->dsh + 4 * p->pair[edge.row] + 1 : nullptr);
    }
  }
  tile.flush();
}

}  // namespace
