// Radial functions of the lengths of pairs, with two derivatives.
#pragma once
#include "dual.h"
#include "gemm.h"
#include "geometry.h"

namespace {

// Sine and cosine of numbers; large ones, where the short form would lose digits, by the
// system's own functions.
template <class S> INLINE void sine_and_cosine(const Vec<S> &x, Vec<S> &sine, Vec<S> &cosine) {
  constexpr bool D = sizeof(S) == 8;
  const S magic = D ? S(6755399441055744.0) : S(12582912.0f);
  const S high = D ? S(1.57079625129699707031) : S(1.5703125f);
  const S middle = D ? S(7.54978941586159635336e-8) : S(4.837512969970703125e-4f);
  const S low = D ? S(5.39030285815811905290e-15) : S(7.54978995489188216e-8f);
  typedef typename Type<S>::I I;
  const Vec<S> shifted = x * S(0.63661977236758134308) + magic, n = shifted - magic;
  const Vec<S> r = ((x - n * high) - n * middle) - n * low, r2 = r * r;
  constexpr int TERMS = D ? 8 : 5;
  static const S factors[] = {
      S(1), S(1) / 2, S(1) / 6, S(1) / 24, S(1) / 120, S(1) / 720, S(1) / 5040,
      S(1) / 40320, S(1) / 362880, S(1) / 3628800, S(1) / 39916800, S(1) / 479001600,
      S(1) / 6227020800.0, S(1) / 87178291200.0, S(1) / 1307674368000.0,
      S(1) / 20922789888000.0, S(1) / 355687428096000.0, S(1) / 6402373705728000.0};
  Vec<S> odd = {}, even = {};  // of the series, with alternating signs
  UNROLL for (int k = TERMS; k >= 1; k--) {
    odd = factors[2 * k] - r2 * odd;
    even = factors[2 * k - 1] - r2 * even;
  }
  const Vec<S> s = r - r * r2 * odd, c = S(1) - r2 * even;
  const I quarter = (I)shifted - (I)(magic - Vec<S>{});
  const Vec<S> a = (quarter & 1) == 0 ? s : c, b = (quarter & 1) == 0 ? c : s;
  sine = (quarter & 2) == 0 ? a : -a;
  cosine = ((quarter + 1) & 2) == 0 ? b : -b;
  const S most = D ? S(1e6) : S(2000);
  for (int q = 0; q < lanes<S>(); q++)
    if (__builtin_expect(!(x[q] > -most && x[q] < most), 0)) {
      sine[q] = (S)__builtin_sin((double)x[q]);
      cosine[q] = (S)__builtin_cos((double)x[q]);
    }
}

// Functions n, n + 1, ... of one length, and their derivatives.
template <class S>
INLINE void functions_of(const RadialRows *p, S length, int64_t n, Vec<S> &value,
                         Vec<S> &slope, Vec<S> &bend) {
  Vec<S> order;
  for (int q = 0; q < lanes<S>(); q++) order[q] = (S)(n + q);
  const S first = (S)p->first, second = (S)p->second;
  if (p->kind == RADIAL_BESSEL) {
    Vec<S> s, c;
    const Vec<S> wave = (order + S(1)) * first;
    sine_and_cosine<S>(wave * length, s, c);
    value = second * s / length;
    slope = (second * wave * c - value) / length;
    bend = -wave * wave * value - S(2) * slope / length;
  } else {
    const Vec<S> z = length / first - order;
    value = exponential<S>(S(-0.5) * z * z);
    slope = -z * value / first;
    bend = (z * z - S(1)) * value / first / first;
  }
  if (length == 0) value = slope = bend = Vec<S>{};
}

template <class S> INLINE S sum_of_lanes(const Vec<S> &x) {
  S sum = 0;
  for (int q = 0; q < lanes<S>(); q++) sum += x[q];
  return sum;
}

// Functions of the length alone.
template <class S> void fixed_rows(const RadialRows *p) {
  const int64_t rows = p->functions;
  const S *length = (const S *)p->length, *change = (const S *)p->d_length;
  for (int64_t e = 0; e < p->pairs; e++) {
    const S *grad = (const S *)p->grad + e * rows, v = change ? change[e] : S(0);
    S *out = (S *)p->out + e * rows;
    Vec<S> total = {};
    for (int64_t n = 0; n < rows; n += lanes<S>()) {
      Vec<S> value, slope, bend;
      functions_of<S>(p, length[e], n, value, slope, bend);
      if (!p->order) {
        store(out + n, value, rows - n);
        continue;
      }
      if (p->order == 2 && p->out) store(out + n, slope * v, rows - n);
      total += load(grad + n, grad + rows) * (p->order == 2 ? bend * v : slope);
    }
    if (p->to_length) ((S *)p->to_length)[e] = sum_of_lanes<S>(total);
  }
}

// Waves with learned frequencies and phases times powers.
template <class S> void wave_rows(const RadialRows *p) {
  const int64_t waves = p->functions, powers = p->powers, rows = waves * powers;
  const S turn = S(6.28318530717958647693);
  const S *scale = (const S *)p->scales, *phase = (const S *)p->phases;
  const S *d_scale = (const S *)p->d_scales, *d_phase = (const S *)p->d_phases;
  const S *length = (const S *)p->length, *d_length = (const S *)p->d_length;
  S *to_scale = (S *)p->to_scales, *to_phase = (S *)p->to_phases;
  const size_t bytes = (size_t)waves * sizeof(S);
  if (to_scale) memset(to_scale, 0, bytes);
  if (to_phase) memset(to_phase, 0, bytes);
  for (int64_t e = 0; e < p->pairs; e++) {
    const S r = length[e] == 0 ? S(1) : length[e], apart = length[e] == 0 ? S(0) : S(1);
    const S dr = d_length ? d_length[e] : S(0);
    S total = 0;
    for (int64_t first = 0; first < waves; first += lanes<S>()) {
      const Vec<S> kappa = load(scale + first, scale + waves);
      Vec<S> sine, cosine;
      sine_and_cosine<S>(turn * r * kappa + load(phase + first, phase + waves), sine, cosine);
      const int64_t end = waves - first < lanes<S>() ? waves : first + lanes<S>();
      for (int64_t t = first; t < end; t++) {
        const S s = sine[t - first], c = cosine[t - first], k = scale[t];
        const S dk = d_scale ? d_scale[t] : S(0);
        const S change = turn * (dk * r + k * dr) + (d_phase ? d_phase[t] : S(0));
        const S *grad = (const S *)p->grad + e * rows + t * powers;
        S *out = (S *)p->out + e * rows + t * powers, power = apart;
        S g = 0, h = 0, curve = 0;  // of the gradients: with powers, their slopes, bends
        for (int64_t n = 0; n < powers; n++, power /= r) {
          const S slope = (S)n * power / r;
          if (!p->order) {
            out[n] = s * power;
            continue;
          }
          g += grad[n] * power;
          h += grad[n] * slope;
          curve += grad[n] * (S)(n + 1) * slope / r;
          if (p->order == 2 && p->out) out[n] = c * change * power - s * slope * dr;
        }
        if (!p->order) continue;
        const S pull = c * g;
        if (p->order == 1) {
          total += turn * k * pull - s * h;
          if (to_scale) to_scale[t] += turn * r * pull;
          if (to_phase) to_phase[t] += pull;
          continue;
        }
        const S d_pull = -s * change * g - c * dr * h;
        total += turn * (dk * pull + k * d_pull) - c * change * h + s * dr * curve;
        if (to_scale) to_scale[t] += turn * (dr * pull + r * d_pull);
        if (to_phase) to_phase[t] += d_pull;
      }
    }
    if (p->to_length) ((S *)p->to_length)[e] = total;
  }
}

}  // namespace
