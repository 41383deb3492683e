// Undirected pairs within the cutoff: linked cells, periodic or not, cells of any shape.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "fault.h"

namespace {

constexpr double MIN_LENGTH = 1e-6;  // where directions have no meaning
constexpr double FARTHEST = 4e13;    // double resolves a hundredth of an Angstrom there
constexpr double SINGULAR = 1e-6;
constexpr int LOOK_AHEAD = 8;        // entries behind the lists that may be read

struct Graph {
  int64_t atoms = 0, pairs = 0;
  std::vector<int32_t> order;          // place in the graph -> the caller's atom
  std::vector<int32_t> first, second;  // ends of each pair
  std::vector<double> vec;             // position of first minus that of second
  std::vector<int64_t> rowptr;         // edges of every receiver
  std::vector<int32_t> source, row;    // source of every edge; 2 pair + direction

  // Edges by receiver from the list of pairs.
  void connect() {
    pairs = (int64_t)first.size();
    if (pairs >= (int64_t)1 << 30)
      fail(CORMORANT_NO_MEMORY, "%lld pairs are more than one call takes", (long long)pairs);
    rowptr.assign(atoms + 1, 0);
    for (int64_t k = 0; k < pairs; k++) {
      rowptr[first[k] + 1]++;
      rowptr[second[k] + 1]++;
    }
    for (int64_t i = 0; i < atoms; i++) rowptr[i + 1] += rowptr[i];
    source.assign(2 * pairs + LOOK_AHEAD, 0);
    row.assign(2 * pairs + LOOK_AHEAD, 0);
    next_.assign(rowptr.begin(), rowptr.end());
    for (int64_t k = 0; k < pairs; k++) {
      const int64_t e = next_[first[k]]++;
      source[e] = second[k];
      row[e] = (int32_t)(2 * k);
      const int64_t f = next_[second[k]]++;
      source[f] = first[k];
      row[f] = (int32_t)(2 * k + 1);
    }
  }

 private:
  std::vector<int64_t> next_;
};

inline void cross(const double *a, const double *b, double *out) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}
inline double dot(const double *a, const double *b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}
inline double length(const double *a) { return std::sqrt(dot(a, a)); }

// Three vectors that span space, some of which repeat.
struct Lattice {
  double vector[9];   // rows
  double inverse[9];  // fraction k of x is inverse[k] . x
  bool periodic[3];
  double height[3];   // distance of the planes on both sides

  Lattice(const double *cell, const int32_t *flags) {
    for (int k = 0; k < 3; k++) periodic[k] = cell && (!flags || flags[k]);
    for (int k = 0; k < 9; k++) vector[k] = cell && periodic[k / 3] ? cell[k] : 0.0;
    for (int k = 0; k < 9; k++)
      if (!std::isfinite(vector[k]))
        fail(CORMORANT_NOT_FINITE, "cell vector %d is not finite", k / 3);
    check();
    complete();
    invert();
  }

 private:
  // Periodic vectors must be independent: what is left of each beside those before it.
  void check() const {
    double largest = 0, kept[9];
    for (int k = 0; k < 3; k++) largest = std::max(largest, length(vector + 3 * k));
    int n = 0;
    for (int k = 0; k < 3; k++) {
      if (!periodic[k]) continue;
      double *rest = kept + 3 * n;
      memcpy(rest, vector + 3 * k, sizeof(double[3]));
      for (int j = 0; j < n; j++) {
        const double along = dot(rest, kept + 3 * j);
        for (int a = 0; a < 3; a++) rest[a] -= along * kept[3 * j + a];
      }
      const double size = length(rest);
      if (!(size > SINGULAR * largest))
        fail(CORMORANT_BAD_CELL,
             "cell vector %d is zero or depends on the others; periodic vectors must "
             "span a cell",
             k);
      for (int a = 0; a < 3; a++) rest[a] /= size;
      n++;
    }
  }
  // Unit vectors at right angles to the periodic ones in place of those that do not repeat.
  void complete() {
    double kept[9];
    int n = 0;
    const auto keep = [&](const double *v) {
      double rest[3] = {v[0], v[1], v[2]};
      for (int j = 0; j < n; j++) {
        const double along = dot(rest, kept + 3 * j);
        for (int a = 0; a < 3; a++) rest[a] -= along * kept[3 * j + a];
      }
      const double size = length(rest);
      for (int a = 0; a < 3; a++) kept[3 * n + a] = rest[a] / size;
      n++;
    };
    for (int k = 0; k < 3; k++)
      if (periodic[k]) keep(vector + 3 * k);
    for (int k = 0; k < 3; k++) {
      if (periodic[k]) continue;
      double best[3] = {}, most = -1;
      for (int a = 0; a < 3; a++) {  // the axis that is least covered so far
        double left = 1;
        for (int j = 0; j < n; j++) left -= kept[3 * j + a] * kept[3 * j + a];
        if (left > most + 1e-9) {
          most = left;
          best[0] = a == 0;
          best[1] = a == 1;
          best[2] = a == 2;
        }
      }
      keep(best);
      memcpy(vector + 3 * k, kept + 3 * (n - 1), sizeof(double[3]));
    }
  }
  void invert() {
    cross(vector + 3, vector + 6, inverse);
    cross(vector + 6, vector, inverse + 3);
    cross(vector, vector + 3, inverse + 6);
    const double volume = dot(vector, inverse);
    for (int k = 0; k < 9; k++) inverse[k] /= volume;
    for (int k = 0; k < 3; k++) height[k] = 1 / length(inverse + 3 * k);
  }
};

