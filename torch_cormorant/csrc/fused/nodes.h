// The plain C interface of the operators on nodes: vertex step, norm, invariants.
//
// Pointers to what is absent, or not needed, are null.
#pragma once
#include "../coefficients.h"

extern "C" {

// out[l] = W^l [aggregate[l], x[l], folded square of x[l]] for every node, and its
// derivatives: with `grad` the gradients, with tangents too those of the gradients.
struct Vertex {
  int64_t nodes;
  int32_t channels, outs;      // of the rows and of the result
  int32_t lmax, components;    // of the result; components of x
  int32_t is_complex, is_double, threads;
  int32_t second;              // derivatives of the gradients: tangents are read
  const int32_t *blocks;       // [lmax + 1, 4]: of the aggregate, the identity, the
                               // folded square; blocks of columns of the weight
  const int32_t *fold;         // [folded paths, 3]: block, other block or -1, sign
  const int32_t *used;         // [pairs, 3]: table entry, first, second component
  int64_t pairs;
  struct Coefficients cg;
  const int64_t *square_rows;  // per degree of the square: components * paths
  const void *x, *grad, *tangent_x;
  const void *const *rows, *const *weights;  // per degree
  const void *const *tangent_rows, *const *tangent_weights;
  void *out;                   // result, or gradient with respect to grad
  void *dx;
  void *const *drows, *const *dweights;
};

// y = x * weight / sqrt(eps + mean power of the degree), and its derivatives.
struct Norm {
  int64_t nodes;
  int32_t channels, planes, lmax;
  int32_t is_double, threads, second;
  double eps;
  const void *x, *weight, *grad, *tangent_x, *tangent_weight;
  void *out, *dx, *dweight;
};

// Invariants of all levels side by side, and their derivatives.
struct Invariants {
  int64_t nodes, columns;      // of a row of the result
  int32_t levels, is_complex, is_double, threads, second;
  const int32_t *sizes;        // [levels, 2]: channels, largest degree
  const void *const *x, *const *tangents;  // per level
  const void *grad;
  void *out;
  void *const *dx;
};
}
