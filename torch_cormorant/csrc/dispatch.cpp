// Entry points for Python: choose the instruction set, share the work among threads.
//
// Every number is computed by one thread in an order that does not depend on how many
// threads there are, so results are equal to the last bit. Threads live for one call:
// nothing is left behind that a forked process could trip over.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <system_error>
#include <vector>

#include "isa.h"
#include "problem.h"
#include "threads.h"

namespace {

const Kernels *choose(const char *name) {
  const char *const found = instruction_set(name);
  if (!found) return nullptr;
#if defined(SEVERAL_SETS)
  if (found == std::string_view("avx512")) return kernels_avx512();
  if (found == std::string_view("avx2")) return kernels_avx2();
#endif
  return kernels_baseline();
}

const Kernels *chosen = choose(nullptr);

// Threads that are worth their start, about 20 microseconds each.
int useful(int threads, int64_t work) {
  return (int)std::clamp<int64_t>(work / 50000, 1, std::max(threads, 1));
}

// Items in steps, taken by whoever is free; memory is ready before a thread starts.
template <class Work>
void share(int threads, int64_t items, int64_t step, int64_t bytes, const Work &work) {
  bytes = (bytes + 63) / 64 * 64;
  Memory memory(bytes * threads);
  std::atomic<int64_t> next{0};
  in_threads(threads, [&](int t) {
    void *scratch = (char *)memory.get() + t * bytes;
    for (;;) {
      const int64_t first = next.fetch_add(step);
      if (first >= items) return;
      work(first, std::min(first + step, items), scratch);
    }
  });
}

struct Piece {  // edges [e0, e1) and the receivers [n0, n1) that they belong to
  int64_t e0, e1, n0, n1;
};

// Cut the edges between receivers where possible; a very large one is cut inside.
template <class Problem>
std::vector<Piece> cut(const Problem *p, int64_t first, int64_t last, int64_t most) {
  std::vector<Piece> pieces;
  const int64_t *ptr = p->rowptr, *end = ptr + p->targets + 1;
  for (int64_t e = first; e < last;) {
    const int64_t n0 = std::upper_bound(ptr, end, e) - ptr - 1;
    int64_t n1 = std::upper_bound(ptr, end, std::min(e + most, last)) - ptr - 1;
    int64_t stop = ptr[n1];
    if (stop <= e) {
      stop = std::min(e + most, last);
      n1 = n0 + 1;
    }
    pieces.push_back({e, stop, n0, n1});
    e = stop;
  }
  return pieces;
}

// By one thread: no buffers. Sums have the same order as below, and so the same bits.
void backward_alone(const Sum *p, int64_t row_x) {
  const Memory part_x(row_x), scratch(chosen->sum_scratch(p));
  for (int64_t node = 0; node < p->targets; node++)
    if (p->rowptr[node] < p->rowptr[node + 1])
      chosen->sum_backward(p, node, p->rowptr[node], p->rowptr[node + 1], 0,
                           part_x.get(), nullptr, scratch.get());
}

void backward(const Sum *p, int threads) {
  const int64_t size = p->is_double ? 8 : 4, lanes = chosen->bytes / size;
  const int64_t padded = (p->wide + lanes - 1) / lanes * lanes * size;
  const int64_t row_x = p->cg.second * padded, row_g = (p->lmax1 + 1) * padded;
  if (threads == 1) return backward_alone(p, row_x);
  const int64_t most = threads * std::clamp<int64_t>((1 << 19) / (row_x + row_g), 16, 512);
  const std::vector<Piece> pieces = cut(p, 0, p->edges, most);
  const Memory part_x(most * row_x), part_g(most * row_g);
  const int64_t bytes = (chosen->sum_scratch(p) + 63) / 64 * 64;
  const Memory memory(bytes * threads);
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
        if (e0 < e1)
          chosen->sum_backward(p, node, e0, e1, piece.e0, part_x.get(), part_g.get(),
                               scratch);
      }
      barrier.wait();
      chosen->sum_collect(p, piece.e0, piece.e1, part_x.get(), part_g.get(), t,
                          threads);
      barrier.wait();
    }
  });
}

// What an entry point answers; the names stand in ops/cpu_kernel.py.
enum Status {
  DONE = 0,
  NO_MEMORY,
  NO_THREADS,
  BAD_ROWPTR,
  BAD_EDGE,
  BAD_SOURCE,
  BAD_ROW,
  BAD_INDEX_A,
  BAD_INDEX_B,
  BAD_PAIR
};

// Whether every index lies in 0 .. limit - 1.
bool within(const int64_t *index, int64_t count, int64_t limit) {
  uint64_t bad = 0;
  for (int64_t k = 0; k < count; k++)
    bad |= (uint64_t)index[k] >= (uint64_t)limit;
  return !bad;
}

// Whether row pointers rise from 0 to the number of edges.
bool rises(const int64_t *ptr, int64_t count, int64_t last) {
  bool bad = ptr[0] != 0 || ptr[count] != last;
  for (int64_t k = 0; k < count; k++) bad |= ptr[k] > ptr[k + 1];
  return !bad;
}

