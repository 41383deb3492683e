// How pairs are shared among threads; part of dispatch.cpp.
//
// Sums over pairs are sums over blocks of them, then over the blocks in order: how many
// there are depends on the number of pairs alone.
#pragma once

struct PairBlocks {
  int64_t count, pairs;
};

PairBlocks pair_blocks(int64_t pairs) {
  const int64_t most = 32, least = 512;
  const int64_t count = std::clamp<int64_t>(pairs / least, 1, most);
  const int64_t each = std::max<int64_t>((pairs / count + 64) / 64 * 64, 64);
  return {std::max<int64_t>((pairs + each - 1) / each, 1), each};
}

void run_edge(const Edge *p) {
  const int64_t bytes = p->is_double ? 8 : 4;
  const PairBlocks blocks = pair_blocks(p->pairs);
  const int64_t nodes = std::max(p->targets, p->sources);
  const int64_t work = p->pairs * p->channels * p->channels * p->degrees;
  const int threads = (int)std::min<int64_t>(useful(p->threads, work), blocks.count);
  const bool kept = threads > 1 && p->order && (p->target.gradient || p->source.gradient);
  const int64_t room = kept ? threads * blocks.pairs : 0;
  int64_t sizes[4];  // numbers: shared, sums, scratch, rows kept
  chosen->edge_sizes(p, room, sizes);
  for (int64_t &size : sizes) size *= bytes;
  const Memory shared(sizes[0]), sums(sizes[1] * blocks.count), later(sizes[3]);
  chosen->edge_weights(p, shared.get());
  if (p->order) memset(sums.get(), 0, (size_t)(sizes[1] * blocks.count));
  share(useful(p->threads, nodes * p->channels * p->dot_degrees), nodes, 64, 0,
        [&](int64_t first, int64_t last, void *) {
          chosen->edge_nodes(p, first, last, shared.get());
        });
  const Memory scratch(sizes[2] * threads);
  std::vector<std::atomic<int64_t>> next((size_t)((blocks.count - 1) / threads + 1));
  for (size_t k = 0; k < next.size(); k++) next[k] = (int64_t)k * threads;
  Barrier barrier(threads);
  in_threads(threads, [&](int t) {
    void *own = (char *)scratch.get() + t * sizes[2];
    for (size_t k = 0; k < next.size(); k++) {
      const int64_t first = (int64_t)k * threads, base = first * blocks.pairs;
      const int64_t last = std::min(first + threads, blocks.count);
      for (;;) {
        const int64_t block = next[k].fetch_add(1);
        if (block >= last) break;
        chosen->edge_run(p, block * blocks.pairs,
                         std::min((block + 1) * blocks.pairs, p->pairs), shared.get(),
                         (char *)sums.get() + block * sizes[1],
                         kept ? later.get() : nullptr, base, room, own);
      }
      if (!kept) continue;
      barrier.wait();
      chosen->edge_collect(p, base, std::min(last * blocks.pairs, p->pairs),
                           shared.get(), later.get(), room, t, threads);
      barrier.wait();
    }
  });
  if (!p->order) return;
  share(useful(p->threads, nodes * p->channels * p->dot_degrees), nodes, 64, 0,
        [&](int64_t first, int64_t last, void *) {
          chosen->edge_finish(p, first, last, shared.get());
        });
  chosen->edge_sums(p, sums.get(), blocks.count);
}

void run_frames(const Frames *p) {
  const bool pulls = p->order && p->grad_length;
  const Memory lengths(pulls ? p->edges * (p->is_double ? 8 : 4) : 0);
  if (pulls) chosen->frames_spread(p, lengths.get());
  if (p->order != 1) chosen->frames_lengths(p);
  const int64_t work = p->edges * (p->lmax + 1) * (p->lmax + 1) * 4;
  share(useful(p->threads, work), p->edges, 64, 0,
        [&](int64_t first, int64_t last, void *) {
          chosen->frames_run(p, first, last, pulls ? lengths.get() : nullptr);
        });
}
