// The weighted neighbour sum between Python (ctypes), the dispatcher and the kernels.
//
// Every tensor is contiguous. Types and shapes are checked in Python, the values of
// index tensors in entry.h, before anything else is read.
#pragma once
#include <cstdint>

extern "C" {

struct WeightedPath {
  int32_t l1, l2, l, channels;
  int32_t out;      // tensor of the result
  int32_t cg;       // its coefficients begin here, [2 l1 + 1, 2 l2 + 1, 2 l + 1]
  int64_t x, w;     // first number in a row of x, of w
  int64_t at;       // first channel in the tensor of the result
};

struct WeightedOut {
  int64_t components, wide;  // of one node: components and channels
};

struct Weighted {
  int64_t targets, edges, sources, rows;
  int64_t first, last;     // receivers to compute
  int64_t base;            // without `row`: edge k of the sorted list reads row k - base
  int64_t x_dim, sh_dim, w_dim;
  int32_t paths, outs, is_double, threads;
  int32_t need_x, need_sh, need_w, need_out;
  const int64_t *rowptr, *edge, *source, *row;
  const struct WeightedPath *path;
  const void *cg;
  const void *x, *sh, *w;
  // Instead of weights: w holds places, one for each row, in splines of `knots` pieces,
  // whose coefficients are the rows [knots + 5, w_dim] of this table; see spline.h.
  const void *table;
  int64_t knots;
  void *dplace;            // gradients of the places, one for each edge
  const struct WeightedOut *of_out;
  void *const *out;        // results, or gradients that arrive
  void *dx, *dsh, *dw;     // dx zeroed by the caller; dw: a row for every edge, or
  uint8_t *seen;           // by one thread, with a zero for every row of w, for these
  const void *ux, *us, *uw;    // second order: cotangents of dx, dsh, dw
  int64_t ux_step, us_step, uw_step;  // from row to row: 0 where a row of zeros stands
  void *const *dout;       // second order: gradients of what arrived
};
}

// What one instruction set and number type offer; see Kernels of the folder above.
struct WeightedKernels {
  int64_t (*scratch)(const Weighted *);
  void (*forward)(const Weighted *, int64_t first, int64_t last, void *scratch);
  void (*second_forward)(const Weighted *, int64_t first, int64_t last, void *scratch);
  // Edges [e0, e1) of one receiver. Gradients of x go to rows e - base of `part`, or,
  // where that is null, are added to dx.
  void (*backward)(const Weighted *, int64_t node, int64_t e0, int64_t e1, int64_t base,
                   void *part, void *scratch);
  void (*second_backward)(const Weighted *, int64_t node, int64_t e0, int64_t e1,
                          int64_t base, void *part, void *scratch);
  // Add rows [e0, e1) of the buffer to those rows of dx that `owner` owns.
  void (*collect)(const Weighted *, int64_t e0, int64_t e1, const void *part,
                  int32_t owner, int32_t owners);
};

#define WEIGHTED(isa)                               \
  const WeightedKernels *weighted_##isa##_float(); \
  const WeightedKernels *weighted_##isa##_double();
WEIGHTED(baseline)
#if defined(SEVERAL_SETS)
WEIGHTED(avx2)
WEIGHTED(avx512)
#endif
#undef WEIGHTED