Status check(const Sum *p) {
  if (!rises(p->rowptr, p->targets, p->edges)) return BAD_ROWPTR;
  if (!within(p->edge, p->edges, p->edges)) return BAD_EDGE;
  if (!within(p->source, p->edges, p->sources)) return BAD_SOURCE;
  if (p->row != p->edge && !within(p->row, p->edges, p->rows)) return BAD_ROW;
  return DONE;
}

Status check(const Dots *p) {
  if (!within(p->index_a, p->edges, p->rows_a)) return BAD_INDEX_A;
  if (!within(p->index_b, p->edges, p->rows_b)) return BAD_INDEX_B;
  return DONE;
}

Status check(const Square *) { return DONE; }
Status check(const Vertex *) { return DONE; }
Status check(const Norm *) { return DONE; }
Status check(const Invariants *) { return DONE; }

Status check(const Edge *p) {
  if (!within(p->index_a, p->pairs, p->targets)) return BAD_INDEX_A;
  if (!within(p->index_b, p->pairs, p->sources)) return BAD_INDEX_B;
  return DONE;
}

Status check(const Frames *p) {
  if (p->pair && !within(p->pair, p->pairs, p->edges)) return BAD_PAIR;
  return DONE;
}

Status check(const RadialRows *) { return DONE; }

template <class Problem, class Work> int guarded(const Problem *p, const Work &work) {
  if (const Status found = check(p)) return found;
  try {
    work();
    return DONE;
  } catch (const std::bad_alloc &) {
    return NO_MEMORY;
  } catch (const std::system_error &) {
    return NO_THREADS;
  }
}

#include "fused/shares.h"

#include "fused/pair_shares.h"

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT int32_t cormorant_abi() { return 10; }

EXPORT const char *cormorant_isa() { return chosen->name; }

EXPORT int32_t cormorant_vector_bytes() { return chosen->bytes; }

// For tests: another instruction set; 0 where this processor does not have it.
EXPORT int32_t cormorant_use(const char *name) {
  const Kernels *found = choose(name && *name ? name : nullptr);
  if (found) chosen = found;
  return found != nullptr;
}

EXPORT int32_t cormorant_sum_forward(const Sum *p) {
  const int64_t work = (p->edges + p->targets) * p->cg.second * p->wide;
  return guarded(p, [&] {
    share(useful(p->threads, work), p->targets, 4, chosen->sum_scratch(p),
          [&](int64_t first, int64_t last, void *scratch) {
            chosen->sum_forward(p, first, last, scratch);
          });
  });
}

EXPORT int32_t cormorant_sum_backward(const Sum *p) {
  const int64_t work = p->edges * p->cg.second * p->wide;
  return guarded(p, [&] { backward(p, useful(p->threads, work)); });
}

EXPORT int32_t cormorant_square_forward(const Square *p) {
  const int64_t work = p->nodes * p->cg.first * p->cg.second * p->wide;
  return guarded(p, [&] {
    share(useful(p->threads, work), p->nodes, 16, chosen->square_scratch(p),
          [&](int64_t first, int64_t last, void *scratch) {
            chosen->square_forward(p, first, last, scratch);
          });
  });
}

EXPORT int32_t cormorant_square_backward(const Square *p) {
  const int64_t work = p->nodes * p->cg.first * p->cg.second * p->wide;
  return guarded(p, [&] {
    share(useful(p->threads, work), p->nodes, 16, chosen->square_scratch(p),
          [&](int64_t first, int64_t last, void *scratch) {
            chosen->square_backward(p, first, last, scratch);
          });
  });
}

EXPORT int32_t cormorant_dots_forward(const Dots *p) {
  const int64_t work = p->edges * (p->lmax + 1) * (p->lmax + 1) * p->wide / 4;
  return guarded(p, [&] {
    share(useful(p->threads, work), p->edges, 256, 0,
          [&](int64_t first, int64_t last, void *) {
            chosen->dots_forward(p, first, last);
          });
  });
}

EXPORT int32_t cormorant_dots_backward(const Dots *p) {
  const int64_t work = p->edges * (p->lmax + 1) * (p->lmax + 1) * p->wide / 4;
  const int threads = useful(p->threads, work);
  return guarded(p, [&] {
    in_threads(threads, [&](int t) { chosen->dots_backward(p, t, threads); });
  });
}

EXPORT int32_t cormorant_vertex(const Vertex *p) {
  return guarded(p, [&] { run_vertex(p); });
}

EXPORT int32_t cormorant_edge(const Edge *p) {
  return guarded(p, [&] { run_edge(p); });
}

EXPORT int32_t cormorant_frames(const Frames *p) {
  return guarded(p, [&] { run_frames(p); });
}

EXPORT int32_t cormorant_radial(const RadialRows *p) {
  return guarded(p, [&] { chosen->radial_rows(p); });
}

EXPORT int32_t cormorant_norm(const Norm *p) {
  return guarded(p, [&] { run_norm(p); });
}

EXPORT int32_t cormorant_invariants(const Invariants *p) {
  return guarded(p, [&] { run_invariants(p); });
}
}

#include "painn/entry.h"
#include "weighted/entry.h"