// Bins of a lattice, in an order in which near bins are near in memory.
class Bins {
 public:
  int64_t count[3], reach[3];
  std::vector<int32_t> start, curve, rank;  // first atom; bin of every place, and back

  Bins(const Lattice &lattice, const double *low, const double *extent, int64_t atoms,
       double cutoff) {
    double size[3];
    for (int k = 0; k < 3; k++) {
      low_[k] = low[k];
      extent_[k] = extent[k];
      size[k] = lattice.height[k] * extent[k];
      count[k] = std::max<int64_t>(1, std::min<int64_t>(128, (int64_t)(size[k] / (0.5001 * cutoff))));
    }
    while (count[0] * count[1] * count[2] > 8 * atoms + 64) {
      const auto most = std::max_element(count, count + 3);
      *most = (*most + 1) / 2;
    }
    for (int k = 0; k < 3; k++) {
      const double reached = std::ceil(cutoff / (size[k] / (double)count[k]));
      // beyond the bins there is nothing where nothing repeats
      if (!lattice.periodic[k]) {
        reach[k] = (int64_t)std::min(reached, (double)count[k]);
      } else if (reached > 1000) {
        fail(CORMORANT_BAD_CELL, "cell vector %d is shorter than a thousandth of the cutoff",
             k);
      } else {
        reach[k] = (int64_t)reached;
      }
    }
    trace();
  }
  int64_t total() const { return count[0] * count[1] * count[2]; }
  int32_t place(const double *fraction) const {
    int64_t at[3];
    for (int k = 0; k < 3; k++) {
      const double f = (fraction[k] - low_[k]) / extent_[k] * (double)count[k];
      at[k] = (int64_t)std::max(0.0, std::min((double)(count[k] - 1), std::floor(f)));
    }
    return rank[index(at[0], at[1], at[2])];
  }
  int64_t index(int64_t x, int64_t y, int64_t z) const {
    return (x * count[1] + y) * count[2] + z;
  }

 private:
  double low_[3], extent_[3];

  void trace() {
    const auto spread = [](uint64_t x) {
      uint64_t out = 0;
      for (int k = 0; k < 8; k++) out |= (x >> k & 1) << 3 * k;
      return out;
    };
    std::vector<std::pair<uint64_t, int32_t>> keys;
    keys.reserve(total());
    for (int64_t x = 0; x < count[0]; x++)
      for (int64_t y = 0; y < count[1]; y++)
        for (int64_t z = 0; z < count[2]; z++)
          keys.push_back({spread((uint64_t)x) << 2 | spread((uint64_t)y) << 1 |
                              spread((uint64_t)z),
                          (int32_t)index(x, y, z)});
    std::sort(keys.begin(), keys.end());
    curve.resize(keys.size());
    rank.resize(keys.size());
    for (size_t k = 0; k < keys.size(); k++) {
      curve[k] = keys[k].second;
      rank[keys[k].second] = (int32_t)k;
    }
  }
};

// One direction of the bins around a bin: which bin, and how many periods away.
inline bool fold(int64_t &x, int64_t &shift, int64_t count, bool periodic) {
  if (!periodic) return x >= 0 && x < count;
  shift = x >= 0 ? x / count : -((count - 1 - x) / count);
  x -= shift * count;
  return true;
}

// Fills the order of a graph and its pairs; edges come from connect().
class Search {
 public:
  Search(Graph &graph, const double *pos, const double *cell, const int32_t *periodic,
         double cutoff)
      : graph_(graph), lattice_(cell, periodic), cutoff_(cutoff) {
    const int64_t n = graph.atoms;
    check(pos);
    wrap(pos);
    double low[3] = {0, 0, 0}, extent[3] = {1, 1, 1};
    for (int k = 0; k < 3; k++) {
      if (lattice_.periodic[k] || !n) continue;
      double high = low[k] = fraction_[k];
      for (int64_t i = 1; i < n; i++) {
        low[k] = std::min(low[k], fraction_[3 * i + k]);
        high = std::max(high, fraction_[3 * i + k]);
      }
      extent[k] = std::max(high - low[k], 1e-3 * cutoff);
    }
    Bins bins(lattice_, low, extent, n, cutoff);
    sort(bins);
    graph.first.clear();
    graph.second.clear();
    graph.vec.clear();
    for (int64_t b = 0; b < bins.total(); b++) around(bins, (int32_t)b);
  }

