// The plain C interface of the operator on pairs of nodes: the edge network.
//
// Pointers to what is absent, or not needed, are null.
#pragma once
#include <cstdint>

extern "C" {

struct Operand {
  const void *value;
  const void *tangent;  // what it changes by, in derivatives of the gradients
  void *gradient;       // every number of it is written
};

enum { MASK_ROWS = 0, MASK_SOFT, MASK_GAUSSIAN, MASK_NONE };

// out[l] = mask * W^l [state[l], dots of the nodes, radial functions] for every pair, and
// its derivatives.
struct Edge {
  int64_t pairs, targets, sources;
  int32_t channels, degrees;        // of the result
  int32_t dot_degrees;              // of the nodes: degrees * degrees components
  int32_t state_channels;
  int32_t state_rows, state_used;   // degrees of the state: stored, read
  int32_t radials;                  // channels
  int32_t mask;                     // one of the above
  int32_t is_complex, is_double, threads;
  int32_t order;                    // 0: result, 1: gradients, 2: those of the gradients
  double envelope, hard;            // radii; 0: none
  const int64_t *index_a, *index_b; // targets and sources of the pairs
  const int32_t *columns;           // [degrees, 4] of a weight: state, dots, radial, more
  struct Operand target, source;    // source: null where it is the target
  struct Operand state, radial, length, rows, radius, width;
  // W [state, dots, radial] of every pair, where it is kept: written with the result;
  // read in the others, which then do not multiply again. The tangent is a gradient that
  // arrives for it (order 1), the gradient is not pulled back further (order 2).
  struct Operand mixed;
  const struct Operand *weights;    // per degree
  const void *grad;
  void *out;                        // result, or gradient with respect to grad
};
}
