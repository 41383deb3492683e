// The plain C interface between Python (ctypes), the dispatcher and the kernels.
//
// Complex tensors are real ones with (re, im) side by side in their last axis, `wide`
// numbers in all. Every tensor is contiguous. Types and shapes are checked in Python
// (ops/operands.py), the values of index tensors here, before anything else is read.
#pragma once
#include <cstdint>

#include "coefficients.h"
#include "fused/geometry.h"
#include "fused/nodes.h"
#include "fused/pairs.h"

extern "C" {

struct Sum {
  int64_t targets, edges, sources, rows;
  int64_t wide;            // real numbers per component
  int32_t lmax1;           // largest degree of the edges
  int32_t is_complex, is_double, threads;
  int32_t need_x, need_g, need_sh;
  int32_t fresh_g;         // no row of g belongs to two edges: dg is set, not added to
  int32_t second;          // along tangents: derivatives of the sum, of its gradients
  const void *x, *g, *sh;
  const void *tangent_x, *tangent_g, *tangent_sh;  // null: zero
  const int64_t *rowptr, *edge, *source, *row;  // row: of g, for each edge of the list
  struct Coefficients cg;
  void *const *out;            // per degree: results, or gradients that arrive
  const int64_t *out_rows;     // per degree: components * paths of one node
  void *dx, *dg, *dsh;         // zeroed by the caller where they are added to
};

struct Square {
  int64_t nodes, wide;
  int32_t is_complex, is_double, threads;
  const void *x, *y;
  struct Coefficients cg;
  void *const *out;
  const int64_t *out_rows;
  void *dx, *dy;
};

struct Dots {
  int64_t edges, rows_a, rows_b, wide;
  int32_t lmax, is_complex, is_double, threads;
  const void *a, *b;
  const int64_t *index_a, *index_b;
  void *out;               // [edges, lmax + 1, wide]: results, or gradients that arrive
  void *da, *db;           // zeroed by the caller; NULL where not needed
};
}

// What one instruction set offers. No function allocates, throws or starts threads:
// code of the standard library compiled here could end up on a lesser machine.
struct Kernels {
  const char *name;
  int32_t bytes;  // of a vector
  int64_t (*sum_scratch)(const Sum *);
  void (*sum_forward)(const Sum *, int64_t first, int64_t last, void *scratch);
  // Edges [e0, e1) of one receiver; buffers hold edges from `base` on. Without part_g
  // the gradients are added to the results at once, part_x has room for one edge.
  void (*sum_backward)(const Sum *, int64_t node, int64_t e0, int64_t e1, int64_t base,
                       void *part_x, void *part_g, void *scratch);
  // Add rows [e0, e1) of the buffers to those rows of dx and dg that `owner` owns.
  void (*sum_collect)(const Sum *, int64_t e0, int64_t e1, const void *part_x,
                      const void *part_g, int32_t owner, int32_t owners);
  int64_t (*square_scratch)(const Square *);
  void (*square_forward)(const Square *, int64_t first, int64_t last, void *scratch);
  void (*square_backward)(const Square *, int64_t first, int64_t last, void *scratch);
  void (*dots_forward)(const Dots *, int64_t first, int64_t last);
  void (*dots_backward)(const Dots *, int32_t owner, int32_t owners);
  // Numbers of the packed weights, of the sums of their gradients, of the scratch.
  void (*vertex_sizes)(const Vertex *, int64_t *sizes);
  void (*vertex_pack)(const Vertex *, void *packed);
  void (*vertex_run)(const Vertex *, int64_t first, int64_t last, const void *packed,
                     void *sums, void *scratch);
  void (*vertex_unpack)(const Vertex *, void *sums, int64_t count);
  void (*norm_run)(const Norm *, int64_t first, int64_t last, void *sums);
  void (*norm_collect)(const Norm *, const void *sums, int64_t count);
  void (*invariants_run)(const Invariants *, int64_t first, int64_t last);
  // Numbers of what all pairs share, of the sums over a block of pairs, of the scratch,
  // of rows kept for `room` pairs.
  void (*edge_sizes)(const Edge *, int64_t room, int64_t *sizes);
  void (*edge_weights)(const Edge *, void *shared);
  void (*edge_nodes)(const Edge *, int64_t first, int64_t last, void *shared);
  void (*edge_run)(const Edge *, int64_t first, int64_t last, void *shared, void *sums,
                   void *later, int64_t base, int64_t room, void *scratch);
  void (*edge_collect)(const Edge *, int64_t first, int64_t last, void *shared,
                       void *later, int64_t room, int32_t owner, int32_t owners);
  void (*edge_finish)(const Edge *, int64_t first, int64_t last, void *shared);
  void (*edge_sums)(const Edge *, void *sums, int64_t blocks);
  void (*frames_run)(const Frames *, int64_t first, int64_t last, const void *lengths);
  void (*frames_lengths)(const Frames *);
  void (*frames_spread)(const Frames *, void *lengths);
  void (*radial_rows)(const RadialRows *);
};

const Kernels *kernels_baseline();
#if defined(SEVERAL_SETS)
const Kernels *kernels_avx2();
const Kernels *kernels_avx512();
#endif
