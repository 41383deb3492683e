// What pairs need to know of their vectors, in double: radial functions, envelope,
// harmonics, repulsion; and from gradients of these to forces and strain.
#pragma once
#include <cmath>

#include "neighbours.h"
#include "parameters.h"

namespace {

constexpr int COMPONENTS = (MAX_LMAX + 1) * (MAX_LMAX + 1);

// Harmonics of a unit vector, degree by degree:
//   Y_l[m] = sum over a, b of cg Y_1[a] Y_(l-1)[b],
// of which the gradient as a polynomial of degree l is l times the same without Y_1[a].
class Harmonics {
 public:
  explicit Harmonics(const Parameters &p) : terms_(p.harmonic) {
    for (CgTerm &t : terms_) {
      t.b += (t.degree - 1) * (t.degree - 1);
      t.component += t.degree * t.degree;
    }
    by_axis_ = terms_;
    sort(terms_, &CgTerm::component);
    sort(by_axis_, &CgTerm::a);
    for (CgTerm &t : by_axis_) t.value *= t.degree;
  }
  void values(const double *unit, double *y) const {
    y[0] = 1;
    y[1] = unit[1];
    y[2] = unit[2];
    y[3] = unit[0];
    const CgTerm *t = terms_.data(), *end = t + terms_.size();
    while (t < end) {
      const int component = t->component;
      double sum = 0;
      for (; t < end && t->component == component; t++) sum += t->value * y[1 + t->a] * y[t->b];
      y[component] = sum;
    }
  }
  // gradient by the (unrestrained) vector at the unit vector
  void back(const double *y, const double *slope, double *out) const {
    const CgTerm *t = by_axis_.data(), *end = t + by_axis_.size();
    for (int a = 0; a < 3; a++) {
      double sum = slope[1 + a];
      for (; t < end && t->a == a; t++) sum += t->value * y[t->b] * slope[t->component];
      out[(a + 1) % 3] = sum;
    }
  }

 private:
  std::vector<CgTerm> terms_, by_axis_;

  static void sort(std::vector<CgTerm> &terms, int32_t CgTerm::*key) {
    std::stable_sort(terms.begin(), terms.end(), [key](const CgTerm &x, const CgTerm &y) {
      return x.*key < y.*key;
    });
  }
};

class Geometry {
 public:
  explicit Geometry(const Parameters &p) : p_(p), harmonics_(p) {}

  // Row of one pair: values and slopes of the radial functions, then length, envelope and
  // its derivative over itself; harmonics of both directions.
  template <class S>
  void pair(const double *v, S *radial, S *harmonics, int components) const {
    const double r = length(v);
    const int n = p_.radials;
    if (p_.radial_kind == 0)
      bessel(r, radial);
    else
      gaussian(r, radial);
    S *tail = radial + 2 * n;
    tail[0] = S(r);
    tail[1] = 1;
    tail[2] = 0;
    if (p_.envelope) {
      const double s = std::max(0.0, 1 - r / p_.cutoff), rest = 10 + s * (6 * s - 15);
      tail[1] = S(s * s * s * rest);
      if (s > 0) tail[2] = S(-30 * (1 - s) * (1 - s) / (p_.cutoff * s * rest));
    }
    const double unit[3] = {v[0] / r, v[1] / r, v[2] / r};
    double y[COMPONENTS];
    harmonics_.values(unit, y);
    const int side = (p_.lmax + 1) * (p_.lmax + 1);
    for (int l = 1; l <= p_.lmax; l++)
      for (int a = l * l; a < (l + 1) * (l + 1); a++) {
        harmonics[a - 1] = S(y[a]);
        harmonics[components + a - 1] = S(l % 2 ? -y[a] : y[a]);
      }
    for (int a = side - 1; a < components; a++)
      harmonics[a] = harmonics[components + a] = 0;
  }
  // Gradient of the energy by the vector of a pair.
  template <class S>
  void slope(const double *v, double along, const S *harmonics, int components,
             double *out) const {
    const double inverse = 1 / length(v);
    const double unit[3] = {v[0] * inverse, v[1] * inverse, v[2] * inverse};
    double y[COMPONENTS], d[COMPONENTS] = {}, g[3];
    harmonics_.values(unit, y);
    for (int l = 1; l <= p_.lmax; l++)
      for (int a = l * l; a < (l + 1) * (l + 1); a++) {
        const double back = (double)harmonics[components + a - 1];
        d[a] = (double)harmonics[a - 1] + (l % 2 ? -back : back);
      }
    harmonics_.back(y, d, g);
    const double radial = dot(g, unit);
    for (int a = 0; a < 3; a++) out[a] = (g[a] - radial * unit[a]) * inverse + along * unit[a];
  }
  // Screened repulsion, switched off at the length of a bond; its derivative by r.
  double repulsion(double r, int first, int second, double *slope) const {
    const double *pair = &p_.pair[3 * (first * p_.species + second)];
    const double last = pair[2];
    *slope = 0;
    if (r >= last) return 0;
    double screened = 0, screened_slope = 0;
    for (int k = 0; k < 4; k++) {
      const double rate = p_.screening[2 * k + 1] * pair[1];
      const double part = p_.screening[2 * k] * std::exp(-rate * r);
      screened += part;
      screened_slope -= rate * part;
    }
    const double value = pair[0] / r * screened;
    const double value_slope = pair[0] / r * (screened_slope - screened / r);
    const double s = 1 - r / last, rest = 10 + s * (6 * s - 15);
    const double on = s * s * s * rest, on_slope = -30 * s * s * (1 - s) * (1 - s) / last;
    *slope = value * on_slope + value_slope * on;
    return value * on;
  }

 private:
  const Parameters &p_;
  const Harmonics harmonics_;

  // sqrt(2 / rc) sin(n pi r / rc) / r by the sums of angles
  template <class S> void bessel(double r, S *out) const {
    const double q = M_PI / p_.radial_cutoff, scale = std::sqrt(2 / p_.radial_cutoff);
    const double sine = std::sin(q * r), cosine = std::cos(q * r), inverse = 1 / r;
    double s1 = sine, c1 = cosine;
    for (int n = 0; n < p_.radials; n++) {
      const double value = s1 * inverse;
      out[n] = S(scale * value);
      out[p_.radials + n] = S(scale * inverse * ((n + 1) * q * c1 - value));
      const double s2 = s1 * cosine + c1 * sine, c2 = c1 * cosine - s1 * sine;
      s1 = s2;
      c1 = c2;
    }
  }
  template <class S> void gaussian(double r, S *out) const {
    const double step = p_.radial_cutoff / std::max(p_.radials - 1, 1);
    for (int n = 0; n < p_.radials; n++) {
      const double x = r / step - n, value = std::exp(-0.5 * x * x);
      out[n] = S(value);
      out[p_.radials + n] = S(-x / step * value);
    }
  }
};

}  // namespace
