// What pairs need to know of their vectors: radial functions, envelope, harmonics; and
// from gradients of these to gradients of the vectors. In double, a register of pairs at
// a time.
#pragma once
#include "lanes.h"

namespace {

typedef Vec<double> D;
constexpr int GROUP = lanes<double>();
constexpr int COMPONENTS = (MAX_LMAX + 1) * (MAX_LMAX + 1);

// sin and cos by their series, for |x| up to some thousand.
INLINE void sine_cosine(const D &x, D *sine, D *cosine) {
  constexpr double ROUND = 6755399441055744.0, PI = 3.141592653589793116,
                   REST = 1.2246467991473532e-16;
  const D n = (x * (1 / PI) + ROUND) - ROUND;
  const D half = n * 0.5, odd = half - ((half + ROUND) - ROUND);  // 0, or one half
  const D sign = 1.0 - 8.0 * odd * odd, y = (x - n * PI) - n * REST, z = -y * y;
  D s = D{} + 1.0, c = D{} + 1.0;
  UNROLL for (int k = 22; k >= 2; k -= 2) {
    if (k < 22) s = 1.0 + s * z * (1.0 / (k * (k + 1)));
    c = 1.0 + c * z * (1.0 / (k * (k - 1)));
  }
  *sine = sign * y * s;
  *cosine = sign * c;
}

struct Direction {
  D unit[3], length, inverse;
  // Of GROUP vectors, or of `count` and some others that nobody looks at.
  Direction(const double *v, int count) {
    alignas(64) double part[3][GROUP], size[GROUP];
    for (int k = 0; k < GROUP; k++)
      for (int a = 0; a < 3; a++) part[a][k] = k < count ? v[3 * k + a] : 1.0;
    for (int k = 0; k < GROUP; k++)
      size[k] = __builtin_sqrt(part[0][k] * part[0][k] + part[1][k] * part[1][k] +
                               part[2][k] * part[2][k]);
    length = at(size);
    inverse = 1.0 / length;
    for (int a = 0; a < 3; a++) unit[a] = at(part[a]) * inverse;
  }
};

// Harmonics of a unit vector, degree by degree:
//   Y_l[m] = sum over a, b of cg Y_1[a] Y_(l-1)[b],
// of which the gradient as a polynomial of degree l is l times the same without Y_1[a].
INLINE void harmonics_of(const Lengths &given, const D *unit, D *y) {
  y[0] = D{} + 1.0;
  y[1] = unit[1];
  y[2] = unit[2];
  y[3] = unit[0];
  const HarmonicTerm *t = given.terms, *end = t + given.num_terms;
  while (t < end) {
    const int component = t->component;
    D sum = {};
    for (; t < end && t->component == component; t++) sum += t->value * y[1 + t->a] * y[t->b];
    y[component] = sum;
  }
}

// One value of GROUP pairs to their rows.
template <class S> INLINE void spread(const D &value, S *to, int64_t step, int count) {
  alignas(64) double part[GROUP];
  put(part, value);
  for (int k = 0; k < count; k++) to[k * step] = S(part[k]);
}

template <class S>
INLINE void radials_of(const Lengths &given, const Direction &d, S *out, int count) {
  const int n = given.radials;
  const int64_t step = given.radial_row;
  if (given.radial_kind == 0) {  // sqrt(2 / rc) sin(n pi r / rc) / r, by sums of angles
    const double q = 3.14159265358979323846 / given.radial_cutoff;
    const double scale = __builtin_sqrt(2 / given.radial_cutoff);
    D sine, cosine;
    sine_cosine(q * d.length, &sine, &cosine);
    D s = sine, c = cosine;
    for (int k = 0; k < n; k++) {
      const D value = s * d.inverse;
      spread(scale * value, out + k, step, count);
      spread(scale * d.inverse * ((k + 1) * q * c - value), out + n + k, step, count);
      const D next = s * cosine + c * sine;
      c = c * cosine - s * sine;
      s = next;
    }
    return;
  }
  const double width = given.radial_cutoff / (n > 1 ? n - 1 : 1);
  for (int k = 0; k < n; k++) {
    const D x = d.length / width - (double)k, value = exponential(-0.5 * x * x);
    spread(value, out + k, step, count);
    spread(-x / width * value, out + n + k, step, count);
  }
}

// Rows of pairs: values and slopes of the radial functions, then length, envelope and its
// derivative over itself; harmonics of both directions.
template <class S>
void lengths(const Lengths &given, const double *vec, int64_t first, int64_t last,
             S *radial, S *harmonics) {
  const int side = (given.lmax + 1) * (given.lmax + 1), room = harmonic_room(given.lmax);
  for (int64_t p = first; p < last; p += GROUP) {
    const int count = last - p < GROUP ? (int)(last - p) : GROUP;
    const Direction d(vec + 3 * p, count);
    S *row = radial + p * given.radial_row, *tail = row + 2 * given.radials;
    radials_of<S>(given, d, row, count);
    D on = D{} + 1.0, slope = {};
    if (given.envelope) {
      const D rest = 1.0 - d.length / given.cutoff, none = {};
      const D s = rest > 0.0 ? rest : none, inner = 10.0 + s * (6.0 * s - 15.0);
      on = s * s * s * inner;
      const D below = given.cutoff * s * inner;
      slope = s > 0.0 ? -30.0 * (1.0 - s) * (1.0 - s) / (s > 0.0 ? below : on + 1.0) : none;
    }
    spread(d.length, tail, given.radial_row, count);
    spread(on, tail + 1, given.radial_row, count);
    spread(slope, tail + 2, given.radial_row, count);
    D y[COMPONENTS];
    harmonics_of(given, d.unit, y);
    S *to = harmonics + 2 * p * room;
    for (int a = 1; a <= room; a++) {
      const bool there = a < side, odd = a < 4 || (a >= 9 && a < 16);
      const D value = there ? y[there ? a : 0] : D{};
      spread(value, to + a - 1, 2 * room, count);
      spread(odd ? -value : value, to + room + a - 1, 2 * room, count);
    }
  }
}

// Gradients of the energy by the vectors of pairs; `along`: those by their lengths.
template <class S>
void lengths_back(const Lengths &given, const double *vec, const double *along,
                  const S *slopes, int64_t first, int64_t last, double *out) {
  const int side = (given.lmax + 1) * (given.lmax + 1), room = harmonic_room(given.lmax);
  for (int64_t p = first; p < last; p += GROUP) {
    const int count = last - p < GROUP ? (int)(last - p) : GROUP;
    const Direction d(vec + 3 * p, count);
    D y[COMPONENTS], s[COMPONENTS], g[3];
    harmonics_of(given, d.unit, y);
    const S *from = slopes + 2 * p * room;
    alignas(64) double part[GROUP] = {};
    for (int a = 1; a < side; a++) {
      const double sign = a < 4 || (a >= 9 && a < 16) ? -1.0 : 1.0;
      for (int k = 0; k < count; k++)
        part[k] = (double)from[2 * k * room + a - 1] +
                  sign * (double)from[(2 * k + 1) * room + a - 1];
      s[a] = at(part);
    }
    const HarmonicTerm *t = given.by_axis, *end = t + given.num_terms;
    for (int a = 0; a < 3; a++) {
      D sum = s[1 + a];
      for (; t < end && t->a == a; t++) sum += t->value * y[t->b] * s[t->component];
      g[(a + 1) % 3] = sum;
    }
    for (int k = 0; k < count; k++) part[k] = along[p + k];
    const D radial = g[0] * d.unit[0] + g[1] * d.unit[1] + g[2] * d.unit[2];
    for (int a = 0; a < 3; a++)
      spread((g[a] - radial * d.unit[a]) * d.inverse + at(part) * d.unit[a],
             out + 3 * p + a, 3, count);
  }
}

}  // namespace
