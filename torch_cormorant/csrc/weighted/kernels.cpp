// Compiled for each instruction set and number type: VECTOR_BYTES, ISA and REAL are given.
#include "sum.h"

namespace {

typedef REAL S;

int64_t scratch_of(const Weighted *p) { return Room<S>::numbers(p) * sizeof(S); }

void forward(const Weighted *p, int64_t first, int64_t last, void *scratch) {
  sums<S>(p, first, last, scratch, false);
}

void second_forward(const Weighted *p, int64_t first, int64_t last, void *scratch) {
  sums<S>(p, first, last, scratch, true);
}

void backward(const Weighted *p, int64_t node, int64_t e0, int64_t e1, int64_t base,
              void *part, void *scratch) {
  gradients<S>(p, node, e0, e1, base, (S *)part, scratch, false);
}

void second_backward(const Weighted *p, int64_t node, int64_t e0, int64_t e1,
                     int64_t base, void *part, void *scratch) {
  gradients<S>(p, node, e0, e1, base, (S *)part, scratch, true);
}

void collect(const Weighted *p, int64_t e0, int64_t e1, const void *part, int32_t owner,
             int32_t owners) {
  for (int64_t e = e0; e < e1; e++) {
    const int64_t j = p->source[e];
    if (j % owners == owner)
      add_row((S *)p->dx + j * p->x_dim, (const S *)part + (e - e0) * p->x_dim, p->x_dim);
  }
}

const WeightedKernels table = {scratch_of,      forward, second_forward, backward,
                               second_backward, collect};

}  // namespace

#define NAME_OF(isa, real) weighted_##isa##_##real
#define NAME(isa, real) NAME_OF(isa, real)
const WeightedKernels *NAME(ISA, REAL)() { return &table; }
