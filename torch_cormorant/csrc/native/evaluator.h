// All stages in their order, on any number of threads.
//
//   forward, level s:   pairs (edge network), then atoms (neighbour sum, products, norm)
//   head:               energies, gradients of the invariants of all levels
//   backward, level s:  atoms, then pairs; what a level adds to the features of the one
//                       below is collected by their atoms, in the order of their edges
//
// Threads own ranges of atoms and pairs. Only gradients of sources cross them: by one
// thread they are added at once, else kept for a chunk of receivers and then added in
// the same order, so that results are equal to the last bit.
//
// Of several processes every one computes its own atoms. Behind a level the features of
// the atoms around them come from the others, and gradients of these go back.
#pragma once
#include <memory>
#include <mutex>
#include <system_error>

#include "geometry.h"
#include "packing.h"
#include "workspace.h"

namespace {

// What one call asks for.
struct Request {
  int64_t atoms, local;
  const int32_t *numbers;
  const double *positions, *cell;
  const int32_t *periodic;
  int64_t pairs;
  const int32_t *first, *second;
  const double *vectors;
  const cormorant_exchange *exchange;
  int32_t threads;
  cormorant_results *results;
};

class Evaluator {
 public:
  virtual ~Evaluator() = default;
  virtual void run(const Request &request) = 0;
  virtual int64_t row_bytes() const = 0;
  double skin = 0;
};

constexpr int64_t PAIRS_OF_A_THREAD = 1000, EDGES_OF_A_CHUNK = 512;

template <class S> class EvaluatorOf : public Evaluator {
 public:
  EvaluatorOf(const Parameters &p, const Passes<S> &passes)
      : p_(p), passes_(passes), packing_(p_, passes.lanes), geometry_(p_, net().radial_row) {}

  void run(const Request &request) override {
    const Borrowed borrowed(*this);
    Workspace<S> &space = *borrowed.space;
    find_pairs(request, space);
    find_kinds(request, space);
    check_lengths(request, space.graph);
    const bool backward = request.results->forces || request.results->strain ||
                          request.results->strains;
    const int64_t receivers = request.exchange ? request.local : request.atoms;
    space.prepare(net(), passes_, receivers, request.local, backward);
    const int threads = (int)std::max<int64_t>(
        1, std::min<int64_t>(request.threads, space.graph.pairs / PAIRS_OF_A_THREAD));
    if (request.atoms || request.exchange)
      Run(*this, space, request.exchange, threads, backward).run();
    answer(request, space);
  }
  int64_t row_bytes() const override { return net().feature * (int64_t)sizeof(S); }

 private:
  const Parameters p_;
  const Passes<S> &passes_;
  const Packing<S> packing_;
  const Geometry geometry_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace<S>>> free_;

  const Net<S> &net() const { return packing_.net; }

  // A workspace of its own for every call that is under way.
  struct Borrowed {
    EvaluatorOf &owner;
    std::unique_ptr<Workspace<S>> space;
    explicit Borrowed(EvaluatorOf &from) : owner(from) {
      const std::lock_guard<std::mutex> lock(owner.mutex_);
      if (owner.free_.empty()) {
        owner.free_.reserve(owner.free_.capacity() + 1);
        space = std::make_unique<Workspace<S>>();
      } else {
        space = std::move(owner.free_.back());
        owner.free_.pop_back();
      }
    }
    ~Borrowed() {
      const std::lock_guard<std::mutex> lock(owner.mutex_);
      if (owner.free_.size() < owner.free_.capacity())
        owner.free_.push_back(std::move(space));
    }
  };

  void find_pairs(const Request &request, Workspace<S> &space) const {
    Graph &graph = space.graph;
    if (request.positions || !request.atoms) {
      const int64_t own = request.exchange ? request.local : request.atoms;
      space.near_pairs.find(
          graph, {request.atoms, own, request.positions, request.cell, request.periodic},
          p_.cutoff, this->skin);
      return;
    }
    graph.atoms = request.atoms;
    graph.order.resize(request.atoms);
    for (int64_t i = 0; i < request.atoms; i++) graph.order[i] = (int32_t)i;
    graph.first.clear();
    graph.second.clear();
    graph.vec.clear();
    for (int64_t k = 0; k < request.pairs; k++) {
      const int32_t i = request.first[k], j = request.second[k];
      const double *v = request.vectors + 3 * k;
      if (i < 0 || i >= request.atoms || j < 0 || j >= request.atoms)
        fail(CORMORANT_BAD_PAIR, "pair %lld joins atoms %d and %d of %lld", (long long)k, i,
             j, (long long)request.atoms);
      const double square = dot(v, v);
      if (!std::isfinite(square))
        fail(CORMORANT_NOT_FINITE, "the vector of pair %lld is not finite", (long long)k);
      if (!(square < p_.cutoff * p_.cutoff)) continue;
      graph.first.push_back(i);
      graph.second.push_back(j);
      graph.vec.insert(graph.vec.end(), v, v + 3);
    }
    graph.connect();
  }
  void find_kinds(const Request &request, Workspace<S> &space) const {
    space.kind.resize(request.atoms);
    for (int64_t i = 0; i < request.atoms; i++) {
      const int64_t atom = space.graph.order[i];
      const auto found = std::find(p_.numbers.begin(), p_.numbers.end(),
                                   (double)request.numbers[atom]);
      if (found == p_.numbers.end())
        fail(CORMORANT_UNKNOWN_SPECIES,
             "atom %lld has atomic number %d, which the model does not know",
             (long long)atom, request.numbers[atom]);
      space.kind[i] = (int32_t)(found - p_.numbers.begin());
    }
  }
  // What the caller calls an atom of the graph.
  static int32_t name(const Request &request, const Graph &graph, int64_t i) {
    const int32_t atom = graph.order[i];
    return request.exchange && request.exchange->names ? request.exchange->names[atom]
                                                       : atom;
  }
  static void check_lengths(const Request &request, const Graph &graph) {
    for (int64_t k = 0; k < graph.pairs; k++)
      if (dot(&graph.vec[3 * k], &graph.vec[3 * k]) < MIN_LENGTH * MIN_LENGTH)
        fail(CORMORANT_COINCIDENT,
             "atoms %d and %d (or an image) are less than %g Angstrom apart, where "
             "directions have no meaning; remove the duplicate atom",
             name(request, graph, graph.first[k]), name(request, graph, graph.second[k]),
             MIN_LENGTH);
  }

  // Energies of atoms with references, repulsion and constant; what was asked for.
  void answer(const Request &request, Workspace<S> &space) const {
    const Graph &graph = space.graph;
    cormorant_results &out = *request.results;
    out.pairs = graph.pairs;
    const int64_t total = request.exchange ? request.exchange->total : request.local;
    const double share = total > 0 ? p_.constant / (double)total : 0;
    double energy = request.exchange ? share * (double)request.local : p_.constant;
    for (int64_t i = 0; i < request.atoms; i++) {
      double own = 0;
      if (i < request.local) {
        own = space.energies[i] + p_.references[space.kind[i]];
        for (int64_t e = graph.rowptr[i]; p_.zbl && e < graph.rowptr[i + 1]; e++)
          own += 0.5 * space.repulsion[graph.row[e] >> 1];
        if (!std::isfinite(own))
          fail(CORMORANT_NOT_FINITE,
               "the energy of atom %d is not finite; the weights may have grown too "
               "large, or atoms are far too close",
               name(request, graph, i));
        energy += own;
        own += share;
      }
      if (out.energies) out.energies[graph.order[i]] = own;
    }
    if (out.energy) *out.energy = energy;
    if (out.forces) forces(request, space, out.forces);
    if (out.strain) strain(space, out.strain);
    if (out.strains) strains(space, out.strains);
  }
  static void forces(const Request &request, const Workspace<S> &space, double *forces) {
    const Graph &graph = space.graph;
    for (int64_t i = 0; i < graph.atoms; i++) {
      double sum[3] = {};
      for (int64_t e = graph.rowptr[i]; e < graph.rowptr[i + 1]; e++) {
        const double *slope = &space.slopes[3 * (int64_t)(graph.row[e] >> 1)];
        const double sign = graph.row[e] & 1 ? 1 : -1;
        for (int a = 0; a < 3; a++) sum[a] += sign * slope[a];
      }
      if (!std::isfinite(sum[0] + sum[1] + sum[2]))
        fail(CORMORANT_NOT_FINITE,
             "the force on atom %d is not finite; its energy is too steep there",
             name(request, graph, i));
      memcpy(forces + 3 * (int64_t)graph.order[i], sum, sizeof sum);
    }
  }
  static void strain(const Workspace<S> &space, double *strain) {
    double sum[9] = {};
    for (int64_t k = 0; k < space.graph.pairs; k++)
      for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
          sum[3 * a + b] += space.slopes[3 * k + a] * space.graph.vec[3 * k + b];
    for (int a = 0; a < 3; a++)
      for (int b = 0; b < 3; b++) strain[3 * a + b] = 0.5 * (sum[3 * a + b] + sum[3 * b + a]);
  }

  static void strains(const Workspace<S> &space, double *strains) {
    const Graph &graph = space.graph;
    std::fill(strains, strains + 6 * graph.atoms, 0.0);
    for (int64_t k = 0; k < graph.pairs; k++) {
      const double *s = &space.slopes[3 * k], *v = &graph.vec[3 * k];
      const double part[6] = {s[0] * v[0],
                              s[1] * v[1],
                              s[2] * v[2],
                              0.5 * (s[0] * v[1] + s[1] * v[0]),
                              0.5 * (s[0] * v[2] + s[2] * v[0]),
                              0.5 * (s[1] * v[2] + s[2] * v[1])};
      for (const int32_t i : {graph.first[k], graph.second[k]})
        for (int a = 0; a < 6; a++)
          strains[6 * (int64_t)graph.order[i] + a] += 0.5 * part[a];
    }
  }

  class Run {
   public:
    Run(const EvaluatorOf &owner, Workspace<S> &space, const cormorant_exchange *exchange,
        int threads, bool backward)
        : owner_(owner), net_(owner.net()), passes_(owner.passes_), space_(space),
          work_(space.work), exchange_(exchange), threads_(threads), backward_(backward),
          barrier_(threads) {
      size_ = (passes_.scratch(net_) + 31) / 32 * 32;
      scratch_ = space.scratch(size_ * threads);
      if (owner.p_.zbl) {
        space.repulsion.resize(work_.pairs);
        space.repulsion_slopes.resize(work_.pairs);
      }
      if (threads > 1 && backward) cut_chunks();
      if (exchange) {
        space.place.resize(space.graph.atoms);
        for (int64_t i = 0; i < space.graph.atoms; i++)
          space.place[space.graph.order[i]] = (int32_t)i;
      }
    }
    void run() {
      in_threads(threads_, [this](int t) { forward_and_back(t); });
    }

   private:
    struct Chunk {
      int64_t first, last;  // receivers
    };
    const EvaluatorOf &owner_;
    const Net<S> &net_;
    const Passes<S> &passes_;
    Workspace<S> &space_;
    const Work<S> &work_;
    const cormorant_exchange *exchange_;
    const int threads_;
    const bool backward_;
    Barrier barrier_;
    int64_t size_, size_of_parts_ = 0;
    S *scratch_, *parts_ = nullptr;
    std::vector<Chunk> chunks_;

    int64_t cut(int64_t count, int64_t step, int t) const {
      const int64_t blocks = (count + step - 1) / step;
      return std::min(count, blocks * t / threads_ * step);
    }
    void cut_chunks() {
      const int64_t most = EDGES_OF_A_CHUNK * threads_, *ptr = work_.rowptr;
      int64_t largest = 0;
      for (int64_t i = 0; i < work_.atoms;) {
        int64_t j = i;
        do j = std::min<int64_t>(j + ATOMS, work_.atoms);
        while (j < work_.atoms && ptr[j] - ptr[i] < most);
        chunks_.push_back({i, j});
        largest = std::max(largest, ptr[j] - ptr[i]);
        i = j;
      }
      size_of_parts_ = largest * net_.feature;
      parts_ = space_.parts(2 * size_of_parts_);
    }

    void forward_and_back(int t) {
      S *scratch = scratch_ + t * size_;
      const int64_t p0 = cut(work_.padded, passes_.pair_rows, t),
                    p1 = cut(work_.padded, passes_.pair_rows, t + 1);
      const int64_t a0 = cut(work_.atoms, ATOMS, t), a1 = cut(work_.atoms, ATOMS, t + 1);
      const int64_t others = space_.graph.atoms - work_.atoms;
      const int64_t o0 = work_.atoms + cut(others, 1, t),
                    o1 = work_.atoms + cut(others, 1, t + 1);
      prepare(p0, p1, a0, a1);
      prepare_others(o0, o1);
      barrier_.wait();
      for (int s = 0; s < net_.levels; s++) {
        passes_.pairs_forward(net_, work_, s, p0, p1, scratch);
        barrier_.wait();
        passes_.atoms_forward(net_, work_, s, a0, a1, scratch);
        barrier_.wait();
        if (exchange_ && s + 1 < net_.levels)
          exchange(t, exchange_->forward, work_.features[s]);
      }
      passes_.head(net_, work_, a0, a1, backward_, scratch);
      if (!backward_) return;
      barrier_.wait();
      for (int s = net_.levels - 1; s >= 0; s--) {
        if (exchange_ && s + 1 < net_.levels) {
          passes_.gather(net_, work_, s, o0, o1);
          barrier_.wait();
          exchange(t, exchange_->reverse, work_.slopes[s]);
        }
        if (threads_ == 1 || !s)
          passes_.atoms_backward(net_, work_, s, a0, a1, nullptr, 0, scratch);
        else
          chunks_backward(s, t, scratch);
        barrier_.wait();
        passes_.pairs_backward(net_, work_, s, p0, p1, scratch);
        barrier_.wait();
      }
      finish(p0, std::min(p1, work_.pairs));
    }
    template <class Function> void exchange(int t, const Function &function, S *rows) {
      if (!t)
        function(exchange_->context, rows, space_.place.data(),
                 net_.feature * (int64_t)sizeof(S));
      barrier_.wait();
    }
    // Two buffers in turns: one is filled while the other may still be read.
    void chunks_backward(int s, int t, S *scratch) {
      S *parts = parts_;
      for (const Chunk &chunk : chunks_) {
        const int64_t base = work_.rowptr[chunk.first];
        for (int64_t i = chunk.first + t * ATOMS; i < chunk.last; i += threads_ * ATOMS)
          passes_.atoms_backward(net_, work_, s, i, std::min<int64_t>(i + ATOMS, chunk.last),
                                 parts, base, scratch);
        barrier_.wait();
        passes_.collect(net_, work_, s, base, work_.rowptr[chunk.last], parts, t, threads_);
        parts = parts == parts_ ? parts_ + size_of_parts_ : parts_;
      }
    }

    // What pairs know of their vectors; self edges and padding have length zero.
    void prepare(int64_t p0, int64_t p1, int64_t a0, int64_t a1) {
      const int components = passes_.harmonics;
      const int64_t q0 = std::min(p0, work_.pairs), q1 = std::min(p1, work_.pairs);
      passes_.lengths(owner_.geometry_.lengths, space_.graph.vec.data(), q0, q1,
                      space_.radial, space_.harmonics);
      for (int64_t p = q1; p < p1; p++) {
        S *radial = space_.radial + p * net_.radial_row;
        std::fill(radial, radial + net_.radial_row, S(0));
        radial[2 * net_.radials + 1] = 1;
      }
      for (int64_t p = q0; p < q1 && owner_.p_.zbl; p++)
        space_.repulsion[p] = owner_.geometry_.repulsion(
            length(&space_.graph.vec[3 * p]), space_.kind[space_.graph.first[p]],
            space_.kind[space_.graph.second[p]], &space_.repulsion_slopes[p]);
      if (!backward_) return;
      std::fill(work_.length_slopes + p0, work_.length_slopes + p1, S(0));
      std::fill(work_.harmonic_slopes + 2 * q0 * components,
                work_.harmonic_slopes + 2 * q1 * components, S(0));
      for (S *scattered : work_.scattered)
        std::fill(scattered + a0 * net_.feature, scattered + a1 * net_.feature, S(0));
    }
    // Atoms of other processes receive nothing here: what nobody writes must be zero.
    void prepare_others(int64_t o0, int64_t o1) {
      if (!backward_) return;
      const Graph &graph = space_.graph;
      const auto clear = [](S *rows, int64_t size, int64_t first, int64_t last) {
        std::fill(rows + first * size, rows + last * size, S(0));
      };
      for (S *scattered : work_.scattered) clear(scattered, net_.feature, o0, o1);
      for (int s = 0; s + 1 < net_.levels; s++) {
        clear(work_.slopes[s], net_.feature, o0, o1);
        clear(work_.scalars[s + 1], net_.scalar, work_.self + o0, work_.self + o1);
      }
      for (int64_t e = graph.rowptr[o0]; e < graph.rowptr[o1]; e++)
        clear(work_.scalar_slopes, net_.scalar, graph.row[e], graph.row[e] + 1);
    }
    // Gradients by the vectors of pairs.
    void finish(int64_t p0, int64_t p1) {
      for (int64_t p = p0; p < p1; p++) {
        double along = (double)work_.length_slopes[p];
        if (owner_.p_.zbl) {
          const int ends = (space_.graph.first[p] < work_.local) +
                           (space_.graph.second[p] < work_.local);
          along += 0.5 * ends * space_.repulsion_slopes[p];
        }
        space_.along[p] = along;
      }
      passes_.lengths_back(owner_.geometry_.lengths, space_.graph.vec.data(),
                           space_.along.data(), work_.harmonic_slopes, p0, p1,
                           space_.slopes.data());
    }
  };
};

}  // namespace
