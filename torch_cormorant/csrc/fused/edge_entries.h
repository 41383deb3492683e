// What one instruction set offers for edges and pairs; part of kernels.cpp.
#pragma once

template <class S> void sizes_of(const Edge *p, int64_t room, int64_t *sizes) {
  sizes[0] = EdgeShared<S>(p, nullptr).used;
  sizes[1] = EdgeSums<S>(p, nullptr).used;
  sizes[2] = EdgeTile<S>(p, nullptr).used;
  sizes[3] = EdgeKept<S>(p, nullptr, room, 0).used;
}

void edge_count(const Edge *p, int64_t room, int64_t *sizes) {
  p->is_double ? sizes_of<double>(p, room, sizes) : sizes_of<float>(p, room, sizes);
}

template <class S, bool CX> void weights_of(const Edge *p, void *shared) {
  edge_weights<S, CX>(p, EdgeShared<S>(p, (S *)shared));
}

void edge_packed(const Edge *p, void *shared) { PICK(p, weights_of, p, shared); }

template <class S, bool CX>
void nodes_of(const Edge *p, int64_t first, int64_t last, void *shared) {
  edge_nodes<S, CX>(p, EdgeShared<S>(p, (S *)shared), first, last);
}

void edge_planes(const Edge *p, int64_t first, int64_t last, void *shared) {
  PICK(p, nodes_of, p, first, last, shared);
}

template <class S, bool CX>
void pairs_of(const Edge *p, int64_t first, int64_t last, void *shared, void *sums,
              void *later, int64_t base, int64_t room, void *scratch) {
  edge_run<S, CX>(p, first, last, (S *)shared, (S *)sums, (S *)later, base, room,
                  (S *)scratch);
}

void edge_pairs(const Edge *p, int64_t first, int64_t last, void *shared, void *sums,
                void *later, int64_t base, int64_t room, void *scratch) {
  PICK(p, pairs_of, p, first, last, shared, sums, later, base, room, scratch);
}

template <class S, bool CX>
void collect_of(const Edge *p, int64_t first, int64_t last, void *shared, void *later,
                int64_t room, int32_t owner, int32_t owners) {
  edge_collect<S, CX>(p, first, last, (S *)shared, (S *)later, room, owner, owners);
}

void edge_collected(const Edge *p, int64_t first, int64_t last, void *shared,
                    void *later, int64_t room, int32_t owner, int32_t owners) {
  PICK(p, collect_of, p, first, last, shared, later, room, owner, owners);
}

template <class S, bool CX>
void finish_of(const Edge *p, int64_t first, int64_t last, void *shared) {
  edge_finish_nodes<S, CX>(p, EdgeShared<S>(p, (S *)shared), first, last);
}

void edge_finished(const Edge *p, int64_t first, int64_t last, void *shared) {
  PICK(p, finish_of, p, first, last, shared);
}

template <class S, bool CX> void sums_of(const Edge *p, void *sums, int64_t blocks) {
  edge_finish_sums<S, CX>(p, (S *)sums, blocks);
}

void edge_summed(const Edge *p, void *sums, int64_t blocks) {
  PICK(p, sums_of, p, sums, blocks);
}

void frames_edges(const Frames *p, int64_t first, int64_t last, const void *lengths) {
  p->is_double ? frames_run(p, first, last, (const double *)lengths)
               : frames_run(p, first, last, (const float *)lengths);
}

void frames_pairs(const Frames *p) {
  p->is_double ? frames_lengths<double>(p) : frames_lengths<float>(p);
}

void frames_gradients(const Frames *p, void *lengths) {
  p->is_double ? frames_spread(p, (double *)lengths) : frames_spread(p, (float *)lengths);
}

template <class S> void radial_of(const RadialRows *p) {
  p->kind == RADIAL_POWER_TRIG ? wave_rows<S>(p) : fixed_rows<S>(p);
}

void radial_rows(const RadialRows *p) {
  p->is_double ? radial_of<double>(p) : radial_of<float>(p);
}
