// What the stages need to know for vectors of pairs, and the repulsion of two atoms.
#pragma once
#include <cmath>

#include "neighbours.h"
#include "parameters.h"

namespace {

class Geometry {
 public:
  Geometry(const Parameters &p, int32_t radial_row) : p_(p) {
    for (const CgTerm &t : p.harmonic) {
      const int32_t component = t.component + t.degree * t.degree;
      const int32_t below = t.b + (t.degree - 1) * (t.degree - 1);
      terms_.push_back({component, t.a, below, t.value});
      by_axis_.push_back({component, t.a, below, t.value * t.degree});
    }
    sort(terms_, &HarmonicTerm::component);
    sort(by_axis_, &HarmonicTerm::a);
    lengths = {p.lmax,      p.radials,    radial_row,      p.radial_kind,
               p.envelope,  (int32_t)terms_.size(), p.cutoff, p.radial_cutoff,
               terms_.data(), by_axis_.data()};
  }
  Geometry(const Geometry &) = delete;
  Lengths lengths;

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
  std::vector<HarmonicTerm> terms_, by_axis_;

  static void sort(std::vector<HarmonicTerm> &terms, int32_t HarmonicTerm::*key) {
    std::stable_sort(terms.begin(), terms.end(),
                     [key](const HarmonicTerm &x, const HarmonicTerm &y) {
                       return x.*key < y.*key;
                     });
  }
};

}  // namespace
