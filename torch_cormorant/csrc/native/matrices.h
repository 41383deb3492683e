// Products of rows with packed matrices: a register of results, several rows at a time.
#pragma once
#include "lanes.h"

namespace {

// sum[r] += x[r] w for R rows that lie U numbers apart, their units `step` numbers.
template <class K, int R>
INLINE void mix(const typename K::S *x, int units, int64_t step, const typename K::S *w,
                N<K> *sum) {
  typedef typename K::S S;
  constexpr int W = K::W, U = K::U;
  for (int u = 0; u < units; u++, x += step) {
    NOUNROLL for (int c = 0; c < W; c++, w += U) {
      const N<K> v = get<K>(w);
      UNROLL for (int r = 0; r < R; r++) {
        const S a = x[r * U + c];
        sum[r].re += a * v.re;
        if constexpr (K::CX) {
          const S b = x[r * U + W + c];
          sum[r].im += a * v.im;
          sum[r].re -= b * v.im;
          sum[r].im += b * v.re;
        }
      }
    }
  }
}

// Numbers of one block of results.
template <class K> INLINE int64_t packed(int units) {
  return (int64_t)units * K::W * K::U;
}

template <class K, int R>
INLINE void mix_some(const typename K::S *x, int units, int64_t step,
                     const typename K::S *w, int blocks, typename K::S *out,
                     int64_t out_step) {
  for (int o = 0; o < blocks; o++, w += packed<K>(units), out += out_step) {
    N<K> sum[R];
    UNROLL for (int r = 0; r < R; r++) sum[r] = zero<K>();
    mix<K, R>(x, units, step, w, sum);
    UNROLL for (int r = 0; r < R; r++) set<K>(out + r * K::U, sum[r]);
  }
}

// out = x w for any number of rows, in equal parts that fit into registers.
template <class K>
__attribute__((noinline)) void mix_rows(const typename K::S *x, int rows, int units,
                                        int64_t step, const typename K::S *w, int blocks,
                                        typename K::S *out, int64_t out_step) {
  constexpr int MOST = (REGISTERS == 32 ? 12 : 6) * (K::CX ? 1 : 2);
  constexpr int LARGEST = MOST < 20 ? MOST : 20;
  for (int parts = (rows + LARGEST - 1) / LARGEST; parts > 0; parts--) {
    const int n = (rows + parts - 1) / parts;
#define CASE(R)                                                               \
  case R:                                                                     \
    if constexpr (R <= LARGEST)                                               \
      mix_some<K, R>(x, units, step, w, blocks, out, out_step);               \
    break;
    switch (n) {
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10)
      CASE(11) CASE(12) CASE(13) CASE(14) CASE(15) CASE(16) CASE(17) CASE(18) CASE(19)
      CASE(20)
    }
#undef CASE
    x += n * K::U;
    out += n * K::U;
    rows -= n;
  }
}

template <class S, int R, int V>
INLINE void dense_part(const S *x, int inputs, const S *w, int outputs, const S *bias,
                       S *out) {
  constexpr int W = lanes<S>();
  Vec<S> sum[R][V];
  UNROLL for (int r = 0; r < R; r++)
    UNROLL for (int v = 0; v < V; v++) sum[r][v] = bias ? at(bias + v * W) : Vec<S>{};
  NOUNROLL for (int k = 0; k < inputs; k++, w += outputs)
    UNROLL for (int v = 0; v < V; v++) {
      const Vec<S> p = at(w + v * W);
      UNROLL for (int r = 0; r < R; r++) sum[r][v] += x[r * inputs + k] * p;
    }
  UNROLL for (int r = 0; r < R; r++)
    UNROLL for (int v = 0; v < V; v++) put(out + r * outputs + v * W, sum[r][v]);
}

// out[r] = bias + x[r] w with an ordinary real matrix [inputs][outputs], for ATOMS rows.
template <class S>
void dense(const S *x, int inputs, const S *w, int outputs, const S *bias, S *out) {
  constexpr int W = lanes<S>(), V = REGISTERS == 32 ? 4 : 2;
  int o = 0;
  for (; o + V * W <= outputs; o += V * W)
    dense_part<S, ATOMS, V>(x, inputs, w + o, outputs, bias ? bias + o : nullptr, out + o);
  for (; o < outputs; o += W)
    dense_part<S, ATOMS, 1>(x, inputs, w + o, outputs, bias ? bias + o : nullptr, out + o);
}

}  // namespace
