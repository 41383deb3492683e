// The stages of the evaluator, compiled once for each instruction set: VECTOR_BYTES and
// ISA are given. Nothing here allocates or throws, and no function of the standard
// library is instantiated: it could end up on a lesser machine.
#include "head.h"
#include "lengths.h"
#include "pairs.h"
#include "vertex.h"

namespace {

template <class K> int64_t scratch_size(const Net<typename K::S> &net) {
  const int64_t of_pairs = (int64_t)(2 * (net.lmax + 1) * net.blocks) * K::PAIRS * K::U +
                           K::PAIRS * net.blocks * K::W;
  const int64_t of_atoms = VertexScratch<K>::size(net), of_head = head_scratch(net);
  const int64_t size = of_pairs > of_atoms ? of_pairs : of_atoms;
  return size > of_head ? size : of_head;
}

template <class K> const Passes<typename K::S> *passes() {
  typedef typename K::S S;
  typedef AnyDegree<K> Any;
  static constexpr Passes<S> made = {
      K::W, K::PAIRS, K::Y, scratch_size<K>, lengths<S>, lengths_back<S>,
      pairs_forward<Any>, pairs_backward<Any>,
      atoms_forward<K>, atoms_backward<K>, collect<S>, gather<K>, head<Any>};
  return &made;
}

template <class S, bool CX> const Passes<S> *of_degree(const Shape &shape) {
  switch (shape.lmax) {
    case 1:
      return passes<Kind<S, CX, 1>>();
    case 2:
      return passes<Kind<S, CX, 2>>();
    case 3:
      return passes<Kind<S, CX, 3>>();
    case 4:
      return passes<Kind<S, CX, 4>>();
  }
  return nullptr;
}

template <class S> const Passes<S> *of_planes(const Shape &shape) {
  if (shape.planes == 2) return of_degree<S, true>(shape);
  return shape.planes == 1 ? of_degree<S, false>(shape) : nullptr;
}

}  // namespace

#define JOIN(a, b) a##b
#define NAME(kind, isa) JOIN(kind, isa)
const Passes<float> *NAME(native_float_, ISA)(const Shape &shape) {
  return of_planes<float>(shape);
}
const Passes<double> *NAME(native_double_, ISA)(const Shape &shape) {
  return of_planes<double>(shape);
}
