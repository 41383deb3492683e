// PaiNN's message and mixing, and products of matrices, between Python (ctypes), the dispatcher and the kernels.
//
// Every tensor is contiguous; a row of C scalars and vectors holds 4 C numbers. Types and
// shapes are checked in Python, the values of index tensors in entry.h. Pointers to what
// is absent, or not needed, are null.
#pragma once
#include <cstdint>

extern "C" {

// out = x + sums over neighbours of a phi_a, b phi_b u and d phi_d v, with (a, b, d) a row
// of w for every pair; or its gradients. Every edge has its reverse, of the other sign.
struct Message {
  int64_t targets, sources, edges, rows;  // the first two are one number; rows: of pairs
  int32_t channels, parts;     // parts: 3, or 2 where x holds scalars alone and there is
                               // no d; rows of phi and w are parts * channels wide
  int32_t hidden;              // columns of dhidden
  int32_t is_double, threads;
  const int64_t *rowptr, *edge, *source, *row;
  const int64_t *pair;         // edge that stands for each pair, with the sign of u
  const void *x, *phi, *w;
  const void *sh;              // [edges, 4]: u behind a number that is not read
  const void *grad;
  const void *last;            // w = hidden last, [hidden, last_step]
  int64_t last_step;
  void *out;
  void *dx, *dphi;             // both or none; dx without what goes through phi
  void *dsh;                   // zeroed by the caller
  void *dw, *dhidden;          // at most one
};

// The element-wise steps of the mixing of scalars and vectors, with vu = [V, U] for every
// component, features = [s, |V|] and gates = [a, b, d].
struct Mixing {
  int64_t nodes;
  int32_t channels, is_double, threads;
  int32_t step;                // 0: features; 1: out; 2: dgates and dvu from grad;
                               // 3: dvu also through features; 4: dx
  double eps;
  const void *x, *vu, *features, *gates;  // features: written by step 0
  const void *grad, *dfeatures, *dvectors;
  void *out, *dgates, *dvu;
};

// c (+)= a b, or bias + a b, with whole vectors in the rows of b and c.
struct Dense {
  int64_t rows, steps, cols;
  int64_t a_row, c_row;        // from row to row
  int32_t is_double, threads, add;
  const void *a, *b, *bias;
  void *c;
};
}

// What one instruction set offers.
struct PaiNNKernels {
  // Numbers of what all threads share, and of the scratch of each.
  void (*sizes)(const Message *, int64_t *sizes);
  void (*pack)(const Message *, void *shared);
  void (*forward)(const Message *, int64_t first, int64_t last);
  void (*backward)(const Message *, int64_t first, int64_t last, const void *shared,
                   void *scratch);
  void (*mixing)(const Mixing *, int64_t first, int64_t last);
  void (*dense)(const Dense *, int64_t first, int64_t last);
};

const PaiNNKernels *painn_baseline();
#if defined(SEVERAL_SETS)
const PaiNNKernels *painn_avx2();
const PaiNNKernels *painn_avx512();
#endif
