// A vector of channels, whole or what is left of a row.
#pragma once
#include "../vector.h"

namespace {

template <class S, bool WHOLE> struct Lane {
  typedef Vec<S> V;
  int64_t at, left;
  INLINE_MEMBER V get(const S *row) const {
    if (WHOLE) return *(const typename Type<S>::U *)(row + at);
    return load(row + at, row + at + left);
  }
  INLINE_MEMBER void put(S *row, const V &v) const {
    if (WHOLE)
      *(typename Type<S>::U *)(row + at) = v;
    else
      store(row + at, v, left);
  }
  INLINE_MEMBER void add(S *row, const V &v) const { put(row, get(row) + v); }
};

// f(lane) for all channels of a row.
template <class S, class F> INLINE void channels(int64_t count, const F &f) {
  constexpr int W = lanes<S>();
  int64_t at = 0;
  for (; at + W <= count; at += W) f(Lane<S, true>{at, W});
  if (at < count) f(Lane<S, false>{at, count - at});
}

#define CHANNELS(S, count, lane) \
  channels<S>(count, [&](const auto &lane) __attribute__((always_inline))

}  // namespace
