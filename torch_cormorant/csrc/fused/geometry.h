// The plain C interface of functions of edges: harmonics and lengths, radial functions.
//
// Pointers to what is absent, or not needed, are null.
#pragma once
#include <cstdint>

extern "C" {

struct Frames {
  int64_t edges, pairs, count;      // count: of the entries
  int32_t lmax, unit;               // unit: of vectors of length one
  int32_t is_double, threads;
  int32_t order;                    // 0: results, 1: gradients, 2: those of the gradients
  const void *vec, *tangent;        // [edges, 3]
  const int64_t *pair;              // [pairs] edges whose lengths are wanted; null: all
  const int32_t *entries;           // [count, 3] component, row, row of the degree below
  const void *values;               // [count]
  const void *pole;                 // [lmax + 1, lmax + 1] degree, order
  const void *grad_sh, *grad_length;
  void *sh, *length;                // results, or gradients with respect to grads
  void *dvec;
};

enum { RADIAL_BESSEL = 0, RADIAL_GAUSSIAN, RADIAL_POWER_TRIG };

// Radial functions of lengths. Bessel: numbers = (frequency, factor); Gaussian: (spacing,
// 0), functions of them; power trig: `functions` waves times `powers` powers.
struct RadialRows {
  int64_t pairs;
  int32_t kind, functions, powers;
  int32_t is_double, threads, order;
  double first, second;
  const void *length, *scales, *phases;
  const void *d_length, *d_scales, *d_phases;  // tangents
  const void *grad;
  void *out;                        // rows, or gradient with respect to grad
  void *to_length, *to_scales, *to_phases;
};
}
