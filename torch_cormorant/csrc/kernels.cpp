// Compiled once for each instruction set: VECTOR_BYTES and KERNELS are given.
#include "fused/edge.h"
#include "fused/norm.h"
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
  const int64_t widened = 2LL * BLOCK * (p->lmax1 + 1);
  const int64_t more = widened > p->cg.rows ? widened : p->cg.rows;
  return (table + more) * VECTOR_BYTES;
}

void forward(const Sum *p, int64_t first, int64_t last, void *scratch) {
  PICK(p, sum_forward, p, first, last, scratch);
}

template <class S, bool CX>
void backward_of(const Sum *p, int64_t node, int64_t e0, int64_t e1, int64_t base,
                 void *part_x, void *part_g, void *scratch) {
  S *x = (S *)part_x, *g = (S *)part_g;
  if (p->need_sh)
    sum_backward<S, CX, true>(p, node, e0, e1, base, x, g, scratch);
  else
    sum_backward<S, CX, false>(p, node, e0, e1, base, x, g, scratch);
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

template <class S> void sizes_of(const Edge *p, int64_t room, int64_t *sizes) {
  sizes[0] = EdgeShared<S>(p, nullptr).used;
  sizes[1] = EdgeSums<S>(p, nullptr).used;
  sizes[2] = EdgeTile<S>(p, nullptr).used;
  sizes[3] = EdgeKept<S>(p, nullptr, room, 0).used;
}

void edge_count(const Edge *p, int64_t room, int64_t *sizes) {
  p->is_double ? sizes_of<double>(p, room, sizes) : sizes_of<float>(p, room, sizes);
}

template <class S, bool CX> void weights_of(const Edge *p, void *shared) {
  edge_weights<S, CX>(p, EdgeShared<S>(p, (S *)shared));
}

void edge_packed(const Edge *p, void *shared) { PICK(p, weights_of, p, shared); }

template <class S, bool CX>
void nodes_of(const Edge *p, int64_t first, int64_t last, void *shared) {
  edge_nodes<S, CX>(p, EdgeShared<S>(p, (S *)shared), first, last);
}

void edge_planes(const Edge *p, int64_t first, int64_t last, void *shared) {
  PICK(p, nodes_of, p, first, last, shared);
}

template <class S, bool CX>
void pairs_of(const Edge *p, int64_t first, int64_t last, void *shared, void *sums,
              void *later, int64_t base, int64_t room, void *scratch) {
  edge_run<S, CX>(p, first, last, (S *)shared, (S *)sums, (S *)later, base, room,
                  (S *)scratch);
}

void edge_pairs(const Edge *p, int64_t first, int64_t last, void *shared, void *sums,
                void *later, int64_t base, int64_t room, void *scratch) {
  PICK(p, pairs_of, p, first, last, shared, sums, later, base, room, scratch);
}

template <class S, bool CX>
void collect_of(const Edge *p, int64_t first, int64_t last, void *shared, void *later,
                int64_t room, int32_t owner, int32_t owners) {
  edge_collect<S, CX>(p, first, last, (S *)shared, (S *)later, room, owner, owners);
}

void edge_collected(const Edge *p, int64_t first, int64_t last, void *shared,
                    void *later, int64_t room, int32_t owner, int32_t owners) {
  PICK(p, collect_of, p, first, last, shared, later, room, owner, owners);
}

template <class S, bool CX>
void finish_of(const Edge *p, int64_t first, int64_t last, void *shared) {
  edge_finish_nodes<S, CX>(p, EdgeShared<S>(p, (S *)shared), first, last);
}

void edge_finished(const Edge *p, int64_t first, int64_t last, void *shared) {
  PICK(p, finish_of, p, first, last, shared);
}

template <class S, bool CX> void sums_of(const Edge *p, void *sums, int64_t blocks) {
  edge_finish_sums<S, CX>(p, (S *)sums, blocks);
}

void edge_summed(const Edge *p, void *sums, int64_t blocks) {
  PICK(p, sums_of, p, sums, blocks);
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
const Kernels table = {TEXT(ISA),   VECTOR_BYTES, sum_scratch,    forward,
                       backward,    collect,      square_scratch, square_fw,
                       square_bw,   dots_fw,      dots_bw,        vertex_count,
                       vertex_packed, vertex,      vertex_unpacked, norm,
                       norm_collected, edge_count, edge_packed,    edge_planes,
                       edge_pairs,  edge_collected, edge_finished, edge_summed};

}  // namespace

const Kernels *KERNELS() { return &table; }
