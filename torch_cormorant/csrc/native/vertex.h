// The vertex step on ATOMS receivers at a time: neighbour sum, Clebsch-Gordan products,
// mixing, norm and gate; and the way back.
#pragma once
#include "matrices.h"
#include "neighbours_sum.h"

namespace {

// Scratch of a thread: T of one block, rows of all degrees, results of the mixing, and
// plain rows for the gate.
template <class K> struct VertexScratch {
  typedef typename K::S S;
  S *T, *rows, *out, *in, *gates;
  VertexScratch(const Net<S> &net, S *memory) {
    T = memory;
    rows = T + K::M * K::M * K::U;
    out = rows + net.rows;
    in = out + ATOMS * net.feature;
    gates = in + ATOMS * net.blocks * K::U;
  }
  static int64_t size(const Net<S> &net) {
    return K::M * K::M * K::U + net.rows + ATOMS * net.feature +
           (int64_t)ATOMS * net.blocks * (K::U + (K::L + 1) * K::W);
  }
};

template <class K>
INLINE Receiver<K> receiver(const Net<typename K::S> &net, const Work<typename K::S> &work,
                            int s, int64_t i, int block) {
  Receiver<K> q;
  if (s) {
    q.features = work.features[s - 1] + block * K::M * K::U;
    q.feature = net.feature;
    q.source = work.source;
    q.own = q.features + i * net.feature;
  } else {
    q.features = net.input + block * K::U;
    q.feature = net.blocks * K::U;
    q.source = work.source_kind;
    q.own = q.features + work.kind[i] * q.feature;
  }
  q.scalars = work.scalars[s] + block * K::U;
  q.scalar = net.scalar;
  q.degree = net.blocks * K::U;
  q.harmonics = work.harmonics;
  q.row = work.row;
  q.begin = work.rowptr[i];
  q.end = work.rowptr[i + 1];
  q.self = q.scalars + (work.self + i) * net.scalar;
  return q;
}

// Rows of one degree in scratch: distance of blocks, of atoms, of components.
template <class K> INLINE int64_t block_step(int l) { return ATOMS * (2 * l + 1) * K::U; }
template <class K> INLINE int64_t atom_step(int l) { return (2 * l + 1) * K::U; }

// ------------------------------------------------------------------------ forward

// Rows of the neighbour sum, the features and their square of one atom and block.
template <class K>
INLINE void fill_rows(const Net<typename K::S> &net, const Work<typename K::S> &work, int s,
                      int64_t i, int k, int block, const VertexScratch<K> &memory) {
  typedef typename K::S S;
  constexpr int U = K::U;
  const Receiver<K> q = receiver<K>(net, work, s, i, block);
  sum_paths<K>(net, q, memory.T);
  for (int r = 0; r < net.sum_rows; r++) {
    const Row &row = net.sum[r];
    N<K> sum = zero<K>();
    for (int n = row.begin; n < row.end; n++)
      add_scaled<K>(sum, net.sum_terms[n].value, get<K>(memory.T + net.sum_terms[n].a));
    const int l = row.degree;
    set<K>(memory.rows + row.at + block * block_step<K>(l) + k * atom_step<K>(l), sum);
  }
  for (int l = 0; l <= K::L; l++) {
    S *to = memory.rows + net.rows_at[l] +
            (net.sums[l] * net.blocks + block) * block_step<K>(l) + k * atom_step<K>(l);
    for (int m = 0; m < 2 * l + 1; m++)
      set<K>(to + m * U, get<K>(q.own + (l * l + m) * U));
  }
  for (int r = 0; r < net.square_rows; r++) {
    const Row &row = net.square[r];
    N<K> sum = zero<K>();
    for (int n = row.begin; n < row.end; n++) {
      const Term<S> &term = net.square_terms[n];
      add_times<K>(sum, scaled<K>(get<K>(q.own + term.a), term.value),
                   get<K>(q.own + term.b));
    }
    const int l = row.degree;
    set<K>(memory.rows + row.at + block * block_step<K>(l) + k * atom_step<K>(l), sum);
  }
}

// Level 0: one row a degree, the neighbour sum.
template <class K>
INLINE void fill_first_rows(const Net<typename K::S> &net, const Work<typename K::S> &work,
                            int64_t i, int k, int block, const VertexScratch<K> &memory) {
  sum_first_edges<K>(receiver<K>(net, work, 0, i, block), memory.T);
  for (int l = 0; l <= K::L; l++)
    for (int m = 0; m < 2 * l + 1; m++)
      set<K>(memory.rows + net.rows_at[l] + block * block_step<K>(l) +
                 k * atom_step<K>(l) + m * K::U,
             get<K>(memory.T + (l * l + m) * K::U));
}

// Results of the mixing lie [degree][block][row]; one atom of them as features.
template <class K, bool BACK>
INLINE void move_rows(const Net<typename K::S> &net, typename K::S *out, int k,
                      typename K::S *x) {
  constexpr int U = K::U;
  for (int l = 0; l <= K::L; l++)
    for (int o = 0; o < net.blocks; o++)
      for (int m = 0; m < 2 * l + 1; m++) {
        typename K::S *row = out + (ATOMS * l * l * net.blocks) * (int64_t)U +
                             o * block_step<K>(l) + k * atom_step<K>(l) + m * U;
        typename K::S *y = x + (o * K::M + l * l + m) * (int64_t)U;
        if (BACK)
          set<K>(row, get<K>(y));
        else
          set<K>(y, get<K>(row));
      }
}

template <class K>
INLINE void norm(const Net<typename K::S> &net, const Level<typename K::S> &level,
                 typename K::S *x, typename K::S *inverse) {
  typedef typename K::S S;
  constexpr int U = K::U;
  for (int l = 0; l <= K::L; l++) {
    Vec<S> power = {};
    for (int o = 0; o < net.blocks; o++)
      for (int m = l * l; m < (l + 1) * (l + 1); m++) {
        const N<K> v = get<K>(x + (o * K::M + m) * U);
        add_inner<K>(power, v, v);
      }
    const S f = S(1) / root(total<S>(power) * level.mean[l] + net.eps);
    inverse[l] = f;
    for (int o = 0; o < net.blocks; o++)
      for (int m = l * l; m < (l + 1) * (l + 1); m++) {
        S *p = x + (o * K::M + m) * U;
        set<K>(p, scaled<K>(get<K>(p), f));
      }
  }
}

// slope = gradient of the normalised y, turned into that of what was normalised.
template <class K>
INLINE void norm_back(const Net<typename K::S> &net, const Level<typename K::S> &level,
                      const typename K::S *y, const typename K::S *inverse,
                      typename K::S *slope) {
  typedef typename K::S S;
  constexpr int U = K::U;
  for (int l = 0; l <= K::L; l++) {
    Vec<S> both = {};
    for (int o = 0; o < net.blocks; o++)
      for (int m = l * l; m < (l + 1) * (l + 1); m++)
        add_inner<K>(both, get<K>(y + (o * K::M + m) * U),
                     get<K>(slope + (o * K::M + m) * U));
    const S mean = -total<S>(both) * level.mean[l];
    for (int o = 0; o < net.blocks; o++)
      for (int m = l * l; m < (l + 1) * (l + 1); m++) {
        S *p = slope + (o * K::M + m) * U;
        N<K> v = get<K>(p);
        add_scaled<K>(v, mean, get<K>(y + (o * K::M + m) * U));
        set<K>(p, scaled<K>(v, inverse[l]));
      }
  }
}

// Gates of ATOMS atoms, and features times gates; what comes in is kept.
template <class K>
void gate(const Net<typename K::S> &net, const Work<typename K::S> &work, int s, int64_t i0,
          int n, const VertexScratch<K> &memory) {
  typedef typename K::S S;
  constexpr int U = K::U, W = K::W;
  const int inputs = net.blocks * U, outputs = (K::L + 1) * net.blocks * W;
  for (int k = 0; k < n; k++)
    for (int o = 0; o < net.blocks; o++)
      set<K>(memory.in + k * inputs + o * U,
             get<K>(work.plain[s] + (i0 + k) * net.feature + o * K::M * U));
  for (int j = n * inputs; j < ATOMS * inputs; j += W) put(memory.in + j, Vec<S>{});
  dense<S>(memory.in, inputs, net.level[s].gate, outputs, net.level[s].gate_bias,
           memory.gates);
  for (int k = 0; k < n; k++)
    for (int l = 0; l <= K::L; l++)
      for (int o = 0; o < net.blocks; o++) {
        const int j = (l * net.blocks + o) * W;
        const Vec<S> value =
            S(2) / (S(1) + exponential(-at(memory.gates + k * outputs + j)));
        put(work.gates[s] + (i0 + k) * outputs + j, value);
        for (int m = l * l; m < (l + 1) * (l + 1); m++) {
          const int64_t p = (i0 + k) * net.feature + (o * K::M + m) * U;
          set<K>(work.features[s] + p, scaled<K>(get<K>(work.plain[s] + p), value));
        }
      }
}

template <class K>
void gate_back(const Net<typename K::S> &net, const Work<typename K::S> &work, int s,
               int64_t i0, int n, const VertexScratch<K> &memory) {
  typedef typename K::S S;
  constexpr int U = K::U, W = K::W;
  const int inputs = net.blocks * U, outputs = (K::L + 1) * net.blocks * W;
  for (int j = n * outputs; j < ATOMS * outputs; j += W) put(memory.gates + j, Vec<S>{});
  for (int k = 0; k < n; k++)
    for (int l = 0; l <= K::L; l++)
      for (int o = 0; o < net.blocks; o++) {
        const int j = (l * net.blocks + o) * W;
        const Vec<S> value = at(work.gates[s] + (i0 + k) * outputs + j);
        Vec<S> slope = {};
        for (int m = l * l; m < (l + 1) * (l + 1); m++) {
          const int64_t p = (i0 + k) * net.feature + (o * K::M + m) * U;
          const N<K> d = get<K>(work.slopes[s] + p);
          add_inner<K>(slope, d, get<K>(work.features[s] + p));
          set<K>(work.slopes[s] + p, scaled<K>(d, value));
        }
        put(memory.gates + k * outputs + j, slope * (S(1) - S(0.5) * value));
      }
  dense<S>(memory.gates, outputs, net.level[s].gate_t, inputs, (const S *)nullptr,
           memory.in);
  for (int k = 0; k < n; k++)
    for (int o = 0; o < net.blocks; o++) {
      S *p = work.slopes[s] + (i0 + k) * net.feature + o * K::M * U;
      N<K> v = get<K>(p);
      add<K>(v, get<K>(memory.in + k * inputs + o * U));
      set<K>(p, v);
    }
}

template <class K>
void atoms_forward(const Net<typename K::S> &net, const Work<typename K::S> &work, int s,
                   int64_t first, int64_t last, typename K::S *scratch) {
  typedef typename K::S S;
  constexpr int U = K::U;
  const VertexScratch<K> memory(net, scratch);
  const Level<S> &level = net.level[s];
  for (int64_t i0 = first; i0 < last; i0 += ATOMS) {
    const int n = last - i0 < ATOMS ? (int)(last - i0) : ATOMS;
    for (int k = 0; k < n; k++)
      for (int block = 0; block < net.blocks; block++)
        if (s)
          fill_rows<K>(net, work, s, i0 + k, k, block, memory);
        else
          fill_first_rows<K>(net, work, i0 + k, k, block, memory);
    for (int l = 0; l <= K::L; l++)
      mix_rows<AnyDegree<K>>(memory.rows + net.rows_at[l], n * (2 * l + 1),
                             (s ? net.units[l] : 1) * net.blocks, block_step<K>(l),
                             level.vertex[l], net.blocks,
                             memory.out + (int64_t)ATOMS * l * l * net.blocks * U,
                             block_step<K>(l));
    S *to = net.gate ? work.plain[s] : work.features[s];
    for (int k = 0; k < n; k++) {
      S *x = to + (i0 + k) * net.feature;
      move_rows<K, false>(net, memory.out, k, x);
      if (!s)
        for (int o = 0; o < net.blocks; o++) {
          N<K> v = get<K>(x + o * K::M * U);
          add<K>(v, get<K>(level.atom_constant +
                           (work.kind[i0 + k] * net.blocks + o) * U));
          set<K>(x + o * K::M * U, v);
        }
      if (net.norm) norm<K>(net, level, x, work.inverse[s] + (i0 + k) * (MAX_LMAX + 1));
    }
    if (net.gate) gate<K>(net, work, s, i0, n, memory);
  }
}

// ------------------------------------------------------------------------ backward

// Gradients that reach the features of atom i through dot products of the level above.
template <class K, int L0, int L1>
INLINE void degrees_of_dots(const Net<typename K::S> &net, const Work<typename K::S> &work,
                            int s, int64_t i, int o) {
  typedef typename K::S S;
  constexpr int U = K::U, A0 = L0 * L0, A1 = (L1 + 1) * (L1 + 1);
  const int64_t degree = net.blocks * U;
  const S *features = work.features[s] + o * K::M * U, *slopes = work.scalars[s + 1] + o * U;
  N<K> sum[A1 - A0];
  UNROLL for (int a = A0; a < A1; a++) sum[a - A0] = zero<K>();
  {
    const S *x = features + i * net.feature, *u = slopes + (work.self + i) * net.scalar;
    UNROLL for (int l = L0; l <= L1; l++) {
      const N<K> v = scaled<K>(get<K>(u + l * degree), S(2));
      UNROLL for (int a = l * l; a < (l + 1) * (l + 1); a++)
        add_conj<K>(sum[a - A0], get<K>(x + a * U), v);
    }
  }
  for (int64_t e = work.rowptr[i]; e < work.rowptr[i + 1]; e++) {
    const S *x = features + work.source[e] * net.feature;
    const S *u = slopes + (work.row[e] >> 1) * net.scalar;
    const S *far = features + work.source[e + 2] * net.feature;
    const S *next = slopes + (work.row[e + 4] >> 1) * net.scalar;
    UNROLL for (int l = L0; l <= L1; l++) {
      fetch_near(next + l * degree);
      if (K::CX) fetch_near(next + l * degree + K::W);
      const N<K> v = get<K>(u + l * degree);
      UNROLL for (int a = l * l; a < (l + 1) * (l + 1); a++) {
        fetch_near(far + a * U);
        if (K::CX) fetch_near(far + a * U + K::W);
        add_conj<K>(sum[a - A0], get<K>(x + a * U), v);
      }
    }
  }
  S *to = work.slopes[s] + i * net.feature + o * K::M * U;
  UNROLL for (int a = A0; a < A1; a++) {
    add<K>(sum[a - A0], get<K>(to + a * U));
    set<K>(to + a * U, sum[a - A0]);
  }
}
template <class K, int L0>
INLINE void more_degrees_of_dots(const Net<typename K::S> &net,
                                 const Work<typename K::S> &work, int s, int64_t i, int o) {
  if constexpr (L0 <= K::L) {
    degrees_of_dots<K, L0, L0>(net, work, s, i, o);
    more_degrees_of_dots<K, L0 + 1>(net, work, s, i, o);
  }
}

// Everything that the level above adds to the gradient of atom i.
template <class K>
__attribute__((noinline)) void collect_slopes(const Net<typename K::S> &net,
                                              const Work<typename K::S> &work, int s,
                                              int64_t i) {
  typedef typename K::S S;
  for (int o = 0; o < net.blocks; o++) {
    constexpr int TOP = least(first_pass<K>(), K::L);
    degrees_of_dots<K, 0, TOP>(net, work, s, i, o);
    more_degrees_of_dots<K, TOP + 1>(net, work, s, i, o);
  }
  S *from = work.scattered[s & 1] + i * net.feature, *to = work.slopes[s] + i * net.feature;
  for (int64_t k = 0; k < net.feature; k += K::W) {
    put(to + k, at(to + k) + at(from + k));
    put(from + k, Vec<S>{});  // for the level after the next
  }
}

// Gradients of an atom's own features through identity and square.
template <class K>
INLINE void own_back(const Net<typename K::S> &net, const Work<typename K::S> &work, int s,
                     int64_t i, int k, int block, const VertexScratch<K> &memory) {
  typedef typename K::S S;
  constexpr int U = K::U;
  const int64_t at_block = i * net.feature + block * K::M * U;
  const S *x = work.features[s - 1] + at_block;
  S *slope = work.slopes[s - 1] + at_block;
  for (int l = 0; l <= K::L; l++) {
    const S *u = memory.rows + net.rows_at[l] +
                 (net.sums[l] * net.blocks + block) * block_step<K>(l) +
                 k * atom_step<K>(l);
    for (int m = 0; m < 2 * l + 1; m++) {
      N<K> v = get<K>(slope + (l * l + m) * U);
      add<K>(v, get<K>(u + m * U));
      set<K>(slope + (l * l + m) * U, v);
    }
  }
  for (int r = 0; r < net.square_rows; r++) {
    const Row &row = net.square[r];
    const N<K> u = get<K>(memory.rows + row.at + block * block_step<K>(row.degree) +
                          k * atom_step<K>(row.degree));
    for (int n = row.begin; n < row.end; n++) {
      const Term<S> &term = net.square_terms[n];
      const N<K> v = scaled<K>(u, term.value);
      N<K> first = get<K>(slope + term.a);
      add_conj<K>(first, get<K>(x + term.b), v);
      set<K>(slope + term.a, first);
      N<K> second = get<K>(slope + term.b);
      add_conj<K>(second, get<K>(x + term.a), v);
      set<K>(slope + term.b, second);
    }
  }
}

// Gradient of T of one atom and block from those of its rows.
template <class K>
INLINE void table_back(const Net<typename K::S> &net, int k, int block,
                       const VertexScratch<K> &memory) {
  for (int r = 0; r < net.back_rows; r++) {
    const Row &row = net.back[r];
    N<K> sum = zero<K>();
    for (int n = row.begin; n < row.end; n++) {
      const Term<typename K::S> &term = net.back_terms[n];
      const int l = term.b;
      add_scaled<K>(sum, term.value,
                    get<K>(memory.rows + term.a + block * block_step<K>(l) +
                           k * atom_step<K>(l)));
    }
    set<K>(memory.T + row.at, sum);
  }
}

template <class K, bool FIRST, bool ADD>
__attribute__((noinline)) void edges_back(const Net<typename K::S> &net,
                                          const Work<typename K::S> &work, int s, int64_t i,
                                          int block, const typename K::S *T,
                                          typename K::S *parts, int64_t base) {
  typedef typename K::S S;
  constexpr int U = K::U;
  const Receiver<K> q = receiver<K>(net, work, s, i, block);
  {  // the self edge: only the scalar of degree 0
    const N<K> g = get<K>(q.self);
    N<K> slope = zero<K>();
    S *own = FIRST ? nullptr : work.slopes[s - 1] + i * net.feature + block * K::M * U;
    for (int b = 0; b < (FIRST ? 1 : K::M); b++) {
      const N<K> u = get<K>(T + b * K::M * U);
      add_conj<K>(slope, get<K>(q.own + b * U), u);
      if (FIRST) continue;
      N<K> v = get<K>(own + b * U);
      add_conj<K>(v, g, u);
      set<K>(own + b * U, v);
    }
    set<K>(work.self_slopes + (i * net.blocks + block) * U, slope);
  }
  S *sources = FIRST ? nullptr : work.scattered[(s - 1) & 1] + block * K::M * U;
  for (int64_t e = q.begin; e < q.end; e++) {
    const int64_t row = q.row[e];
    S *features = nullptr;
    if (!FIRST && ADD) {
      features = sources + q.source[e] * net.feature;
      const int64_t next = q.source[e + 2] * net.feature;
      UNROLL for (int b = 0; b < K::M * K::P; b++) {
        fetch_near(q.features + next + b * K::W);
        fetch_to_write(sources + next + b * K::W);
      }
    } else if (!FIRST) {
      features = parts + (e - base) * net.feature + block * K::M * U;
    }
    const int64_t soon = q.row[e + 4];
    S *slopes = work.scalar_slopes + block * U;
    UNROLL for (int l = 0; l <= K::L; l++)
      UNROLL for (int k = 0; k < U; k += K::W) {
        fetch_near(q.scalars + (soon >> 1) * q.scalar + l * q.degree + k);
        fetch_to_write(slopes + soon * net.scalar + l * q.degree + k);
      }
    fetch_near(q.harmonics + soon * K::Y);
    fetch_to_write(work.harmonic_slopes + soon * K::Y);
    edge_back<K, FIRST, ADD>(q, e, T, slopes + row * net.scalar, features,
                             work.harmonic_slopes + row * K::Y);
  }
}

// As the paths of the network ask, which only one degree has a form of its own for.
template <class K, bool ADD>
INLINE void paths_back(const Net<typename K::S> &net, const Work<typename K::S> &work,
                       int s, int64_t i, int block, const typename K::S *T,
                       typename K::S *parts, int64_t base) {
  if constexpr (K::L == EVEN_LMAX)
    if (net.even)
      return edges_back<EvenPaths<K>, false, ADD>(net, work, s, i, block, T, parts, base);
  edges_back<K, false, ADD>(net, work, s, i, block, T, parts, base);
}

template <class K>
void atoms_backward(const Net<typename K::S> &net, const Work<typename K::S> &work, int s,
                    int64_t first, int64_t last, typename K::S *parts, int64_t base,
                    typename K::S *scratch) {
  typedef typename K::S S;
  constexpr int U = K::U;
  const VertexScratch<K> memory(net, scratch);
  const Level<S> &level = net.level[s];
  for (int64_t i0 = first; i0 < last; i0 += ATOMS) {
    const int n = last - i0 < ATOMS ? (int)(last - i0) : ATOMS;
    if (s + 1 < net.levels)
      for (int k = 0; k < n; k++) collect_slopes<K>(net, work, s, i0 + k);
    if (net.gate) gate_back<K>(net, work, s, i0, n, memory);
    const S *y = net.gate ? work.plain[s] : work.features[s];
    for (int k = 0; k < n; k++) {
      const int64_t i = i0 + k;
      S *slope = work.slopes[s] + i * net.feature;
      if (net.norm)
        norm_back<K>(net, level, y + i * net.feature,
                     work.inverse[s] + i * (MAX_LMAX + 1), slope);
      move_rows<K, true>(net, memory.out, k, slope);
    }
    for (int l = 0; l <= K::L; l++) {
      const int units = (s ? net.units[l] : 1) * net.blocks;
      mix_rows<AnyDegree<K>>(memory.out + (int64_t)ATOMS * l * l * net.blocks * U,
                             n * (2 * l + 1), net.blocks, block_step<K>(l),
                             level.vertex_t[l], units, memory.rows + net.rows_at[l],
                             block_step<K>(l));
    }
    for (int k = 0; k < n; k++)
      for (int block = 0; block < net.blocks; block++) {
        if (s) {
          own_back<K>(net, work, s, i0 + k, k, block, memory);
          table_back<K>(net, k, block, memory);
          if (parts)
            paths_back<K, false>(net, work, s, i0 + k, block, memory.T, parts, base);
          else
            paths_back<K, true>(net, work, s, i0 + k, block, memory.T, parts, base);
          continue;
        }
        for (int l = 0; l <= K::L; l++)
          for (int m = 0; m < 2 * l + 1; m++)
            set<K>(memory.T + (l * l + m) * U,
                   get<K>(memory.rows + net.rows_at[l] + block * block_step<K>(l) +
                          k * atom_step<K>(l) + m * U));
        edges_back<K, true, true>(net, work, s, i0 + k, block, memory.T, parts, base);
      }
  }
}

template <class K>
void gather(const Net<typename K::S> &net, const Work<typename K::S> &work, int s,
            int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) collect_slopes<K>(net, work, s, i);
}

template <class S>
void collect(const Net<S> &net, const Work<S> &work, int s, int64_t first, int64_t last,
             const S *parts, int32_t owner, int32_t owners) {
  S *sources = work.scattered[(s - 1) & 1];
  for (int64_t e = first; e < last; e++, parts += net.feature) {
    const int64_t j = work.source[e];
    if (j % owners != owner) continue;
    S *to = sources + j * net.feature;
    for (int64_t k = 0; k < net.feature; k += lanes<S>())
      put(to + k, at(to + k) + at(parts + k));
  }
}

}  // namespace
