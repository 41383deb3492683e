// What the parts of the evaluator hand to each other: plain data, no functions, so that
// code for one instruction set can be linked beside that for another.
//
// W is the number of channels in a register, P is 2 for complex networks (re, im) and 1
// for real ones, U = P W numbers are a unit: one SO(3) component of one block of W
// channels. Rows in memory:
//   features of an atom   [block][component][P][W]
//   scalars of a pair     [degree][block][P][W]
//   scratch for matrices  [unit of a row][row][P][W]
#pragma once
#include <cstdint>

constexpr int MAX_LMAX = 4, MAX_LEVELS = 8;
// Numbers of the harmonics of an edge, room to add up sixteen at a time.
constexpr int harmonic_room(int lmax) { return lmax < 3 ? 8 : lmax == 3 ? 16 : 32; }
constexpr int ATOMS = 4;  // atoms that share one pass over the weights of a level

enum Mask : int32_t { MASK_NONE, MASK_SIGMOID, MASK_GAUSSIAN };

// A sum of Clebsch-Gordan terms: where it goes, of which degree, and which terms.
struct Row {
  int32_t at, degree, begin, end;
};
template <class S> struct Term {
  int32_t a, b;
  S value;
};

// Matrices are packed by blocks of results: [block][unit of the row][W][P][W].
template <class S> struct Level {
  const S *dots[MAX_LMAX + 1];     // all dot products to scalars of each degree
  const S *dots_t[MAX_LMAX + 1];   // and back: scalars of all degrees to one dot product
  const S *state[MAX_LMAX + 1], *state_t[MAX_LMAX + 1];
  const S *radial;                 // [function][degree][block][P][W]
  const S *radius, *width;         // [block][W]; inverse width (Gaussian: inverse radius)
  const S *pair_constant;          // level 0: [species][species][block][P][W], degree 0
  const S *vertex[MAX_LMAX + 1], *vertex_t[MAX_LMAX + 1];
  const S *atom_constant;          // level 0: [species][block][P][W], degree 0
  const S *gate, *gate_t, *gate_bias;
  S mean[MAX_LMAX + 1];            // one over the number of components of a degree
};

template <class S> struct Net {
  int32_t lmax, levels, blocks, species, radials, radial_row;
  int32_t mask, norm, gate, even;  // even: all paths have an even sum of degrees
  int32_t units[MAX_LMAX + 1];     // units of a row of the vertex, one block of channels
  int32_t sums[MAX_LMAX + 1];      // those of the neighbour sum, which come first
  int64_t rows_at[MAX_LMAX + 1];   // where rows of a degree begin in scratch
  int64_t rows;                    // numbers of all of them
  int64_t feature, scalar;         // numbers of an atom, of a pair
  int32_t inputs, hidden;          // of the head
  S eps;
  Level<S> level[MAX_LEVELS];
  const S *input;                  // [species][block][P][W]
  const S *w1, *w1_t, *b1, *w2;
  double b2;
  const Row *sum, *square, *back;  // neighbour sum, square, gradient of the sum
  int32_t sum_rows, square_rows, back_rows;
  const Term<S> *sum_terms, *square_terms, *back_terms;
};

// Of pairs: sizes, and products of harmonics, by their result and by their first factor.
struct HarmonicTerm {
  int32_t component, a, b;
  double value;
};
struct Lengths {
  int32_t lmax, radials, radial_row, radial_kind, envelope, num_terms;
  double cutoff, radial_cutoff;
  const HarmonicTerm *terms, *by_axis;
};

template <class S> struct Work {
  // atoms that receive (rows behind them belong to other processes), those of them that
  // have an energy; self: first row of the self edges
  int64_t atoms, local, pairs, self, padded;
  const int32_t *kind, *ends;      // species; both ends of every row of pairs
  const int64_t *rowptr;           // edges of every receiver
  const int32_t *source, *source_kind, *row;  // row: 2 pair + direction
  const S *radial, *harmonics;     // [row of pairs], [2 pair + direction]
  S *features[MAX_LEVELS], *plain[MAX_LEVELS], *gates[MAX_LEVELS], *inverse[MAX_LEVELS];
  S *slopes[MAX_LEVELS], *scattered[2];
  S *scalars[MAX_LEVELS], *scalar_slopes, *self_slopes, *state_slopes;
  S *length_slopes, *harmonic_slopes;
  double *energies;
};

// A stage works on items first .. last of a level; items are atoms or rows of pairs, and
// first is a multiple of `pair_rows` or ATOMS.
template <class S> struct Passes {
  int32_t lanes, pair_rows, harmonics;
  int64_t (*scratch)(const Net<S> &);  // numbers
  // Of pairs first .. last: rows of radial functions and harmonics from their vectors;
  // and back, gradients by vectors from those by lengths and harmonics.
  void (*lengths)(const Lengths &, const double *vec, int64_t first, int64_t last,
                  S *radial, S *harmonics);
  void (*lengths_back)(const Lengths &, const double *vec, const double *along,
                       const S *slopes, int64_t first, int64_t last, double *out);
  void (*pairs_forward)(const Net<S> &, const Work<S> &, int level, int64_t first,
                        int64_t last, S *scratch);
  void (*pairs_backward)(const Net<S> &, const Work<S> &, int level, int64_t first,
                         int64_t last, S *scratch);
  void (*atoms_forward)(const Net<S> &, const Work<S> &, int level, int64_t first,
                        int64_t last, S *scratch);
  // Gradients of the sources are added where they belong, or, with parts, kept: one row
  // of features for each edge from the edge `base` on.
  void (*atoms_backward)(const Net<S> &, const Work<S> &, int level, int64_t first,
                         int64_t last, S *parts, int64_t base, S *scratch);
  // Add kept rows of the edges first .. last to the sources that `owner` owns.
  void (*collect)(const Net<S> &, const Work<S> &, int level, int64_t first, int64_t last,
                  const S *parts, int32_t owner, int32_t owners);
  // Add what a level gave to rows first .. last of the one below to their gradients.
  void (*gather)(const Net<S> &, const Work<S> &, int level, int64_t first, int64_t last);
  void (*head)(const Net<S> &, const Work<S> &, int64_t first, int64_t last, bool slopes,
               S *scratch);
};

struct Shape {
  int32_t planes, lmax;
};

// NULL where a shape was not compiled in.
#define DECLARE_PASSES(ISA)                              \
  const Passes<float> *native_float_##ISA(const Shape &); \
  const Passes<double> *native_double_##ISA(const Shape &);
DECLARE_PASSES(baseline)
#if defined(SEVERAL_SETS)
DECLARE_PASSES(avx2)
DECLARE_PASSES(avx512)
#endif
#undef DECLARE_PASSES
