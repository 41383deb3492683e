// The element-wise steps of PaiNN's mixing of scalars and vectors, and their gradients.
#pragma once
#include "lane.h"
#include "problem.h"

namespace {

INLINE float root(float v) { return __builtin_sqrtf(v); }
INLINE double root(double v) { return __builtin_sqrt(v); }
template <class S> INLINE Vec<S> roots(Vec<S> v) {
  for (int k = 0; k < lanes<S>(); k++) v[k] = root(v[k]);
  return v;
}

// Rows of one node in all tensors.
template <class S> struct NodeRows {
  int64_t C;
  const S *x, *V, *U, *gates, *grad, *dfeatures, *dvectors;
  S *features, *out, *dgates, *dV, *dU;
  NodeRows(const Mixing *p, int64_t k) : C(p->channels) {
    const auto at = [&](const void *base, int64_t width) {
      return base ? (S *)base + k * width * C : nullptr;
    };
    x = at(p->x, 4), V = at(p->vu, 6), gates = at(p->gates, 3);
    grad = at(p->grad, 4), dfeatures = at(p->dfeatures, 2), dvectors = at(p->dvectors, 3);
    features = at(p->features, 2), out = at(p->out, 4), dgates = at(p->dgates, 3);
    dV = at(p->dvu, 6);
    U = V ? V + C : nullptr, dU = dV ? dV + C : nullptr;
  }

  void write_features(S eps) const {
    CHANNELS(S, C, lane) {
      Vec<S> sum = eps + Vec<S>{};
      UNROLL for (int m = 0; m < 3; m++) {
        const Vec<S> v = lane.get(V + 2 * m * C);
        sum += v * v;
      }
      lane.put(features, lane.get(x));
      lane.put(features + C, roots<S>(sum));
    });
  }

  void write_out() const {
    CHANNELS(S, C, lane) {
      const Vec<S> b = lane.get(gates + C);
      Vec<S> dot = {};
      UNROLL for (int m = 0; m < 3; m++) {
        const Vec<S> u = lane.get(U + 2 * m * C);
        dot += lane.get(V + 2 * m * C) * u;
        lane.put(out + (m + 1) * C, lane.get(x + (m + 1) * C) + b * u);
      }
      lane.put(out, lane.get(x) + lane.get(gates) + lane.get(gates + 2 * C) * dot);
    });
  }

  void write_dgates() const {
    CHANNELS(S, C, lane) {
      const Vec<S> g = lane.get(grad), b = lane.get(gates + C);
      const Vec<S> gd = g * lane.get(gates + 2 * C);
      Vec<S> dot = {}, db = {};
      UNROLL for (int m = 0; m < 3; m++) {
        const Vec<S> u = lane.get(U + 2 * m * C), v = lane.get(V + 2 * m * C);
        const Vec<S> gv = lane.get(grad + (m + 1) * C);
        dot += v * u;
        db += gv * u;
        lane.put(dV + 2 * m * C, gd * u);
        lane.put(dU + 2 * m * C, gd * v + b * gv);
      }
      lane.put(dgates, g);
      lane.put(dgates + C, db);
      lane.put(dgates + 2 * C, g * dot);
    });
  }

  void add_through_norm() const {
    CHANNELS(S, C, lane) {
      const Vec<S> q = lane.get(dfeatures + C) / lane.get(features + C);
      UNROLL for (int m = 0; m < 3; m++)
        lane.add(dV + 2 * m * C, q * lane.get(V + 2 * m * C));
    });
  }

  void write_dx() const {
    CHANNELS(S, C, lane) {
      lane.put(out, lane.get(grad) + lane.get(dfeatures));
      UNROLL for (int m = 0; m < 3; m++)
        lane.put(out + (m + 1) * C,
                 lane.get(grad + (m + 1) * C) + lane.get(dvectors + m * C));
    });
  }
};

template <class S> void mixing_steps(const Mixing *p, int64_t first, int64_t last) {
  for (int64_t k = first; k < last; k++) {
    const NodeRows<S> rows(p, k);
    switch (p->step) {
      case 0: rows.write_features((S)p->eps); break;
      case 1: rows.write_out(); break;
      case 2: rows.write_dgates(); break;
      case 3: rows.add_through_norm(); break;
      default: rows.write_dx();
    }
  }
}

}  // namespace
