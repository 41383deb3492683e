// Compiled once for each instruction set: VECTOR_BYTES and KERNELS are given.
#include "fused/edge.h"
#include "fused/frames.h"
#include "fused/invariants.h"
#include "fused/norm.h"
#include "fused/radial.h"
#include "fused/vertex.h"
#include "products.h"

namespace {

#define PICK(p, F, ...)                                                   \
  ((p)->is_double ? ((p)->is_complex ? F<double, true>(__VA_ARGS__)       \
                                     : F<double, false>(__VA_ARGS__))     \
                  : ((p)->is_complex ? F<float, true>(__VA_ARGS__)        \
                                     : F<float, false>(__VA_ARGS__)))

int64_t sum_scratch(const Sum *p) {
  const int64_t table = (int64_t)p->cg.first * p->cg.second;
  const int64_t widened = 2LL * BLOCK * (p->lmax1 + 1) * (p->second ? 2 : 1);
  const int64_t more = widened > p->cg.rows ? widened : p->cg.rows;
  return (table + more) * VECTOR_BYTES;
}

template <class S, bool CX>
void forward_of(const Sum *p, int64_t first, int64_t last, void *scratch) {
  if (p->second)
    sum_forward<S, CX, true>(p, first, last, scratch);
  else
    sum_forward<S, CX, false>(p, first, last, scratch);
}

void forward(const Sum *p, int64_t first, int64_t last, void *scratch) {
  PICK(p, forward_of, p, first, last, scratch);
}

template <class S, bool CX>
void backward_of(const Sum *p, int64_t node, int64_t e0, int64_t e1, int64_t base,
                 void *part_x, void *part_g, void *scratch) {
  S *x = (S *)part_x, *g = (S *)part_g;
#define BACKWARD(NEED_SH, SECOND) \
  sum_backward<S, CX, NEED_SH, SECOND>(p, node, e0, e1, base, x, g, scratch)
  if (p->second)
    BACKWARD(true, true);
  else
    p->need_sh ? BACKWARD(true, false) : BACKWARD(false, false);
#undef BACKWARD
}

void backward(const Sum *p, int64_t node, int64_t e0, int64_t e1, int64_t base,
              void *part_x, void *part_g, void *scratch) {
  PICK(p, backward_of, p, node, e0, e1, base, part_x, part_g, scratch);
}

void collect(const Sum *p, int64_t e0, int64_t e1, const void *part_x,
             const void *part_g, int32_t owner, int32_t owners) {
  if (p->is_double)
    sum_collect(p, e0, e1, (const double *)part_x, (const double *)part_g, owner,
                owners);
  else
    sum_collect(p, e0, e1, (const float *)part_x, (const float *)part_g, owner, owners);
}

int64_t square_scratch(const Square *p) {
  return ((int64_t)p->cg.first * p->cg.second + p->cg.rows) * VECTOR_BYTES;
}

void square_fw(const Square *p, int64_t first, int64_t last, void *scratch) {
  PICK(p, square_forward, p, first, last, scratch);
}

void square_bw(const Square *p, int64_t first, int64_t last, void *scratch) {
  PICK(p, square_backward, p, first, last, scratch);
}

void dots_fw(const Dots *p, int64_t first, int64_t last) {
  PICK(p, dots_forward, p, first, last);
}

void dots_bw(const Dots *p, int32_t owner, int32_t owners) {
  PICK(p, dots_backward, p, owner, owners);
}

void vertex_count(const Vertex *p, int64_t *sizes) {
  p->is_double ? vertex_sizes<double>(p, sizes) : vertex_sizes<float>(p, sizes);
}

void vertex_packed(const Vertex *p, void *packed) {
  p->is_double ? vertex_pack(p, (double *)packed) : vertex_pack(p, (float *)packed);
}

template <class S, bool CX>
void vertex_of(const Vertex *p, int64_t first, int64_t last, const void *packed,
               void *sums, void *scratch) {
  vertex_run<S, CX>(p, first, last, (const S *)packed, (S *)sums, (S *)scratch);
}

void vertex(const Vertex *p, int64_t first, int64_t last, const void *packed,
            void *sums, void *scratch) {
  PICK(p, vertex_of, p, first, last, packed, sums, scratch);
}

void vertex_unpacked(const Vertex *p, void *sums, int64_t count) {
  p->is_double ? unpack_gradients(p, (double *)sums, count)
               : unpack_gradients(p, (float *)sums, count);
}

void norm(const Norm *p, int64_t first, int64_t last, void *sums) {
  p->is_double ? norm_run(p, first, last, (double *)sums)
               : norm_run(p, first, last, (float *)sums);
}

void norm_collected(const Norm *p, const void *sums, int64_t count) {
  p->is_double ? norm_collect(p, (const double *)sums, count)
               : norm_collect(p, (const float *)sums, count);
}

void invariants(const Invariants *p, int64_t first, int64_t last) {
  PICK(p, invariants_run, p, first, last);
}

#include "fused/edge_entries.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
const Kernels table = {TEXT(ISA),   VECTOR_BYTES, sum_scratch,    forward,
                       backward,    collect,      square_scratch, square_fw,
                       square_bw,   dots_fw,      dots_bw,        vertex_count,
                       vertex_packed, vertex,      vertex_unpacked, norm,
                       norm_collected, invariants, edge_count,     edge_packed,
                       edge_planes, edge_pairs,   edge_collected, edge_finished,
                       edge_summed, frames_edges, frames_pairs,   frames_gradients,
                       radial_rows};

}  // namespace

const Kernels *KERNELS() { return &table; }
