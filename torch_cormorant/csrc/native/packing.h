// From parameters to the net of one precision and register width: channels are filled up
// with zeros to whole registers, matrices cut into blocks.
#pragma once
#include <algorithm>
#include <memory>

#include "../threads.h"
#include "parameters.h"

namespace {

template <class S> class Packing {
 public:
  Net<S> net{};

  Packing(const Parameters &p, int lanes) : p_(p), W_(lanes), P_(p.planes), U_(P_ * W_) {
    sizes();
    net.input = species(p.input, p.species);
    for (int s = 0; s < p.levels; s++) level(s);
    head();
    products();
  }

 private:
  const Parameters &p_;
  const int W_, P_;
  const int64_t U_;
  std::vector<std::unique_ptr<Memory>> kept_;
  std::vector<Row> sum_, square_, back_;
  std::vector<Term<S>> sum_terms_, square_terms_, back_terms_;

  S *room(int64_t count) {
    kept_.push_back(std::make_unique<Memory>(count * (int64_t)sizeof(S)));
    S *out = (S *)kept_.back()->get();
    std::fill(out, out + count, S(0));
    return out;
  }
  int side() const { return (p_.lmax + 1) * (p_.lmax + 1); }
  int units(int l) const { return p_.sums[l] + 1 + p_.squares[l]; }

  void sizes() {
    const int L = p_.lmax, blocks = (p_.channels + W_ - 1) / W_;
    net.lmax = L;
    net.levels = p_.levels;
    net.blocks = blocks;
    net.species = p_.species;
    net.radials = p_.radials;
    net.radial_row = (2 * p_.radials + 3 + 15) / 16 * 16;
    net.mask = p_.mask;
    net.even = p_.even;
    net.norm = p_.norm;
    net.gate = p_.gate;
    net.feature = (int64_t)blocks * side() * U_;
    net.scalar = (int64_t)(L + 1) * blocks * U_;
    int64_t at = 0;
    for (int l = 0; l <= L; l++) {
      net.units[l] = units(l);
      net.sums[l] = p_.sums[l];
      net.rows_at[l] = at;
      at += (int64_t)units(l) * blocks * ATOMS * (2 * l + 1) * U_;
    }
    net.rows = at;
    net.inputs = (int32_t)(p_.levels * blocks * (L + 2) * U_);
    net.hidden = (p_.hidden + W_ - 1) / W_ * W_;
    net.eps = S(p_.eps);
  }

  // [rows][P][C] to [rows][block][P][W]
  const S *species(const std::vector<double> &from, int64_t rows) {
    const int C = p_.channels;
    S *out = room(rows * net.blocks * U_);
    for (int64_t r = 0; r < rows; r++)
      for (int q = 0; q < P_; q++)
        for (int c = 0; c < C; c++)
          out[((r * net.blocks + c / W_) * P_ + q) * W_ + c % W_] =
              S(from[(r * P_ + q) * C + c]);
    return out;
  }
  const S *channels(const std::vector<double> &from, double padding, bool inverse) {
    S *out = room((int64_t)net.blocks * W_);
    std::fill(out, out + net.blocks * W_, S(padding));
    for (int c = 0; c < p_.channels; c++) out[c] = S(inverse ? 1 / from[c] : from[c]);
    return out;
  }
  // Blocks of `rows` C rows [..][P][C] to [block of results][row, block][W][P][W].
  const S *matrix(const std::vector<double> &from, int rows) {
    const int C = p_.channels, B = net.blocks;
    S *out = room((int64_t)B * rows * B * W_ * U_);
    for (int k = 0; k < rows; k++)
      for (int i = 0; i < C; i++)
        for (int q = 0; q < P_; q++)
          for (int o = 0; o < C; o++)
            out[((((int64_t)(o / W_) * rows + k) * B + i / W_) * W_ + i % W_) * U_ +
                q * W_ + o % W_] = S(from[(((int64_t)k * C + i) * P_ + q) * C + o]);
    return out;
  }
  // Its conjugate transpose, from blocks of results to rows first .. first + count of
  // each of `sources` matrices: [row, block][source, block of results][W][P][W].
  const S *adjoint(const std::vector<double> *from, int sources, int first, int count) {
    const int C = p_.channels, B = net.blocks;
    S *out = room((int64_t)count * B * sources * B * W_ * U_);
    for (int n = 0; n < sources; n++)
      for (int k = 0; k < count; k++)
        for (int i = 0; i < C; i++)
          for (int q = 0; q < P_; q++)
            for (int o = 0; o < C; o++) {
              const double value = from[n][(((int64_t)(first + k) * C + i) * P_ + q) * C + o];
              out[((((int64_t)k * B + i / W_) * sources * B + n * B + o / W_) * W_ +
                   o % W_) * U_ + q * W_ + i % W_] = S(q ? -value : value);
            }
    return out;
  }

  void level(int s) {
    const LevelParameters &from = p_.level[s];
    Level<S> &to = net.level[s];
    const int L = p_.lmax;
    for (int l = 0; l <= L; l++) to.mean[l] = S(from.mean[l]);
    if (!s) {
      to.pair_constant = species(from.pair_constant, (int64_t)p_.species * p_.species);
      to.atom_constant = species(from.atom_constant, p_.species);
    }
    for (int l = 0; s && l <= L; l++) {
      to.dots[l] = matrix(from.dots[l], L + 1);
      to.dots_t[l] = adjoint(from.dots, L + 1, l, 1);
      to.state[l] = matrix(from.state[l], 1);
      to.state_t[l] = adjoint(&from.state[l], 1, 0, 1);
    }
    to.radial = species(from.radial, (int64_t)p_.radials * (L + 1));
    const bool gaussian = p_.mask == MASK_GAUSSIAN;
    to.radius = channels(from.radius, 1, false);
    to.width = channels(gaussian ? from.radius : from.width, 1, true);
    for (int l = 0; l <= L; l++) {
      const int rows = s ? units(l) : 1;
      to.vertex[l] = matrix(from.vertex[l], rows);
      to.vertex_t[l] = adjoint(&from.vertex[l], 1, 0, rows);
    }
    if (p_.gate) gate(from, to);
  }
  void gate(const LevelParameters &from, Level<S> &to) {
    const int C = p_.channels, L = p_.lmax, B = net.blocks, outputs = (L + 1) * B * W_;
    const int inputs = B * (int)U_;
    S *w = room((int64_t)inputs * outputs), *t = room((int64_t)inputs * outputs);
    S *bias = room(outputs);
    for (int l = 0; l <= L; l++)
      for (int o = 0; o < C; o++) {
        bias[l * B * W_ + o] = S(from.gate_bias[l * C + o]);
        for (int q = 0; q < P_; q++)
          for (int i = 0; i < C; i++) {
            const int64_t in = (int64_t)(i / W_ * P_ + q) * W_ + i % W_;
            const int64_t out = (int64_t)l * B * W_ + o;
            const S value = S(from.gate[((int64_t)(q * C + i) * (L + 1) + l) * C + o]);
            w[in * outputs + out] = t[out * inputs + in] = value;
          }
      }
    to.gate = w;
    to.gate_t = t;
    to.gate_bias = bias;
  }
  void head() {
    const int C = p_.channels, parts = p_.lmax + 2, H = net.hidden;
    S *w = room((int64_t)net.inputs * H), *t = room((int64_t)net.inputs * H);
    for (int s = 0; s < p_.levels; s++)
      for (int part = 0; part < parts; part++)
        for (int q = 0; q < P_; q++)
          for (int c = 0; c < C; c++)
            for (int h = 0; h < p_.hidden; h++) {
              const int64_t from = (((int64_t)s * parts + part) * P_ + q) * C + c;
              const int64_t to =
                  (((int64_t)s * net.blocks + c / W_) * parts + part) * U_ + q * W_ + c % W_;
              w[to * H + h] = t[(int64_t)h * net.inputs + to] =
                  S(p_.w1[from * p_.hidden + h]);
            }
    net.w1 = w;
    net.w1_t = t;
    S *b1 = room(H), *w2 = room(H);
    std::copy(p_.b1.begin(), p_.b1.end(), b1);
    std::copy(p_.w2.begin(), p_.w2.end(), w2);
    net.b1 = b1;
    net.w2 = w2;
    net.b2 = p_.b2;
  }

  // Where a row of the vertex lies in scratch, of the first atom and block.
  int32_t row_at(const CgTerm &t, int first) const {
    const int l = t.degree;
    return (int32_t)(net.rows_at[l] + ((int64_t)(first + t.path) * net.blocks * ATOMS *
                                           (2 * l + 1) + t.component) * U_);
  }
  static void close(std::vector<Row> &rows, std::vector<Term<S>> &terms, Row row,
                    Term<S> term) {
    if (rows.empty() || rows.back().at != row.at) {
      row.begin = row.end = (int32_t)terms.size();
      rows.push_back(row);
    }
    terms.push_back(term);
    rows.back().end++;
  }
  void products() {
    const auto by_row = [](const CgTerm &x, const CgTerm &y) {
      return std::tie(x.degree, x.path, x.component) <
             std::tie(y.degree, y.path, y.component);
    };
    std::vector<CgTerm> sum = p_.sum, square = p_.square;
    std::stable_sort(sum.begin(), sum.end(), by_row);
    std::stable_sort(square.begin(), square.end(), by_row);
    const auto entry = [&](const CgTerm &t) { return (int32_t)((t.b * side() + t.a) * U_); };
    for (const CgTerm &t : sum)
      close(sum_, sum_terms_, {row_at(t, 0), t.degree, 0, 0}, {entry(t), 0, S(t.value)});
    for (const CgTerm &t : square)
      close(square_, square_terms_, {row_at(t, p_.sums[t.degree] + 1), t.degree, 0, 0},
            {(int32_t)(t.a * U_), (int32_t)(t.b * U_), S(t.value)});
    // every entry of T has a gradient, zero where no product reads it
    std::stable_sort(sum.begin(), sum.end(), [&](const CgTerm &x, const CgTerm &y) {
      return entry(x) < entry(y);
    });
    size_t k = 0;
    for (int32_t q = 0; q < side() * side(); q++) {
      const int32_t at = (int32_t)(q * U_), begin = (int32_t)back_terms_.size();
      for (; k < sum.size() && entry(sum[k]) == at; k++)
        back_terms_.push_back({row_at(sum[k], 0), sum[k].degree, S(sum[k].value)});
      back_.push_back({at, 0, begin, (int32_t)back_terms_.size()});
    }
    net.sum = sum_.data();
    net.square = square_.data();
    net.back = back_.data();
    net.sum_rows = (int32_t)sum_.size();
    net.square_rows = (int32_t)square_.size();
    net.back_rows = (int32_t)back_.size();
    net.sum_terms = sum_terms_.data();
    net.square_terms = square_terms_.data();
    net.back_terms = back_terms_.data();
  }
};

}  // namespace
