// PaiNN's steps and products of matrices. Compiled for each instruction set: VECTOR_BYTES and ISA are given.
#include "message.h"
#include "mixing.h"

namespace {

template <class S> void sizes_of(const Message *p, int64_t *sizes) {
  sizes[0] = p->dhidden ? p->parts * p->channels * padded<S>(p->hidden) : 0;
  sizes[1] = Tile<S>::numbers(p) + p->parts * p->channels;
}

void sizes(const Message *p, int64_t *found) {
  p->is_double ? sizes_of<double>(p, found) : sizes_of<float>(p, found);
}

void pack(const Message *p, void *shared) {
  if (!p->dhidden) return;
  p->is_double ? pack_last(p, (double *)shared) : pack_last(p, (float *)shared);
}

#define PICK(p, F, ...)                                                        \
  ((p)->is_double ? ((p)->parts == 3 ? F<double, true>(__VA_ARGS__)            \
                                     : F<double, false>(__VA_ARGS__))          \
                  : ((p)->parts == 3 ? F<float, true>(__VA_ARGS__)             \
                                     : F<float, false>(__VA_ARGS__)))

void forward(const Message *p, int64_t first, int64_t last) {
  PICK(p, message_forward, p, first, last);
}

void backward(const Message *p, int64_t first, int64_t last, const void *shared,
              void *scratch) {
  PICK(p, message_backward, p, first, last, shared, scratch);
}

void mixing(const Mixing *p, int64_t first, int64_t last) {
  p->is_double ? mixing_steps<double>(p, first, last) : mixing_steps<float>(p, first, last);
}

template <class S> void dense_rows(const Dense *p, int64_t first, int64_t last) {
  const Factor<S> a = {(const S *)p->a + first * p->a_row, nullptr, p->a_row, 1};
  const Rows<S> b = {(S *)p->b, nullptr, p->cols};
  const Rows<S> c = {(S *)p->c + first * p->c_row, nullptr, p->c_row};
  for (int64_t k = 0; p->bias && k < last - first; k++)
    memcpy(c.re + k * c.row, p->bias, sizeof(S) * (size_t)p->cols);
  product<S, false>(last - first, p->steps, p->cols, a, b, c, p->add || p->bias);
}

void dense(const Dense *p, int64_t first, int64_t last) {
  p->is_double ? dense_rows<double>(p, first, last) : dense_rows<float>(p, first, last);
}

const PaiNNKernels table = {sizes, pack, forward, backward, mixing, dense};

}  // namespace

#define NAME_OF(isa) painn_##isa
#define NAME(isa) NAME_OF(isa)
const PaiNNKernels *NAME(ISA)() { return &table; }
