// How nodes are shared among threads; part of dispatch.cpp.
#pragma once

struct NodeBlocks {  // how many, and how many items each has
  int64_t count, nodes;
};

NodeBlocks node_blocks(int64_t nodes) {
  constexpr int64_t most = 16, least = 64;
  const int64_t count = std::clamp<int64_t>(nodes / least, 1, most);
  return {count, std::max<int64_t>(((nodes + count - 1) / count + 7) / 8 * 8, 8)};
}

// Gradients of weights, `bytes` large, are summed over blocks of nodes, then over the
// blocks in order: how many there are depends on the number of nodes alone.
template <class Run, class Collect>
void in_blocks(int threads, int64_t nodes, int64_t bytes, int64_t scratch_bytes,
               const Run &run, const Collect &collect) {
  const NodeBlocks blocks = bytes ? node_blocks(nodes) : NodeBlocks{0, 64};
  const Memory sums(blocks.count * bytes);
  memset(sums.get(), 0, (size_t)(blocks.count * bytes));
  share(threads, nodes, blocks.nodes, scratch_bytes,
        [&](int64_t first, int64_t last, void *scratch) {
          void *own = (char *)sums.get() + first / blocks.nodes * bytes;
          run(first, last, own, scratch);
        });
  if (blocks.count) collect(sums.get(), blocks.count);
}

void run_vertex(const Vertex *p) {
  int64_t sizes[3];
  const int64_t number = p->is_double ? 8 : 4;
  chosen->vertex_sizes(p, sizes);
  const Memory packed(sizes[0] * number);
  chosen->vertex_pack(p, packed.get());
  const int64_t side = (int64_t)(p->lmax + 1) * (p->lmax + 1);
  in_blocks(
      useful(p->threads, 4 * p->nodes * p->channels * p->outs * side), p->nodes,
      p->dweights ? sizes[1] * number : 0, sizes[2] * number,
      [&](int64_t first, int64_t last, void *sums, void *scratch) {
        chosen->vertex_run(p, first, last, packed.get(), sums, scratch);
      },
      [&](void *sums, int64_t count) { chosen->vertex_unpack(p, sums, count); });
}

void run_norm(const Norm *p) {
  const int64_t size = (int64_t)(p->lmax + 1) * p->channels * (p->is_double ? 8 : 4);
  in_blocks(
      useful(p->threads, p->nodes * size * (p->lmax + 1) / 2), p->nodes,
      p->dweight ? size : 0, 0,
      [&](int64_t first, int64_t last, void *sums, void *) {
        chosen->norm_run(p, first, last, sums);
      },
      [&](void *sums, int64_t count) { chosen->norm_collect(p, sums, count); });
}

void run_invariants(const Invariants *p) {
  share(useful(p->threads, p->nodes * p->columns * 4), p->nodes, 64, 0,
        [&](int64_t first, int64_t last, void *) {
          chosen->invariants_run(p, first, last);
        });
}
