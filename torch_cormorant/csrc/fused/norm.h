// The equivariant norm of one instruction set: y = w r x with r = (eps + <x, x> / n)^-1/2
// for the n numbers of one node and degree, its gradients and those of the gradients.
#pragma once
#include "../vector.h"
#include "nodes.h"

namespace {

// Sums over the numbers of one node and degree.
template <class S> struct NormSums {
  S xx, xv, gx, gv;  // g = w grad, v = tangent of x; gv with the tangent of w in it
};

INLINE float root(float v) { return __builtin_sqrtf(v); }
INLINE double root(double v) { return __builtin_sqrt(v); }

template <class S> INLINE S total(Vec<S> v) {
  S sum[1];
  reduce<S, 1>(&v, lanes<S>(), sum, false);
  return sum[0];
}

template <class S>
NormSums<S> norm_sums(const S *x, const S *w, const S *grad, const S *v, const S *u,
                      int rows, int64_t c) {
  Vec<S> xx = {}, xv = {}, gx = {}, gv = {};
  for (int r = 0; r < rows; r++)
    for (int64_t at = 0; at < c; at += lanes<S>()) {
      const int64_t k = r * c + at, end = (r + 1) * c;
      const Vec<S> a = load(x + k, x + end);
      xx += a * a;
      if (!grad) continue;
      const Vec<S> d = load(grad + k, grad + end), g = d * load(w + at, w + c);
      gx += g * a;
      if (v) {
        const Vec<S> b = load(v + k, v + end);
        xv += a * b;
        gv += g * b;
      }
      if (u) gv += d * load(u + at, u + c) * a;
    }
  return {total<S>(xx), total<S>(xv), total<S>(gx), total<S>(gv)};
}

// One node and degree; `sums` [channels] collects the gradient of the weight.
template <class S>
void norm_degree(const Norm *p, int64_t start, int l, S *sums) {
  const int64_t c = p->channels;
  const int rows = (2 * l + 1) * p->planes;
  const auto from = [&](const void *base) { return base ? (const S *)base + start : nullptr; };
  const auto degree = [&](const void *base) { return base ? (const S *)base + l * c : nullptr; };
  const S *x = from(p->x), *grad = from(p->grad), *v = from(p->tangent_x);
  const S *w = degree(p->weight), *u = degree(p->tangent_weight);
  const NormSums<S> s = norm_sums(x, w, grad, v, u, rows, c);
  const S n = (S)(rows / p->planes * c), r = 1 / root((S)p->eps + s.xx / n);
  const S cube = r * r * r / n, dr = -cube * s.xv;
  // dx = r g - cube <g, x> x and its derivative: factors of g, its change, x and v
  const S of_g = p->second ? dr : r;
  const S of_x = p->second ? 3 * r * r / n * s.xv * cube * s.gx - cube * s.gv
                           : -cube * s.gx;
  const S of_v = -cube * s.gx;
  S *out = p->out ? (S *)p->out + start : nullptr, *dx = p->dx ? (S *)p->dx + start : nullptr;
  for (int i = 0; i < rows; i++)
    for (int64_t at = 0; at < c; at += lanes<S>()) {
      const int64_t k = i * c + at, end = (i + 1) * c, left = c - at;
      const Vec<S> a = load(x + k, x + end), scale = load(w + at, w + c);
      const Vec<S> b = v ? load(v + k, v + end) : Vec<S>{};
      const Vec<S> du = u ? load(u + at, u + c) : Vec<S>{};
      if (out) {
        Vec<S> y = scale * a * (p->second ? dr : r);
        if (p->second) y += r * (scale * b + du * a);
        store(out + k, y, left);
      }
      if (!grad) continue;
      const Vec<S> d = load(grad + k, grad + end);
      if (dx) {
        Vec<S> y = of_g * (d * scale) + of_x * a;
        if (p->second) y += r * (d * du) + of_v * b;
        store(dx + k, y, left);
      }
      if (sums) {
        const Vec<S> y = p->second ? d * (dr * a + r * b) : d * (r * a);
        store(sums + at, load(sums + at, sums + c) + y, left);
      }
    }
}

template <class S>
void norm_run(const Norm *p, int64_t first, int64_t last, S *sums) {
  const int side = (p->lmax + 1) * (p->lmax + 1);
  const int64_t row = (int64_t)p->planes * p->channels;
  for (int64_t node = first; node < last; node++)
    for (int l = 0; l <= p->lmax; l++)
      norm_degree<S>(p, (node * side + l * l) * row, l,
                     p->dweight ? sums + (int64_t)l * p->channels : nullptr);
}

template <class S> void norm_collect(const Norm *p, const S *sums, int64_t count) {
  const int64_t size = (int64_t)(p->lmax + 1) * p->channels;
  S *to = (S *)p->dweight;
  for (int64_t k = 0; k < size; k++) {
    to[k] = sums[k];
    for (int64_t b = 1; b < count; b++) to[k] += sums[b * size + k];
  }
}

}  // namespace
