// The edge network on undirected pairs: dot products, mixing with the scalars of the
// last level and the radial functions, mask; and the way back.
#pragma once
#include "matrices.h"

namespace {

// Mask of a row of pairs for one block of channels, and its derivative over itself.
template <class K>
INLINE Vec<typename K::S> mask_of(const Net<typename K::S> &net,
                                  const Level<typename K::S> &level,
                                  const typename K::S *tail, int block,
                                  Vec<typename K::S> *slope) {
  typedef typename K::S S;
  typedef Vec<S> V;
  V mask = V{} + tail[1];
  if (slope) *slope = V{} + tail[2];
  if (net.mask == MASK_NONE) return mask;
  const V radius = at(level.radius + block * K::W), width = at(level.width + block * K::W);
  if (net.mask == MASK_SIGMOID) {
    const V soft = S(1) / (S(1) + exponential((tail[0] - radius) * width));
    mask *= soft;
    if (slope) *slope -= (S(1) - soft) * width;
  } else {
    const V scaled = tail[0] * width;
    mask *= exponential(-scaled * scaled);
    if (slope) *slope -= S(2) * scaled * width;
  }
  return mask;
}

// sum[r] += radial functions (or their derivatives) b[r] times w
template <class K>
INLINE void add_radial(const Net<typename K::S> &net, const typename K::S *b,
                       const typename K::S *w, N<K> *sum) {
  const int64_t step = net.radial_row;
  NOUNROLL for (int n = 0; n < net.radials; n++, w += net.scalar) {
    const N<K> v = get<K>(w);
    UNROLL for (int r = 0; r < K::PAIRS; r++) add_scaled<K>(sum[r], b[r * step + n], v);
  }
}

// Rows of dot products of two atoms, one after another K::PAIRS units apart.
template <class K>
__attribute__((noinline)) void dots(const Net<typename K::S> &net, const typename K::S *a,
                                    const typename K::S *b, typename K::S *out) {
  constexpr int U = K::U, L = K::L;
  for (int block = 0; block < net.blocks; block++, a += K::M * U, b += K::M * U)
    UNROLL for (int l = 0; l <= L; l++) {
      N<K> sum = zero<K>();
      UNROLL for (int m = l * l; m < (l + 1) * (l + 1); m++)
        add_times<K>(sum, get<K>(a + m * U), get<K>(b + m * U));
      set<K>(out + (int64_t)(l * net.blocks + block) * K::PAIRS * U, sum);
    }
}

template <class K>
INLINE void dots_of_degrees(const Net<typename K::S> &net, const typename K::S *a,
                            const typename K::S *b, typename K::S *out) {
  switch (net.lmax) {
    case 1:
      return dots<Kind<typename K::S, K::CX, 1>>(net, a, b, out);
    case 2:
      return dots<Kind<typename K::S, K::CX, 2>>(net, a, b, out);
    case 3:
      return dots<Kind<typename K::S, K::CX, 3>>(net, a, b, out);
    default:
      return dots<Kind<typename K::S, K::CX, 4>>(net, a, b, out);
  }
}

template <class K>
void pairs_forward(const Net<typename K::S> &net, const Work<typename K::S> &work, int s,
                   int64_t first, int64_t last, typename K::S *scratch) {
  typedef typename K::S S;
  constexpr int R = K::PAIRS, U = K::U, W = K::W;
  const Level<S> &level = net.level[s];
  const int blocks = net.blocks, units = (net.lmax + 1) * blocks;
  const int64_t step = (int64_t)R * U, F = net.feature, G = net.scalar;
  S *dot = scratch, *state = dot + units * step, *mask = state + units * step;
  for (int64_t p = first; p < last; p += R) {
    const S *radial = work.radial + p * net.radial_row, *tail = radial + 2 * net.radials;
    const int32_t *ends = work.ends + 2 * p;
    for (int r = 0; r < R; r++) {
      for (int o = 0; o < blocks; o++)
        put(mask + (r * blocks + o) * W,
            mask_of<K>(net, level, tail + r * net.radial_row, o, nullptr));
      if (!s) continue;
      if (p + r + R < work.pairs) {  // the next rows
        fetch_row(work.scalars[s - 1] + (p + r + R) * G, G / W);
        fetch_row(work.features[s - 1] + ends[2 * (r + R) + 1] * F, F / W);
      }
      dots_of_degrees<K>(net, work.features[s - 1] + ends[2 * r] * F,
                         work.features[s - 1] + ends[2 * r + 1] * F, dot + r * U);
      const S *g = work.scalars[s - 1] + (p + r) * G;
      for (int k = 0; k < units; k++) set<K>(state + k * step + r * U, get<K>(g + k * U));
    }
    const int top = p >= work.self ? 0 : net.lmax;  // self edges have degree 0 only
    for (int l = 0; l <= top; l++)
      for (int o = 0; o < blocks; o++) {
        N<K> sum[R];
        UNROLL for (int r = 0; r < R; r++) sum[r] = zero<K>();
        if (s) {
          mix<K, R>(dot, units, step, level.dots[l] + o * packed<K>(units), sum);
          mix<K, R>(state + l * blocks * step, blocks, step,
                    level.state[l] + o * packed<K>(blocks), sum);
        } else if (!l) {
          UNROLL for (int r = 0; r < R; r++) {
            const int64_t a = work.kind[ends[2 * r]], b = work.kind[ends[2 * r + 1]];
            sum[r] = get<K>(level.pair_constant +
                            ((a * net.species + b) * blocks + o) * U);
          }
        }
        add_radial<K>(net, radial, level.radial + (l * blocks + o) * U, sum);
        S *out = work.scalars[s] + p * G + (l * blocks + o) * U;
        UNROLL for (int r = 0; r < R; r++)
          set<K>(out + r * G, scaled<K>(sum[r], at(mask + (r * blocks + o) * W)));
      }
  }
}

// Gradients of the scalars of K::PAIRS rows before their mask; `sum` gets the part of
// the derivative with respect to the length that the mask has.
template <class K>
INLINE void through_mask(const Net<typename K::S> &net, const Work<typename K::S> &work,
                         int s, int64_t p, int64_t count, int top, typename K::S *before,
                         Vec<typename K::S> *sum) {
  typedef typename K::S S;
  constexpr int R = K::PAIRS, U = K::U;
  const int blocks = net.blocks;
  const int64_t G = net.scalar;
  const bool self = p >= work.self, above = s + 1 < net.levels;
  UNROLL for (int r = 0; r < R; r++) sum[r] = Vec<S>{};
  const int64_t lines = G / K::W;
  for (int r = 0; r < R; r++) {
    const S *tail = work.radial + (p + r) * net.radial_row + 2 * net.radials;
    if (p + r + R < work.pairs) {  // the next rows
      fetch_row(work.scalar_slopes + 2 * (p + r + R) * G, 2 * lines);
      fetch_row(work.scalars[s] + (p + r + R) * G, lines);
      if (above) fetch_row(work.state_slopes + (p + r + R) * G, lines);
    }
    Vec<S> length = {};
    for (int o = 0; o < blocks; o++) {
      Vec<S> slope;
      const Vec<S> mask = mask_of<K>(net, net.level[s], tail, o, &slope);
      Vec<S> part = {};
      for (int l = 0; l <= top; l++) {
        const int64_t k = (l * blocks + o) * U;
        N<K> v = zero<K>();
        if (r < count) {
          if (self) {
            v = get<K>(work.self_slopes + (p + r - work.self) * blocks * U + k);
          } else {
            v = get<K>(work.scalar_slopes + 2 * (p + r) * G + k);
            add<K>(v, get<K>(work.scalar_slopes + (2 * (p + r) + 1) * G + k));
          }
          if (above) add<K>(v, get<K>(work.state_slopes + (p + r) * G + k));
          add_inner<K>(part, v, get<K>(work.scalars[s] + (p + r) * G + k));
        }
        set<K>(before + (int64_t)(l * blocks + o) * R * U + r * U, scaled<K>(v, mask));
      }
      length += part * slope;
    }
    sum[r] = length;
  }
}

// Gradients of the dot products take the place of the scalars, which nobody needs again.
template <class K>
void pairs_backward(const Net<typename K::S> &net, const Work<typename K::S> &work, int s,
                    int64_t first, int64_t last, typename K::S *scratch) {
  typedef typename K::S S;
  constexpr int R = K::PAIRS, U = K::U;
  const Level<S> &level = net.level[s];
  const int blocks = net.blocks;
  const int64_t step = (int64_t)R * U, G = net.scalar;
  S *before = scratch;
  for (int64_t p = first; p < last; p += R) {
    const bool self = p >= work.self;
    const int64_t left = (self ? work.self + work.atoms : work.pairs) - p;
    const int64_t count = left < R ? left : R;
    if (count <= 0 || (self && !s)) continue;
    const int top = self ? 0 : net.lmax;
    Vec<S> sum[R];
    through_mask<K>(net, work, s, p, count, top, before, sum);
    const S *radial = work.radial + p * net.radial_row + net.radials;
    if (!self) {
      for (int l = 0; l <= top; l++)
        for (int o = 0; o < blocks; o++) {
          N<K> slope[R];
          UNROLL for (int r = 0; r < R; r++) slope[r] = zero<K>();
          add_radial<K>(net, radial, level.radial + (l * blocks + o) * U, slope);
          UNROLL for (int r = 0; r < R; r++)
            add_inner<K>(sum[r], slope[r],
                         get<K>(before + (l * blocks + o) * step + r * U));
        }
      for (int r = 0; r < count; r++) work.length_slopes[p + r] += total<S>(sum[r]);
    }
    if (!s) continue;
    for (int l = 0; l <= top; l++)
      for (int o = 0; o < blocks; o++) {
        N<K> slope[R];
        UNROLL for (int r = 0; r < R; r++) slope[r] = zero<K>();
        mix<K, R>(before + l * blocks * step, blocks, step,
                  level.state_t[l] + o * packed<K>(blocks), slope);
        S *out = work.state_slopes + p * G + (l * blocks + o) * U;
        UNROLL for (int r = 0; r < R; r++) set<K>(out + r * G, slope[r]);
      }
    for (int d = 0; d <= net.lmax; d++)
      for (int o = 0; o < blocks; o++) {
        N<K> slope[R];
        UNROLL for (int r = 0; r < R; r++) slope[r] = zero<K>();
        mix<K, R>(before, (top + 1) * blocks, step,
                  level.dots_t[d] + o * packed<K>((net.lmax + 1) * blocks), slope);
        S *out = work.scalars[s] + p * G + (d * blocks + o) * U;
        UNROLL for (int r = 0; r < R; r++) set<K>(out + r * G, slope[r]);
      }
  }
}

}  // namespace
