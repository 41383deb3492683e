// The mask of a pair, a function of its length and of a radius and width per channel.
#pragma once
#include "dual.h"
#include "gemm.h"
#include "pairs.h"

namespace {

// A mask without its envelope, and what it changes by.
template <class N> struct Mask {
  N value, by_length, by_radius, by_width;
};

template <class N>
INLINE void soft_mask(int kind, const N &length, const N &radius, const N &width,
                      const N &zero, const N &one, Mask<N> &to) {
  to.value = one;
  to.by_length = to.by_radius = to.by_width = zero;
  if (kind == MASK_SOFT) {
    const N scale = inverse(width), z = (radius - length) * scale;
    to.value = sigmoid(z);
    to.by_radius = to.value * (one - to.value) * scale;
    to.by_length = zero - to.by_radius;
    to.by_width = to.by_length * z;
  } else if (kind == MASK_GAUSSIAN) {
    const N scale = inverse(radius), u = length * scale;
    to.value = decay(u * u);
    const N slope = u * to.value * scale;
    to.by_length = zero - slope - slope;
    to.by_radius = zero - to.by_length * u;
  }
}

// The smooth envelope with two derivatives; zero beyond the hard cutoff.
template <class S> struct Envelope {
  S value = 1, slope = 0, bend = 0;
  Envelope(const Edge *p, S length) {
    if (p->envelope > 0) {
      const S cutoff = (S)p->envelope;
      S s = 1 - length / cutoff;
      if (s < 0) s = 0;
      value = s * s * s * (10 + s * (6 * s - 15));
      slope = -30 * s * s * (1 - s) * (1 - s) / cutoff;
      bend = 60 * s * (1 - s) * (1 - 2 * s) / cutoff / cutoff;
    }
    if (p->hard > 0 && length >= (S)p->hard) value = slope = bend = 0;
  }
};

// Radii and widths as they act: never below the smallest one that a mask can reach.
template <class S>
void clamped(const void *given, int64_t count, S *size, S *sign) {
  const S *x = (const S *)given;
  for (int64_t c = 0; c < padded<S>(count); c++) {
    const S value = x && c < count ? x[c] : S(1), smallest = S(1e-3);
    const S length = value < 0 ? -value : value;
    size[c] = length < smallest ? smallest : length;
    sign[c] = length < smallest ? S(0) : value < 0 ? S(-1) : S(1);
  }
}

}  // namespace
