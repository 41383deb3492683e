// Weights as functions of one number, the place: splines of degree five.
//
// Piece k, from place k to k + 1, is the sum of six rows k, k + 1, ..., k + 5 of the
// table times the uniform B-splines there. Beyond the last piece weights are zero.
#pragma once
#include "path.h"
#include "problem.h"

namespace {

constexpr int SPLINE_ROWS = 6;  // degree + 1

// The six B-splines that are not zero at t in [0, 1], and their derivatives: de Boor's
// recursion from degree to degree.
template <class S> INLINE void b_splines(S t, S *b, S *slope) {
  b[0] = 1;
  for (int d = 1; d < SPLINE_ROWS; d++) {
    if (d == SPLINE_ROWS - 1)
      for (int k = 0; k <= d; k++)
        slope[k] = (k ? b[k - 1] : S(0)) - (k < d ? b[k] : S(0));
    S left = 0;
    for (int k = 0; k < d; k++) {
      const S part = b[k] / d;
      b[k] = left + (k + 1 - t) * part;
      left = (t + d - 1 - k) * part;
    }
    b[d] = left;
  }
}

// Where the edges of a block lie.
template <class S> struct Places {
  const S *row[EDGES];  // the first of six
  int64_t step;
  S b[EDGES][SPLINE_ROWS], slope[EDGES][SPLINE_ROWS], gradient[EDGES];

  void set(const Weighted *p, int q, S place, bool slopes) {
    step = p->w_dim;
    const bool inside = place >= 0 && place < (S)p->knots;
    const int64_t k = inside ? (int64_t)place : 0;
    row[q] = (const S *)p->table + k * step;
    S unused[SPLINE_ROWS];
    b_splines(inside ? place - (S)k : S(0), b[q], slopes ? slope[q] : unused);
    gradient[q] = 0;
    for (int r = 0; !inside && r < SPLINE_ROWS; r++) b[q][r] = slope[q][r] = 0;
  }

  // Weights (and slopes) of some columns, rows [count][columns].
  void evaluate(int64_t first, int64_t columns, int count, S *value, S *slopes) const {
    constexpr int W = lanes<S>();
    for (int q = 0; q < count; q++) {
      const S *from = row[q] + first;
      int64_t c = 0;
      for (; c + W <= columns; c += W) {
        Vec<S> v = {}, d = {};
        for (int r = 0; r < SPLINE_ROWS; r++) {
          const Vec<S> x = get(from + r * step + c);
          v += b[q][r] * x;
          if (slopes) d += slope[q][r] * x;
        }
        put(value + q * columns + c, v);
        if (slopes) put(slopes + q * columns + c, d);
      }
      for (; c < columns; c++) {
        S v = 0, d = 0;
        for (int r = 0; r < SPLINE_ROWS; r++) {
          v += b[q][r] * from[r * step + c];
          if (slopes) d += slope[q][r] * from[r * step + c];
        }
        value[q * columns + c] = v;
        if (slopes) slopes[q * columns + c] = d;
      }
    }
  }

  void add_slopes(int64_t columns, int count, const S *slopes, const S *dvalue) {
    constexpr int W = lanes<S>();
    for (int q = 0; q < count; q++) {
      const S *a = slopes + q * columns, *d = dvalue + q * columns;
      Vec<S> sum = {};
      int64_t c = 0;
      for (; c + W <= columns; c += W) sum += get(a + c) * get(d + c);
      S total = 0;
      for (int k = 0; k < W; k++) total += sum[k];
      for (; c < columns; c++) total += a[c] * d[c];
      gradient[q] += total;
    }
  }
};

}  // namespace
