// Entry points of PaiNN's steps: the end of dispatch.cpp.
#pragma once
#include "problem.h"

namespace {

const PaiNNKernels *painn_kernels() {
#if defined(SEVERAL_SETS)
  const std::string_view isa = chosen->name;
  if (isa == "avx512") return painn_avx512();
  if (isa == "avx2") return painn_avx2();
#endif
  return painn_baseline();
}

constexpr int64_t MESSAGE_NODES = 32;  // of one share: they fill some tiles

int message_threads(const Message *p) {
  return useful(p->threads, p->edges * p->channels * 4);
}

void run_backward(const Message *p) {
  const PaiNNKernels *kernels = painn_kernels();
  const int64_t number = p->is_double ? 8 : 4;
  int64_t sizes[2];
  kernels->sizes(p, sizes);
  const Memory shared(sizes[0] * number);
  kernels->pack(p, shared.get());
  share(message_threads(p), p->targets, MESSAGE_NODES, sizes[1] * number,
        [&](int64_t first, int64_t last, void *scratch) {
          kernels->backward(p, first, last, shared.get(), scratch);
        });
}

}  // namespace

static Status check(const Message *p) {
  if (!rises(p->rowptr, p->targets, p->edges)) return BAD_ROWPTR;
  if (!within(p->edge, p->edges, p->edges)) return BAD_EDGE;
  if (!within(p->source, p->edges, p->sources)) return BAD_SOURCE;
  if (!within(p->row, p->edges, p->rows)) return BAD_ROW;
  if (!within(p->pair, p->rows, p->edges)) return BAD_PAIR;
  return DONE;
}

static Status check(const Mixing *) { return DONE; }
static Status check(const Dense *) { return DONE; }

extern "C" {

EXPORT int32_t cormorant_painn_forward(const Message *p) {
  return guarded(p, [&] {
    share(message_threads(p), p->targets, MESSAGE_NODES, 0,
          [&](int64_t first, int64_t last, void *) {
            painn_kernels()->forward(p, first, last);
          });
  });
}

EXPORT int32_t cormorant_painn_backward(const Message *p) {
  return guarded(p, [&] { run_backward(p); });
}

EXPORT int32_t cormorant_painn_mixing(const Mixing *p) {
  return guarded(p, [&] {
    share(useful(p->threads, p->nodes * p->channels * 8), p->nodes, 64, 0,
          [&](int64_t first, int64_t last, void *) {
            painn_kernels()->mixing(p, first, last);
          });
  });
}

EXPORT int32_t cormorant_dense(const Dense *p) {
  return guarded(p, [&] {
    share(useful(p->threads, p->rows * p->steps * p->cols / 16), p->rows, 64, 0,
          [&](int64_t first, int64_t last, void *) {
            painn_kernels()->dense(p, first, last);
          });
  });
}
}
