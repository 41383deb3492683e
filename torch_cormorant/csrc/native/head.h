// Energies of atoms from the invariants of all levels, and the gradients of these.
#pragma once
#include "matrices.h"

namespace {

// Invariants of a level and block: component 0, then sums of squares of every degree.
template <class K>
INLINE void invariants(int lmax, const typename K::S *x, typename K::S *out) {
  constexpr int U = K::U;
  set<K>(out, get<K>(x));
  for (int l = 0; l <= lmax; l++) {
    N<K> sum = zero<K>();
    for (int m = l * l; m < (l + 1) * (l + 1); m++) {
      const N<K> v = get<K>(x + m * U);
      sum.re += v.re * v.re;
      if constexpr (K::CX) sum.im += v.im * v.im;
    }
    set<K>(out + (l + 1) * U, sum);
  }
}
template <class K>
INLINE void invariants_back(int lmax, const typename K::S *x, const typename K::S *u,
                            typename K::S *slope) {
  typedef typename K::S S;
  constexpr int U = K::U;
  for (int l = 0; l <= lmax; l++) {
    const N<K> w = scaled<K>(get<K>(u + (l + 1) * U), S(2));
    for (int m = l * l; m < (l + 1) * (l + 1); m++) {
      N<K> v = get<K>(x + m * U);
      v.re *= w.re;
      if constexpr (K::CX) v.im *= w.im;
      if (m == 0) add<K>(v, get<K>(u));
      set<K>(slope + m * U, v);
    }
  }
}

template <class S> INLINE int64_t head_scratch(const Net<S> &net) {
  return (int64_t)ATOMS * (net.inputs + 2 * net.hidden);
}

// Atoms that are not local have no energy of their own.
template <class K>
void head(const Net<typename K::S> &net, const Work<typename K::S> &work, int64_t first,
          int64_t last, bool slopes, typename K::S *scratch) {
  typedef typename K::S S;
  constexpr int U = K::U, W = K::W;
  const int one = (net.lmax + 2) * U, block = (net.lmax + 1) * (net.lmax + 1) * U;
  S *in = scratch, *hidden = in + ATOMS * net.inputs, *back = hidden + ATOMS * net.hidden;
  const int level = net.blocks * one;
  for (int64_t i0 = first; i0 < last; i0 += ATOMS) {
    const int n = last - i0 < ATOMS ? (int)(last - i0) : ATOMS;
    for (int k = 0; k < n; k++)
      for (int s = 0; s < net.levels; s++)
        for (int o = 0; o < net.blocks; o++)
          invariants<K>(net.lmax,
                        work.features[s] + (i0 + k) * net.feature + o * block,
                        in + k * net.inputs + s * level + o * one);
    for (int64_t j = (int64_t)n * net.inputs; j < (int64_t)ATOMS * net.inputs; j += W)
      put(in + j, Vec<S>{});
    dense<S>(in, net.inputs, net.w1, net.hidden, net.b1, hidden);
    for (int k = 0; k < ATOMS; k++) {
      const bool counts = k < n && i0 + k < work.local;
      Vec<S> energy = {};
      for (int h = 0; h < net.hidden; h += W) {
        const Vec<S> x = at(hidden + k * net.hidden + h), u = at(net.w2 + h);
        const Vec<S> gate = S(1) / (S(1) + exponential(-x));
        energy += u * x * gate;
        put(back + k * net.hidden + h,
            counts ? u * gate * (S(1) + x * (S(1) - gate)) : Vec<S>{});
      }
      if (k < n) work.energies[i0 + k] = counts ? (double)total<S>(energy) + net.b2 : 0.0;
    }
    if (!slopes) continue;
    dense<S>(back, net.hidden, net.w1_t, net.inputs, (const S *)nullptr, in);
    for (int k = 0; k < n; k++)
      for (int s = 0; s < net.levels; s++)
        for (int o = 0; o < net.blocks; o++) {
          const int64_t p = (i0 + k) * net.feature + o * block;
          invariants_back<K>(net.lmax, work.features[s] + p,
                             in + k * net.inputs + s * level + o * one,
                             work.slopes[s] + p);
        }
  }
}

}  // namespace
