// The neighbour sum of one receiver and one block of channels, and its gradients.
//
//   T[b][a] = sum over the edges of Y_a (g_l(a) F_b), the self edge included
//
// One component b of the sources at a time, results in registers. Level 0 reads features
// of species (component 0 only) in place of those of atoms.
#pragma once
#include <utility>

#include "lanes.h"

namespace {

template <int... I> using Sequence = std::integer_sequence<int, I...>;
template <int n> using Upto = std::make_integer_sequence<int, n>;

template <class S> struct ReceiverOf {
  const S *features;         // of this block of channels
  int64_t feature;           // numbers from one source to the next
  const S *scalars;          // of this block
  int64_t scalar, degree;    // numbers from pair to pair, from degree to degree
  const S *harmonics;
  const int32_t *source, *row;
  int64_t begin, end;        // edges
  const S *own, *self;       // features of the receiver, scalars of its self edge
};
template <class K> using Receiver = ReceiverOf<typename K::S>;

constexpr int AHEAD = 6;  // edges whose rows are fetched before they are needed
constexpr int LIST_ROOM = 8;  // entries behind the lists of edges that may be read

// Whether any path reads component a of the harmonics with component b of the features.
constexpr int degree_of(int a) {
  int l = 0;
  while ((l + 1) * (l + 1) <= a) l++;
  return l;
}
constexpr bool even_path_reads(int lmax, int a, int b) {
  const int l1 = degree_of(a), l2 = degree_of(b);
  const int m1 = a - l1 * l1 - l1, m2 = b - l2 * l2 - l2;
  const int u = m1 < 0 ? -m1 : m1, v = m2 < 0 ? -m2 : m2;
  const bool sine = (m1 < 0) != (m2 < 0);
  const int low = l1 < l2 ? l2 - l1 : l1 - l2, high = l1 + l2;
  for (int l = low; l <= high && l <= lmax; l += 2) {
    if (u + v <= l && !(sine && u + v == 0)) return true;
    const int m = u < v ? v - u : u - v;
    if (m <= l && !(sine && m == 0)) return true;
  }
  return false;
}
// The same for all a at once, one bit each; b < 0: not known, all of them.
template <class K> constexpr uint32_t read_with(int b) {
  uint32_t bits = 0;
  for (int a = 0; a < K::M; a++)
    if (!K::EVEN || b < 0 || even_path_reads(K::L, a, b)) bits |= uint32_t(1) << a;
  return bits;
}

constexpr int most(int a, int b) { return a > b ? a : b; }
constexpr int least(int a, int b) { return a < b ? a : b; }

// Rows A0 .. A1 of T for component b; B is b where it is known, else -1.
template <class K, int A0, int A1, int B>
INLINE void component(const Receiver<K> &q, int b, typename K::S *T) {
  typedef typename K::S S;
  constexpr int U = K::U;
  constexpr uint32_t READ = read_with<K>(B);
  N<K> sum[A1 - A0];
  UNROLL for (int k = 0; k < A1 - A0; k++) sum[k] = zero<K>();
  const S *features = q.features + b * U;
  if (A0 == 0) sum[0] = times<K>(get<K>(q.self), get<K>(q.own + b * U));
  NOUNROLL for (int64_t e = q.begin; e < q.end; e++) {
    const S *f = features + q.source[e] * q.feature;
    const S *g = q.scalars + (q.row[e] >> 1) * q.scalar;
    const S *y = q.harmonics + (int64_t)q.row[e] * K::Y - 1;
    if (A0 == 0) {
      fetch_near(f + U);
      if (K::CX) fetch_near(f + U + K::W);
      if (b == 0) {
        const S *next = q.scalars + (q.row[e + AHEAD] >> 1) * q.scalar;
        UNROLL for (int l = 0; l <= K::L; l++) {
          fetch_near(next + l * q.degree);
          if (K::CX) fetch_near(next + l * q.degree + K::W);
        }
        const S *far = features + q.source[e + AHEAD] * q.feature;
        fetch_near(far);
        if (K::CX) fetch_near(far + K::W);
        fetch_near(q.harmonics + (int64_t)q.row[e + AHEAD] * K::Y);
      }
    }
    const N<K> x = get<K>(f);
    UNROLL for (int l = 0; l <= K::L; l++) {
      if (l * l >= A1 || (l + 1) * (l + 1) <= A0) continue;
      const N<K> h = times<K>(get<K>(g + l * q.degree), x);
      for (int a = most(l * l, A0); a < least((l + 1) * (l + 1), A1); a++) {
        if (!(READ >> a & 1)) continue;
        if (a == 0) {
          add<K>(sum[0], h);
        } else {
          add_scaled<K>(sum[a - A0], y[a], h);
        }
      }
    }
  }
  UNROLL for (int a = A0; a < A1; a++) set<K>(T + (b * K::M + a) * U, sum[a - A0]);
}

// How many rows of T are summed at once: what fits into registers.
template <class K> constexpr int row_groups() {
  constexpr int fit = REGISTERS == 32 ? (K::CX ? 12 : 25) : (K::CX ? 5 : 12);
  return (K::M + fit - 1) / fit;
}
template <class K, int B, int... G>
INLINE void all_rows(const Receiver<K> &q, int b, typename K::S *T,
                     Sequence<G...>) {
  constexpr int n = sizeof...(G);
  (component<K, K::M * G / n, K::M *(G + 1) / n, B>(q, b, T), ...);
}
template <class K, int... B>
INLINE void each_component(const Receiver<K> &q, typename K::S *T, Sequence<B...>) {
  (all_rows<K, B>(q, B, T, Upto<row_groups<K>()>{}), ...);
}

template <class K>
__attribute__((noinline)) void sum_edges(const Receiver<K> &q, typename K::S *T) {
  if constexpr (K::EVEN) {
    each_component<K>(q, T, Upto<K::M>{});
  } else {
    NOUNROLL for (int b = 0; b < K::M; b++)
      all_rows<K, -1>(q, b, T, Upto<row_groups<K>()>{});
  }
}
// As the paths of the network ask.
template <class K>
INLINE void sum_paths(const Net<typename K::S> &net, const Receiver<K> &q,
                      typename K::S *T) {
  if constexpr (K::L == EVEN_LMAX)
    if (net.even) return sum_edges<EvenPaths<K>>(q, T);
  sum_edges<K>(q, T);
}
template <class K>
__attribute__((noinline)) void sum_first_edges(const Receiver<K> &q, typename K::S *T) {
  all_rows<K, -1>(q, 0, T, Upto<row_groups<K>()>{});
}

// ------------------------------------------------------------------------- gradients

// Degrees L0 .. L1 of the harmonics of one edge: scalars and the sums of their gradients.
template <class K, int L0, int L1> struct EdgeState {
  static constexpr int A0 = most(L0 * L0, 1), A1 = (L1 + 1) * (L1 + 1);
  N<K> g[L1 - L0 + 1], slope[L1 - L0 + 1];
  Vec<typename K::S> y[A1 - A0];
};

// What one component of the source adds; its own gradient goes to `to`.
template <class K, int L0, int L1, int B, bool ADD>
INLINE void component_back(EdgeState<K, L0, L1> &e, int b, const typename K::S *f,
                           const typename K::S *y, const typename K::S *T,
                           typename K::S *to) {
  constexpr int U = K::U, A0 = EdgeState<K, L0, L1>::A0;
  constexpr uint32_t READ = read_with<K>(B);
  const N<K> x = get<K>(f + b * U);
  N<K> down = zero<K>();
  UNROLL for (int l = L0; l <= L1; l++) {
    const N<K> h = times<K>(e.g[l - L0], x);
    N<K> u = zero<K>();
    UNROLL for (int a = l * l; a < (l + 1) * (l + 1); a++) {
      if (!(READ >> a & 1)) continue;
      const N<K> t = get<K>(T + (b * K::M + a) * U);
      if (a == 0) {
        u = t;
      } else {
        add_scaled<K>(u, y[a], t);
        add_inner<K>(e.y[a - A0], t, h);
      }
    }
    add_conj<K>(down, e.g[l - L0], u);
    add_conj<K>(e.slope[l - L0], x, u);
  }
  if (!to) return;
  if (ADD) add<K>(down, get<K>(to + b * U));
  set<K>(to + b * U, down);
}

template <class K, int L0, int L1, bool ADD, int... B>
INLINE void components_back(EdgeState<K, L0, L1> &e, const typename K::S *f,
                            const typename K::S *y, const typename K::S *T,
                            typename K::S *to, Sequence<B...>) {
  (component_back<K, L0, L1, B, ADD>(e, B, f, y, T, to), ...);
}

// Degrees L0 .. L1 of one edge: gradients of its scalars are set, those of the features
// of its source set or added to, those of its harmonics left in `sums`.
template <class K, int L0, int L1, bool FIRST, bool ADD>
INLINE void degrees_back(const Receiver<K> &q, int64_t e, const typename K::S *T,
                         typename K::S *scalars, typename K::S *features,
                         Vec<typename K::S> *sums) {
  typedef typename K::S S;
  typedef EdgeState<K, L0, L1> State;
  const S *f = q.features + q.source[e] * q.feature;
  const S *g = q.scalars + (q.row[e] >> 1) * q.scalar;
  const S *y = q.harmonics + (int64_t)q.row[e] * K::Y - 1;
  State state;
  UNROLL for (int l = L0; l <= L1; l++) {
    state.g[l - L0] = get<K>(g + l * q.degree);
    state.slope[l - L0] = zero<K>();
  }
  UNROLL for (int a = State::A0; a < State::A1; a++) state.y[a - State::A0] = Vec<S>{};
  if constexpr (FIRST) {
    component_back<K, L0, L1, -1, false>(state, 0, f, y, T, nullptr);
  } else if constexpr (K::EVEN) {
    components_back<K, L0, L1, ADD>(state, f, y, T, features, Upto<K::M>{});
  } else {
    NOUNROLL for (int b = 0; b < K::M; b++)
      component_back<K, L0, L1, -1, ADD>(state, b, f, y, T, features);
  }
  UNROLL for (int l = L0; l <= L1; l++) set<K>(scalars + l * q.degree, state.slope[l - L0]);
  UNROLL for (int a = State::A0; a < State::A1; a++) sums[a - 1] = state.y[a - State::A0];
}

// Largest degree of the first pass over an edge; those above have a pass of their own.
template <class K> constexpr int first_pass() {
  if (REGISTERS == 32) return K::CX ? 2 : 3;
  return K::CX ? 1 : 2;
}

template <class K, int L0, bool FIRST>
INLINE void more_degrees_back(const Receiver<K> &q, int64_t e, const typename K::S *T,
                              typename K::S *scalars, typename K::S *features,
                              Vec<typename K::S> *sums) {
  if constexpr (L0 <= K::L) {
    degrees_back<K, L0, L0, FIRST, true>(q, e, T, scalars, features, sums);
    more_degrees_back<K, L0 + 1, FIRST>(q, e, T, scalars, features, sums);
  }
}

// All gradients of one edge. ADD: those of the source are added to, each with one
// addition, so that it does not matter where they were computed.
template <class K, bool FIRST, bool ADD>
INLINE void edge_back(const Receiver<K> &q, int64_t e, const typename K::S *T,
                      typename K::S *scalars, typename K::S *features,
                      typename K::S *harmonics) {
  typedef typename K::S S;
  constexpr int TOP = least(first_pass<K>(), K::L);
  Vec<S> sums[K::M - 1];
  if constexpr (TOP == K::L) {
    degrees_back<K, 0, K::L, FIRST, ADD>(q, e, T, scalars, features, sums);
  } else {
    alignas(VECTOR_BYTES) S part[K::M * K::U];
    S *to = ADD && !FIRST ? part : features;
    degrees_back<K, 0, TOP, FIRST, false>(q, e, T, scalars, to, sums);
    more_degrees_back<K, TOP + 1, FIRST>(q, e, T, scalars, to, sums);
    if (ADD && !FIRST)
      for (int k = 0; k < K::M * K::U; k += K::W)
        put(features + k, at(features + k) + at(part + k));
  }
  add_all_sums<S, K::M - 1>(sums, harmonics);
}

}  // namespace
