// One path (l1, l2, l) of the weighted sum, a vector of channels at a time.
//
// Harmonics have no channels: A[m1, m] = sum over m2 of C Y is a small matrix of numbers
// for every edge, shared by all channels. Which entries of C are not zero follows from
// selection rules and is known to the compiler; the numbers come from the exact tables.
#pragma once
#include <utility>

#include "../vector.h"

namespace {

constexpr int EDGES = 32;  // of a block: what they read and write stays in the cache
constexpr int TOP_L = WEIGHTED_TOP;
constexpr int COMPONENTS = (TOP_L + 1) * (TOP_L + 1);
constexpr int HARMONICS = (COMPONENTS + 15) / 16 * 16;  // padded to whole vectors
constexpr int ENTRIES = (2 * TOP_L + 1) * (2 * TOP_L + 1);

template <int K> struct Int {
  static constexpr int value = K;
};
#define AT(k) decltype(k)::value
template <class F, int... K>
INLINE void each_of(const F &f, std::integer_sequence<int, K...>) {
  (f(Int<K>{}), ...);
}
// f(Int<0>), f(Int<1>), ..., f(Int<N - 1>), written out
template <int N, class F> INLINE void each(const F &f) {
  each_of(f, std::make_integer_sequence<int, N>{});
}
#define EACH(k) [&](auto k) __attribute__((always_inline))

template <class S> INLINE Vec<S> get(const S *p) {
  return *(const typename Type<S>::U *)p;
}
template <class S> INLINE void put(S *p, const Vec<S> &v) {
  *(typename Type<S>::U *)p = v;
}

struct Entries {
  int count = 0, first[ENTRIES] = {}, second[ENTRIES] = {};
};

constexpr int magnitude(int m) { return m < 0 ? -m : m; }

template <int L1, int L2, int L> struct Rules {
  static constexpr int M1 = 2 * L1 + 1, M2 = 2 * L2 + 1, M = 2 * L + 1;
  // Whether C[a, b, m] may differ from zero: |m| is the sum or the difference of the
  // others, and the number of negative ones is even as l1 + l2 + l is.
  static constexpr bool coupled(int a, int b, int m) {
    const int i = a - L1, j = b - L2, k = m - L;
    const int x = magnitude(i), y = magnitude(j), z = magnitude(k);
    return (z == x + y || z == magnitude(x - y)) &&
           ((i < 0) + (j < 0) + (k < 0) + L1 + L2 + L) % 2 == 0;
  }
  static constexpr Entries with_result() {  // pairs (m1, m): entries of A
    Entries found;
    for (int a = 0; a < M1; a++)
      for (int m = 0; m < M; m++) {
        bool any = false;
        for (int b = 0; b < M2; b++) any = any || coupled(a, b, m);
        if (any) {
          found.first[found.count] = a;
          found.second[found.count++] = m;
        }
      }
    return found;
  }
  static constexpr Entries with_harmonic() {  // pairs (m1, m2): entries of G = C dout
    Entries found;
    for (int a = 0; a < M1; a++)
      for (int b = 0; b < M2; b++) {
        bool any = false;
        for (int m = 0; m < M; m++) any = any || coupled(a, b, m);
        if (any) {
          found.first[found.count] = a;
          found.second[found.count++] = b;
        }
      }
    return found;
  }
};

// Rows of a block of edges: every pointer stands at the first channel of the path.
template <class S> struct Rows {
  int count;
  const S *x[EDGES], *w[EDGES], *y[EDGES];
  S *dx[EDGES], *dw[EDGES];
  const S *ux[EDGES], *uw[EDGES], *uy[EDGES];  // second order
  Vec<S> *dy;                                  // [EDGES][HARMONICS] of the path's l2
};

// Channels of a result: from component to component `wide` numbers.
template <class S> struct Strides {
  int64_t channels, wide;
};

template <class S, int L1, int L2, int L> struct Path {
  typedef Rules<L1, L2, L> R;
  typedef Vec<S> V;
  static constexpr int M1 = R::M1, M2 = R::M2, M = R::M, W = lanes<S>();
  static constexpr Entries A = R::with_result(), G = R::with_harmonic();

  static INLINE_MEMBER S cg(const S *table, int a, int b, int m) {
    return table[(a * M2 + b) * M + m];
  }

  // A[entry][edge] of a block from Y[m2][edge]
  static void prepare(const S *table, const S *y, S *a_of) {
    for (int e = 0; e < EDGES; e += W) {
      each<A.count>(EACH(k) {
        constexpr int a = A.first[AT(k)], m = A.second[AT(k)];
        V sum = {};
        each<M2>(EACH(b) {
          if constexpr (R::coupled(a, AT(b), m))
            sum += cg(table, a, AT(b), m) * get(y + AT(b) * EDGES + e);
        });
        put(a_of + AT(k) * EDGES + e, sum);
      });
    }
  }

  // Add A f to NV vectors of every component
  template <int NV>
  static INLINE_MEMBER void add(const S *a_of, const V (&f)[M1][NV], V (&o)[M][NV]) {
    each<A.count>(EACH(k) {
      constexpr int a = A.first[AT(k)], m = A.second[AT(k)];
      const S q = a_of[AT(k) * EDGES];
      each<NV>(EACH(v) { o[m][AT(v)] += q * f[a][AT(v)]; });
    });
  }

  template <int NV>
  static void forward(const Rows<S> &rows, const S *a_of, S *out, Strides<S> s,
                      int64_t at, bool fresh) {
    V o[M][NV];
    each<M * NV>(EACH(k) {
      constexpr int m = AT(k) / NV, v = AT(k) % NV;
      o[m][v] = fresh ? V{} : get(out + m * s.wide + at + v * W);
    });
    for (int e = 0; e < rows.count; e++) {
      const S *x = rows.x[e] + at, *w = rows.w[e] + at;
      V f[M1][NV], weight[NV];
      each<NV>(EACH(v) { weight[AT(v)] = get(w + AT(v) * W); });
      each<M1 * NV>(EACH(k) {
        constexpr int a = AT(k) / NV, v = AT(k) % NV;
        f[a][v] = get(x + a * s.channels + v * W);
        if (M1 <= M) f[a][v] *= weight[v];
      });
      if constexpr (M1 <= M) {
        add<NV>(a_of + e, f, o);
      } else {  // fewer components behind the product: the weight acts there
        V t[M][NV];
        each<M * NV>(EACH(k) { t[AT(k) / NV][AT(k) % NV] = V{}; });
        add<NV>(a_of + e, f, t);
        each<M * NV>(EACH(k) {
          constexpr int m = AT(k) / NV, v = AT(k) % NV;
          o[m][v] += weight[v] * t[m][v];
        });
      }
    }
    each<M * NV>(EACH(k) {
      constexpr int m = AT(k) / NV, v = AT(k) % NV;
      put(out + m * s.wide + at + v * W, o[m][v]);
    });
  }

  // What the gradient of the gradient has for the result: A(Y) (w ux + uw x)
  // + A(uy) (w x)
  static void second_forward(const Rows<S> &rows, const S *a_of, const S *ua_of, S *out,
                             Strides<S> s, int64_t at, bool fresh) {
    V o[M][1];
    each<M>(EACH(m) {
      o[AT(m)][0] = fresh ? V{} : get(out + AT(m) * s.wide + at);
    });
    for (int e = 0; e < rows.count; e++) {
      const V w = get(rows.w[e] + at), uw = get(rows.uw[e] + at);
      V q[M1][1], h[M1][1];
      each<M1>(EACH(a) {
        const int64_t k = AT(a) * s.channels + at;
        const V x = get(rows.x[e] + k);
        h[AT(a)][0] = w * x;
        q[AT(a)][0] = w * get(rows.ux[e] + k) + uw * x;
      });
      add<1>(a_of + e, q, o);
      add<1>(ua_of + e, h, o);
    }
    each<M>(EACH(m) { put(out + AT(m) * s.wide + at, o[AT(m)][0]); });
  }

  // G[m1, m2] = C dout, once for each receiver
  static INLINE_MEMBER void spread(const S *table, const S *out, Strides<S> s,
                                   int64_t at, V (&g)[G.count]) {
    V d[M];
    each<M>(EACH(m) { d[AT(m)] = get(out + AT(m) * s.wide + at); });
    each<G.count>(EACH(k) {
      constexpr int a = G.first[AT(k)], b = G.second[AT(k)];
      V sum = {};
      each<M>(EACH(m) {
        if constexpr (R::coupled(a, b, AT(m))) sum += cg(table, a, b, AT(m)) * d[AT(m)];
      });
      g[AT(k)] = sum;
    });
  }

  template <int a> static INLINE_MEMBER V dot(const S *y, const V (&g)[G.count]) {
    V u = {};
    each<G.count>(EACH(k) {
      if constexpr (G.first[AT(k)] == a) u += y[G.second[AT(k)]] * g[AT(k)];
    });
    return u;
  }

  template <int a>
  static INLINE_MEMBER void add_dy(const V &h, const V (&g)[G.count], V (&z)[M2]) {
    each<G.count>(EACH(k) {
      if constexpr (G.first[AT(k)] == a) z[G.second[AT(k)]] += h * g[AT(k)];
    });
  }

  // u = G Y; dw = x u; dx += w u; dY += (w x) G
  template <bool NEED_SH>
  static void backward(const Rows<S> &rows, const S *table, const S *out, Strides<S> s,
                       int64_t at) {
    V g[G.count];
    spread(table, out, s, at, g);
    for (int e = 0; e < rows.count; e++) {
      const S *x = rows.x[e] + at;
      S *dx = rows.dx[e] + at;
      const V w = get(rows.w[e] + at);
      V dw = {}, z[M2];
      each<M2>(EACH(b) { z[AT(b)] = V{}; });
      each<M1>(EACH(a) {
        const V f = get(x + AT(a) * s.channels), u = dot<AT(a)>(rows.y[e], g);
        dw += f * u;
        S *to = dx + AT(a) * s.channels;
        put(to, get(to) + w * u);
        if (NEED_SH) add_dy<AT(a)>(w * f, g, z);
      });
      put(rows.dw[e] + at, dw);
      if (NEED_SH)
        each<M2>(EACH(b) { rows.dy[e * HARMONICS + AT(b)] += z[AT(b)]; });
    }
  }

  // The same from cotangents of the three: u = G Y, v = G uy, q = w ux + uw x;
  // dx += w v + uw u; dw = ux u + x v; dY += q G
  static void second_backward(const Rows<S> &rows, const S *table, const S *out,
                              Strides<S> s, int64_t at) {
    V g[G.count];
    spread(table, out, s, at, g);
    for (int e = 0; e < rows.count; e++) {
      const V w = get(rows.w[e] + at), uw = get(rows.uw[e] + at);
      V dw = {}, z[M2];
      each<M2>(EACH(b) { z[AT(b)] = V{}; });
      each<M1>(EACH(a) {
        const int64_t k = AT(a) * s.channels + at;
        const V f = get(rows.x[e] + k), t = get(rows.ux[e] + k);
        const V u = dot<AT(a)>(rows.y[e], g), v = dot<AT(a)>(rows.uy[e], g);
        dw += t * u + f * v;
        put(rows.dx[e] + k, get(rows.dx[e] + k) + (w * v + uw * u));
        add_dy<AT(a)>(w * t + uw * f, g, z);
      });
      put(rows.dw[e] + at, dw);
      each<M2>(EACH(b) { rows.dy[e * HARMONICS + AT(b)] += z[AT(b)]; });
    }
  }
};

// Compiled for size, two forms do the work of all four that are there for speed.
#if defined(__OPTIMIZE_SIZE__)
constexpr bool SMALL = true;
#else
constexpr bool SMALL = false;
#endif

template <class S> struct Functions {
  void (*prepare)(const S *, const S *, S *);
  void (*forward1)(const Rows<S> &, const S *, S *, Strides<S>, int64_t, bool);
  void (*forward2)(const Rows<S> &, const S *, S *, Strides<S>, int64_t, bool);
  void (*second_forward)(const Rows<S> &, const S *, const S *, S *, Strides<S>, int64_t,
                         bool);
  void (*backward[3])(const Rows<S> &, const S *, const S *, Strides<S>, int64_t);
};

template <class S, int I> constexpr Functions<S> functions_at() {
  constexpr int N = TOP_L + 1, L1 = I / (N * N), L2 = I / N % N, L = I % N;
  if constexpr (L >= magnitude(L1 - L2) && L <= L1 + L2) {
    typedef Path<S, L1, L2, L> P;
    return {P::prepare, P::template forward<1>, P::template forward<SMALL ? 1 : 2>,
            P::second_forward,
            {P::template backward<SMALL>, P::template backward<true>,
             P::second_backward}};
  } else {
    return {};
  }
}
template <class S> struct All {
  Functions<S> of[(TOP_L + 1) * (TOP_L + 1) * (TOP_L + 1)];
};
template <class S, int... I>
constexpr All<S> all_of(std::integer_sequence<int, I...>) {
  return {{functions_at<S, I>()...}};
}
template <class S>
constexpr All<S> all = all_of<S>(
    std::make_integer_sequence<int, (TOP_L + 1) * (TOP_L + 1) * (TOP_L + 1)>{});

template <class S> INLINE const Functions<S> &functions(int l1, int l2, int l) {
  return all<S>.of[(l1 * (TOP_L + 1) + l2) * (TOP_L + 1) + l];
}

}  // namespace
