// The Clebsch-Gordan coefficients at a node: rows of results from the table of products,
// and the table's gradient from gradients of the rows.
//
// Sums of equal length follow one another, so that each length has a loop of its own
// without a branch in it; sums of different rows overlap in the pipeline.
#pragma once
#include "problem.h"
#include "vector.h"

namespace {

constexpr int MAX_LMAX = 6;
constexpr int MAX_DEGREES = 2 * MAX_LMAX + 1;  // of a result
constexpr int LONGEST = 10;                    // sums with a loop of their own

template <class S, int K>
INLINE Vec<S> sum_of(const S *val, const int32_t *at, const Vec<S> *from) {
  Vec<S> sum = val[0] * from[at[0]];
  UNROLL for (int k = 1; k < K; k++) sum += val[k] * from[at[k]];
  return sum;
}

// Call put(r, sum r) for all sums of products, runs of equal length after one another.
template <class S, class Put>
INLINE void each_sum(int runs, const int32_t *run, const S *val, const int32_t *at,
                     const Vec<S> *from, const Put &put) {
  int r = 0;
  for (; runs > 0; runs--, run += 2) {
    const int last = r + run[0], length = run[1];
#define RUN(K)                                                            \
  case K:                                                                 \
    for (; r < last; r++, val += K, at += K) put(r, sum_of<S, K>(val, at, from)); \
    break;
    switch (length) {
      case 0:
        for (; r < last; r++) put(r, Vec<S>{});
        break;
        RUN(1) RUN(2) RUN(3) RUN(4) RUN(5) RUN(6) RUN(7) RUN(8) RUN(9) RUN(10)
      default:
        for (; r < last; r++, val += length, at += length) {
          Vec<S> sum = sum_of<S, LONGEST>(val, at, from);
          for (int k = LONGEST; k < length; k++) sum += val[k] * from[at[k]];
          put(r, sum);
        }
    }
#undef RUN
  }
}

INLINE int degrees_of(const Coefficients &cg) {
  return cg.degrees < MAX_DEGREES ? cg.degrees : MAX_DEGREES;
}

// Rows of the results of one node from the entries of T.
template <class S>
__attribute__((noinline)) void contract(const Coefficients &cg, const Vec<S> *T,
                                        void *const *out, const int64_t *out_rows,
                                        int64_t node, int64_t wide, int64_t at) {
  S *to[MAX_DEGREES];
  for (int l = 0; l < degrees_of(cg); l++)
    to[l] = (S *)out[l] + node * out_rows[l] * wide + at;
  const int32_t *degree = cg.row_degree;
  const int64_t *offset = cg.row_offset;
  each_sum<S>(cg.row_runs, cg.row_run, (const S *)cg.row_val, cg.row_col, T,
              [&](int r, const Vec<S> &sum) {
                store(to[degree[r]] + offset[r] * wide, sum, wide - at);
              });
}

// The transposed contraction: entries of T from rows of the gradient.
template <class S>
__attribute__((noinline)) void spread(const Coefficients &cg, Vec<S> *T,
                                      void *const *out, const int64_t *out_rows,
                                      int64_t nodes, int64_t node, int64_t wide,
                                      int64_t at, Vec<S> *rows) {
  const S *from[MAX_DEGREES], *end[MAX_DEGREES];
  for (int l = 0; l < degrees_of(cg); l++) {
    from[l] = (const S *)out[l] + node * out_rows[l] * wide + at;
    end[l] = (const S *)out[l] + nodes * out_rows[l] * wide;
  }
  const int32_t *degree = cg.row_degree, *entry = cg.col_entry;
  const int64_t *offset = cg.row_offset;
  for (int r = 0; r < cg.rows; r++) {
    const int l = degree[r];
    rows[r] = load(from[l] + offset[r] * wide, end[l]);
  }
  each_sum<S>(cg.col_runs, cg.col_run, (const S *)cg.col_val, cg.col_row, rows,
              [&](int q, const Vec<S> &sum) { T[entry[q]] = sum; });
}

}  // namespace
