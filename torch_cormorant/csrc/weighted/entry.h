// Entry points of the weighted neighbour sum: the end of dispatch.cpp.
#pragma once
#include "problem.h"

namespace {

const WeightedKernels *weighted_kernels(const Weighted *p) {
  const std::string_view isa = chosen->name;
#if defined(SEVERAL_SETS)
  if (isa == "avx512")
    return p->is_double ? weighted_avx512_double() : weighted_avx512_float();
  if (isa == "avx2") return p->is_double ? weighted_avx2_double() : weighted_avx2_float();
#endif
  return p->is_double ? weighted_baseline_double() : weighted_baseline_float();
}

int weighted_threads(const Weighted *p) {
  const int64_t edges = p->rowptr[p->last] - p->rowptr[p->first];
  return p->seen ? 1 : useful(p->threads, edges * p->w_dim * 4);
}

using EdgeWork = void (*)(const Weighted *, int64_t, int64_t, int64_t, int64_t, void *,
                          void *);
using NodeWork = void (*)(const Weighted *, int64_t, int64_t, void *);

void weighted_nodes(const Weighted *p, NodeWork work) {
  const int64_t bytes = weighted_kernels(p)->scratch(p);
  share(weighted_threads(p), p->last - p->first, 4, bytes,
        [&](int64_t first, int64_t last, void *scratch) {
          work(p, p->first + first, p->first + last, scratch);
        });
}

// By one thread each edge's row is added at once, by several piece after piece, each row
// by its owner: the order of sums is the same, and so are the bits.
void weighted_edges(const Weighted *p, EdgeWork work) {
  const WeightedKernels *kernels = weighted_kernels(p);
  const int threads = weighted_threads(p);
  const int64_t bytes = (kernels->scratch(p) + 63) / 64 * 64;
  const Memory memory(bytes * threads);
  if (threads == 1) {
    for (int64_t i = p->first; i < p->last; i++)
      if (p->rowptr[i] < p->rowptr[i + 1])
        work(p, i, p->rowptr[i], p->rowptr[i + 1], 0, nullptr, memory.get());
    return;
  }
  const int64_t row = p->x_dim * (p->is_double ? 8 : 4);
  const int64_t most = threads * std::clamp<int64_t>((1 << 19) / row, 32, 512);
  const std::vector<Piece> pieces = cut(p, p->rowptr[p->first], p->rowptr[p->last], most);
  const Memory part(most * row);
  std::vector<std::atomic<int64_t>> next(pieces.size());
  for (size_t k = 0; k < pieces.size(); k++) next[k] = pieces[k].n0;
  Barrier barrier(threads);
  in_threads(threads, [&](int t) {
    void *scratch = (char *)memory.get() + t * bytes;
    for (size_t k = 0; k < pieces.size(); k++) {
      const Piece &piece = pieces[k];
      for (;;) {
        const int64_t node = next[k].fetch_add(1);
        if (node >= piece.n1) break;
        const int64_t e0 = std::max(p->rowptr[node], piece.e0);
        const int64_t e1 = std::min(p->rowptr[node + 1], piece.e1);
        if (e0 < e1) work(p, node, e0, e1, piece.e0, part.get(), scratch);
      }
      barrier.wait();
      if (p->need_x) kernels->collect(p, piece.e0, piece.e1, part.get(), t, threads);
      barrier.wait();
    }
  });
}

}  // namespace

// Indices of the receivers to compute. Outside of the namespace, where a template that
// stands before this function finds it.
static Status check(const Weighted *p) {
  const int64_t *ptr = p->rowptr, *end = ptr + p->last;
  const bool whole = p->first == 0 && p->last == p->targets;
  bool bad = *(ptr += p->first) < 0 || *end > p->edges;
  bad |= whole && (*ptr != 0 || *end != p->edges);
  for (const int64_t *k = ptr; k < end; k++) bad |= k[0] > k[1];
  if (bad) return BAD_ROWPTR;
  const int64_t first = *ptr, count = *end - first;
  if (!within(p->edge + first, count, p->edges)) return BAD_EDGE;
  if (!within(p->source + first, count, p->sources)) return BAD_SOURCE;
  if (p->row && p->row != p->edge && !within(p->row + first, count, p->rows))
    return BAD_ROW;
  return DONE;
}

extern "C" {

EXPORT int32_t cormorant_weighted_forward(const Weighted *p) {
  return guarded(p, [&] { weighted_nodes(p, weighted_kernels(p)->forward); });
}

EXPORT int32_t cormorant_weighted_backward(const Weighted *p) {
  return guarded(p, [&] { weighted_edges(p, weighted_kernels(p)->backward); });
}

EXPORT int32_t cormorant_weighted_second(const Weighted *p) {
  return guarded(p, [&] {
    if (p->need_out) weighted_nodes(p, weighted_kernels(p)->second_forward);
    if (p->need_x || p->need_sh || p->need_w)
      weighted_edges(p, weighted_kernels(p)->second_backward);
  });
}
}
