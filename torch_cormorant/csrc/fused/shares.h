// How nodes are shared among threads; part of dispatch.cpp.
//
// Gradients of weights are summed over blocks of nodes, then over the blocks in order:
// how many there are depends on the number of nodes alone.
#pragma once

struct Blocks {
  int64_t count, nodes;
};

Blocks blocks_of(int64_t nodes) {
  const int64_t most = 16, least = 64;  // blocks; nodes that are worth sums of their own
  const int64_t count = std::clamp<int64_t>(nodes / least, 1, most);
  const int64_t each = ((nodes + count - 1) / count + 7) / 8 * 8;
  return {std::max<int64_t>((nodes + each - 1) / each, 1), std::max<int64_t>(each, 1)};
}

void run_vertex(const Vertex *p) {
  int64_t sizes[3];
  const int64_t bytes = p->is_double ? 8 : 4;
  chosen->vertex_sizes(p, sizes);
  const Memory packed(sizes[0] * bytes);
  chosen->vertex_pack(p, packed.get());
  const Blocks blocks = p->dweights ? blocks_of(p->nodes) : Blocks{0, 64};
  const int64_t one = sizes[1] * bytes;
  const Memory sums(blocks.count * one);
  const int64_t work = p->nodes * p->channels * p->outs * (p->lmax + 1) * (p->lmax + 1);
  share(useful(p->threads, 4 * work), p->nodes, blocks.nodes, sizes[2] * bytes,
        [&](int64_t first, int64_t last, void *scratch) {
          char *own = (char *)sums.get() + (blocks.count ? first / blocks.nodes : 0) * one;
          if (blocks.count) memset(own, 0, (size_t)one);
          chosen->vertex_run(p, first, last, packed.get(), own, scratch);
        });
  if (!blocks.count) return;
  if (!p->nodes) memset(sums.get(), 0, (size_t)one);
  chosen->vertex_unpack(p, sums.get(), blocks.count);
}

void run_norm(const Norm *p) {
  const int64_t one = (p->lmax + 1) * p->channels * (p->is_double ? 8 : 4);
  const Blocks blocks = p->dweight ? blocks_of(p->nodes) : Blocks{0, 64};
  const Memory sums(blocks.count * one);
  const int64_t work = p->nodes * p->channels * (p->lmax + 1) * (p->lmax + 1);
  share(useful(p->threads, work), p->nodes, blocks.nodes, 0,
        [&](int64_t first, int64_t last, void *) {
          char *own = (char *)sums.get() + (blocks.count ? first / blocks.nodes : 0) * one;
          if (blocks.count) memset(own, 0, (size_t)one);
          chosen->norm_run(p, first, last, own);
        });
  if (!blocks.count) return;
  if (!p->nodes) memset(sums.get(), 0, (size_t)one);
  chosen->norm_collect(p, sums.get(), blocks.count);
}