 private:
  Graph &graph_;
  const Lattice lattice_;
  const double cutoff_;
  std::vector<double> fraction_, wrapped_, sorted_;

  void check(const double *pos) const {
    for (int64_t i = 0; i < graph_.atoms; i++)
      for (int k = 0; k < 3; k++)
        if (!(std::fabs(pos[3 * i + k]) < FARTHEST))
          fail(CORMORANT_NOT_FINITE,
               "the position of atom %lld is not finite or too far away: (%g, %g, %g)",
               (long long)i, pos[3 * i], pos[3 * i + 1], pos[3 * i + 2]);
  }
  // Fractions, those of periodic directions in 0 .. 1, and the positions that go with them.
  void wrap(const double *pos) {
    const int64_t n = 3 * graph_.atoms;
    fraction_.resize(n);
    wrapped_.assign(pos, pos + n);
    for (int64_t i = 0; i < n; i += 3) {
      double turns[3];
      for (int k = 0; k < 3; k++) {
        const double f = dot(lattice_.inverse + 3 * k, pos + i);
        turns[k] = lattice_.periodic[k] ? std::floor(f) : 0.0;
        fraction_[i + k] = f - turns[k];
      }
      for (int k = 0; k < 3; k++)
        for (int a = 0; a < 3; a++)
          wrapped_[i + a] -= turns[k] * lattice_.vector[3 * k + a];
    }
  }
  void sort(Bins &bins) {
    const int64_t n = graph_.atoms;
    std::vector<int32_t> place(n);
    bins.start.assign(bins.total() + 1, 0);
    for (int64_t i = 0; i < n; i++) {
      place[i] = bins.place(&fraction_[3 * i]);
      bins.start[place[i] + 1]++;
    }
    for (int64_t b = 0; b < bins.total(); b++) bins.start[b + 1] += bins.start[b];
    std::vector<int32_t> next(bins.start.begin(), bins.start.end());
    graph_.order.resize(n);
    for (int64_t i = 0; i < n; i++)
      graph_.order[next[place[i]]++] = (int32_t)i;
    sorted_.resize(3 * n);
    for (int64_t i = 0; i < n; i++)
      memcpy(&sorted_[3 * i], &wrapped_[3 * (int64_t)graph_.order[i]],
             sizeof(double[3]));
  }
  // Pairs whose first atom lies in one bin; each pair is found from its earlier atom, an
  // image of the atom itself from the side where it comes later.
  void around(const Bins &bins, int32_t own) {
    if (bins.start[own] == bins.start[own + 1]) return;
    const int64_t at = bins.curve[own];
    const int64_t x = at / (bins.count[1] * bins.count[2]), y = at / bins.count[2] % bins.count[1],
                  z = at % bins.count[2];
    const double *h = lattice_.vector;
    for (int64_t dx = -bins.reach[0]; dx <= bins.reach[0]; dx++) {
      int64_t X = x + dx, sx = 0;
      if (!fold(X, sx, bins.count[0], lattice_.periodic[0])) continue;
      for (int64_t dy = -bins.reach[1]; dy <= bins.reach[1]; dy++) {
        int64_t Y = y + dy, sy = 0;
        if (!fold(Y, sy, bins.count[1], lattice_.periodic[1])) continue;
        for (int64_t dz = -bins.reach[2]; dz <= bins.reach[2]; dz++) {
          int64_t Z = z + dz, sz = 0;
          if (!fold(Z, sz, bins.count[2], lattice_.periodic[2])) continue;
          const int32_t other = bins.rank[bins.index(X, Y, Z)];
          if (other < own) continue;  // all of its atoms are earlier ones
          double shift[3];
          for (int a = 0; a < 3; a++)
            shift[a] = (double)sx * h[a] + (double)sy * h[3 + a] + (double)sz * h[6 + a];
          const bool later = sx > 0 || (sx == 0 && (sy > 0 || (sy == 0 && sz > 0)));
          between(bins, own, other, shift, later);
        }
      }
    }
  }
  void between(const Bins &bins, int32_t own, int32_t other, const double *shift,
               bool later) {
    const double square = cutoff_ * cutoff_;
    for (int32_t i = bins.start[own]; i < bins.start[own + 1]; i++) {
      const double *p = &sorted_[3 * (int64_t)i];
      const double px = p[0] - shift[0], py = p[1] - shift[1], pz = p[2] - shift[2];
      const int32_t from = std::max(bins.start[other], later ? i : i + 1);
      for (int32_t j = from; j < bins.start[other + 1]; j++) {
        const double *q = &sorted_[3 * (int64_t)j];
        const double v[3] = {px - q[0], py - q[1], pz - q[2]};
        if (!(dot(v, v) < square)) continue;
        graph_.first.push_back(i);
        graph_.second.push_back(j);
        graph_.vec.insert(graph_.vec.end(), v, v + 3);
      }
    }
  }
};

}  // namespace
