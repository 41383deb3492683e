// Pairs within the cutoff. With a skin they are searched farther out, and the search holds
// until an atom has moved by half of the skin; with other domains, own atoms come first
// and pairs without one of them are left out.
#pragma once
#include "neighbours.h"

namespace {

struct Structure {
  int64_t atoms, own;
  const double *positions, *cell;
  const int32_t *periodic;
};

class NearPairs {
 public:
  void find(Graph &graph, const Structure &given, double cutoff, double skin) {
    if (skin > 0) {
      if (!holds(given, cutoff + skin, skin)) search(given, cutoff + skin);
      select(graph, given.positions, cutoff);
    } else {
      graph.atoms = given.atoms;
      Search(graph, given.positions, given.cell, given.periodic, cutoff);
      own_first(graph, given.own);
    }
    graph.connect();
  }

 private:
  Graph all_;
  std::vector<double> positions_, offset_;  // when searched; images of each pair
  double reach_ = 0, cell_[9] = {};
  int32_t periodic_[3] = {};
  int64_t own_ = -1;
  std::vector<int32_t> order_, place_;

  bool holds(const Structure &given, double reach, double skin) const {
    if (reach != reach_ || given.own != own_ ||
        3 * given.atoms != (int64_t)positions_.size() || !same_cell(given))
      return false;
    const double most = 0.25 * skin * skin;
    for (int64_t i = 0; i < 3 * given.atoms; i += 3) {
      double moved[3];
      for (int a = 0; a < 3; a++) moved[a] = given.positions[i + a] - positions_[i + a];
      if (!(dot(moved, moved) < most)) return false;
    }
    return true;
  }
  bool same_cell(const Structure &given) const {
    for (int k = 0; k < 3; k++) {
      const int32_t repeats = given.cell && (!given.periodic || given.periodic[k]);
      if (repeats != periodic_[k]) return false;
      for (int a = 3 * k; repeats && a < 3 * k + 3; a++)
        if (given.cell[a] != cell_[a]) return false;
    }
    return true;
  }
  void search(const Structure &given, double reach) {
    own_ = -1;  // until all is well
    all_.atoms = given.atoms;
    Search(all_, given.positions, given.cell, given.periodic, reach);
    own_first(all_, given.own);
    positions_.assign(given.positions, given.positions + 3 * given.atoms);
    offset_.resize(all_.vec.size());
    for (size_t k = 0; k < all_.first.size(); k++)
      for (int a = 0; a < 3; a++)
        offset_[3 * k + a] = all_.vec[3 * k + a] - between(given.positions, k, a);
    for (int k = 0; k < 3; k++) {
      periodic_[k] = given.cell && (!given.periodic || given.periodic[k]);
      for (int a = 3 * k; periodic_[k] && a < 3 * k + 3; a++) cell_[a] = given.cell[a];
    }
    reach_ = reach;
    own_ = given.own;
  }
  double between(const double *positions, size_t k, int a) const {
    return positions[3 * (int64_t)all_.order[all_.first[k]] + a] -
           positions[3 * (int64_t)all_.order[all_.second[k]] + a];
  }
  void select(Graph &graph, const double *positions, double cutoff) const {
    const size_t most = all_.first.size();
    graph.atoms = all_.atoms;
    graph.order = all_.order;
    graph.first.resize(most);
    graph.second.resize(most);
    graph.vec.resize(3 * most);
    size_t n = 0;
    for (size_t k = 0; k < most; k++) {
      double *v = &graph.vec[3 * n];
      for (int a = 0; a < 3; a++) v[a] = between(positions, k, a) + offset_[3 * k + a];
      graph.first[n] = all_.first[k];
      graph.second[n] = all_.second[k];
      n += dot(v, v) < cutoff * cutoff;
    }
    graph.first.resize(n);
    graph.second.resize(n);
    graph.vec.resize(3 * n);
  }
  void own_first(Graph &graph, int64_t own) {
    if (own == graph.atoms) return;
    order_.clear();
    place_.resize(graph.atoms);
    for (int turn = 0; turn < 2; turn++)
      for (int64_t i = 0; i < graph.atoms; i++)
        if ((graph.order[i] >= own) == turn) {
          place_[i] = (int32_t)order_.size();
          order_.push_back(graph.order[i]);
        }
    graph.order = order_;
    size_t n = 0;
    for (size_t k = 0; k < graph.first.size(); k++) {
      const int32_t i = place_[graph.first[k]], j = place_[graph.second[k]];
      if (i >= own && j >= own) continue;
      graph.first[n] = i;
      graph.second[n] = j;
      memmove(&graph.vec[3 * n++], &graph.vec[3 * k], sizeof(double[3]));
    }
    graph.first.resize(n);
    graph.second.resize(n);
    graph.vec.resize(3 * n);
  }
};

}  // namespace
