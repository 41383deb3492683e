// The memory of one evaluation: it grows and is used again, its contents are not.
#pragma once
#include <cstdlib>
#include <new>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "near_pairs.h"
#include "plan.h"

namespace {

template <class T> class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  ~Buffer() { std::free(data_); }
  T *need(int64_t count) {
    if (count <= count_) return data_;
    std::free(data_);
    data_ = nullptr;
    count_ = 0;
    const size_t wanted = (size_t)(count + count / 8) * sizeof(T);
    // large ones on large pages: a fault for each small one costs as much as the work
    const size_t page = wanted >= ((size_t)1 << 20) ? (size_t)1 << 21 : 128;
    const size_t bytes = (wanted + page - 1) / page * page;
    data_ = (T *)std::aligned_alloc(page, bytes);
    if (!data_) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (page > 128) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    count_ = count + count / 8;
    return data_;
  }

 private:
  T *data_ = nullptr;
  int64_t count_ = 0;
};

template <class S> class Workspace {
 public:
  Graph graph;
  NearPairs near_pairs;
  std::vector<int32_t> kind, ends, source_kind, place;
  std::vector<double> energies, repulsion, repulsion_slopes, along, slopes;
  Work<S> work{};

  // Room for the graph that was found, whose first `receivers` atoms are computed here;
  // energies only without `backward`.
  void prepare(const Net<S> &net, const Passes<S> &passes, int64_t receivers,
               int64_t local, bool backward) {
    const int64_t n = graph.atoms, rows = passes.pair_rows;
    Work<S> &w = work;
    w.atoms = receivers;
    w.local = local;
    w.pairs = graph.pairs;
    w.self = (graph.pairs + rows - 1) / rows * rows;
    w.padded = w.self + (receivers + rows - 1) / rows * rows;
    const int64_t all = w.self + (n + rows - 1) / rows * rows;
    ends.assign(2 * all, 0);
    for (int64_t p = 0; p < w.pairs; p++) {
      ends[2 * p] = graph.first[p];
      ends[2 * p + 1] = graph.second[p];
    }
    for (int64_t i = 0; i < n; i++)
      ends[2 * (w.self + i)] = ends[2 * (w.self + i) + 1] = (int32_t)i;
    source_kind.assign(graph.source.size(), 0);
    for (int64_t e = 0; e < 2 * w.pairs; e++) source_kind[e] = kind[graph.source[e]];
    energies.assign(n, 0.0);
    w.kind = kind.data();
    w.ends = ends.data();
    w.rowptr = graph.rowptr.data();
    w.source = graph.source.data();
    w.source_kind = source_kind.data();
    w.row = graph.row.data();
    w.energies = energies.data();
    const int64_t edges = 2 * w.pairs;
    w.radial = radial = radial_.need(all * net.radial_row);
    w.harmonics = harmonics = harmonics_.need((edges + 1) * passes.harmonics);
    for (int s = 0; s < net.levels; s++) {
      w.features[s] = features_[s].need(n * net.feature);
      w.scalars[s] = scalars_[s].need(all * net.scalar);
      if (net.norm) w.inverse[s] = inverse_[s].need(n * (MAX_LMAX + 1));
      if (net.gate) {
        w.plain[s] = plain_[s].need(n * net.feature);
        w.gates[s] = gates_[s].need(n * (net.lmax + 1) * net.blocks * passes.lanes);
      }
      if (backward) w.slopes[s] = slopes_[s].need(n * net.feature);
    }
    if (!backward) return;
    for (int k = 0; k < 2; k++) w.scattered[k] = scattered_[k].need(n * net.feature);
    w.scalar_slopes = scalar_slopes_.need(edges * net.scalar);
    w.self_slopes = self_slopes_.need(n * net.scalar);
    w.state_slopes = state_slopes_.need(all * net.scalar);
    w.length_slopes = length_slopes_.need(all);
    // added to sixteen or more at a time
    w.harmonic_slopes = harmonic_slopes_.need((edges + 1) * passes.harmonics);
    along.resize(w.pairs);
    slopes.resize(3 * w.pairs);
  }
  S *parts(int64_t count) { return parts_.need(count); }
  S *scratch(int64_t count) { return scratch_.need(count); }
  S *radial = nullptr, *harmonics = nullptr;

 private:
  Buffer<S> features_[MAX_LEVELS], plain_[MAX_LEVELS], gates_[MAX_LEVELS],
      inverse_[MAX_LEVELS], slopes_[MAX_LEVELS], scalars_[MAX_LEVELS];
  Buffer<S> scattered_[2], scalar_slopes_, self_slopes_, state_slopes_,
      length_slopes_, harmonic_slopes_, radial_, harmonics_, parts_, scratch_;
};

}  // namespace
