// A model file as Python writes it (interfaces/native_block.py), little endian: a header
// of whole numbers (int64), then float64 numbers in a fixed order. Entry 30 of the header
// is the CRC-32 of everything else. Every index is checked here.
#pragma once
#include <cmath>
#include <cstring>
#include <vector>

#include "fault.h"
#include "plan.h"

namespace {

constexpr int64_t MAGIC = 0x32564E4D43;  // "CMNV2"
constexpr int MAX_SPECIES = 128, MAX_CHANNELS = 1024, MAX_RADIALS = 256,
              MAX_HIDDEN = 4096, MAX_PATHS = 64;

struct CgTerm {  // degree and component of the result, which path; what is multiplied
  int32_t degree, component, path, a, b;
  double value;
};

struct LevelParameters {
  std::vector<double> mean;           // [degree]
  std::vector<double> pair_constant;  // level 0: [species][species][P][C]
  std::vector<double> dots[MAX_LMAX + 1], state[MAX_LMAX + 1];  // [in][P][C]
  std::vector<double> radial;         // [function][degree][P][C]
  std::vector<double> radius, width;  // [C]
  std::vector<double> vertex[MAX_LMAX + 1];
  std::vector<double> atom_constant;  // level 0: [species][P][C]
  std::vector<double> gate, gate_bias;
};

struct Parameters {
  int32_t lmax, planes, even, channels, levels, species, radial_kind, radials, mask,
      envelope, norm, gate, hidden, zbl;
  int32_t sums[MAX_LMAX + 1], squares[MAX_LMAX + 1];
  double cutoff, radial_cutoff, constant, eps;
  int32_t bits;    // precision of the weights
  char unit[17];   // of energies
  std::vector<double> numbers, references, input;
  LevelParameters level[MAX_LEVELS];
  std::vector<double> w1, b1, w2;
  double b2;
  std::vector<double> pair, screening;  // ZBL: [species][species][3], 4 x (share, rate)
  std::vector<CgTerm> sum, square, harmonic;
};

inline uint32_t crc32(const void *data, int64_t bytes, uint32_t value) {
  uint32_t table[256];
  for (uint32_t k = 0; k < 256; k++) {
    table[k] = k;
    for (int bit = 0; bit < 8; bit++)
      table[k] = table[k] >> 1 ^ (table[k] & 1 ? 0xEDB88320u : 0);
  }
  for (int64_t k = 0; k < bytes; k++)
    value = value >> 8 ^ table[(value ^ ((const uint8_t *)data)[k]) & 255];
  return value;
}

class BlockReader {
 public:
  BlockReader(const void *block, int64_t bytes) {
    if (!block || bytes < HEADER * 8)
      fail(CORMORANT_BAD_BLOCK, "no native model: %lld bytes are too short",
           (long long)bytes);
    memcpy(header_, block, sizeof header_);
    if (header_[0] != MAGIC)
      fail(CORMORANT_BAD_BLOCK, "no native model, or one of another version");
    if (header_[1] < 0 || bytes / 8 - HEADER != header_[1] || bytes % 8)
      fail(CORMORANT_BAD_BLOCK, "damaged: %lld bytes, the header says %lld numbers",
           (long long)bytes, (long long)header_[1]);
    check_sum((const char *)block, bytes);
    data_.resize(header_[1]);
    memcpy(data_.data(), (const char *)block + HEADER * 8, header_[1] * 8);
  }
  Parameters read() {
    Parameters p;
    sizes(p);
    const int64_t n = p.species, pc = (int64_t)p.planes * p.channels;
    p.cutoff = positive();
    p.radial_cutoff = positive();
    p.constant = number();
    p.eps = number();
    p.numbers = take(n);
    for (const double number : p.numbers)
      if (whole(number) != number)
        fail(CORMORANT_BAD_BLOCK, "damaged: an atomic number");
    p.references = take(n);
    p.input = take(n * pc);
    for (int s = 0; s < p.levels; s++) level(p, s);
    p.w1 = take(p.levels * (p.lmax + 2) * pc * p.hidden);
    p.b1 = take(p.hidden);
    p.w2 = take(p.hidden);
    p.b2 = number();
    if (p.zbl) {
      p.pair = take(n * n * 3);
      p.screening = take(8);
    }
    const int32_t side = (p.lmax + 1) * (p.lmax + 1);
    p.sum = terms(header_[16], p, p.sums, side, side);
    p.square = terms(header_[17], p, p.squares, side, side);
    int32_t ones[MAX_LMAX + 1];
    for (auto &one : ones) one = 1;
    p.harmonic = terms(header_[18], p, ones, 3, side);
    check_harmonics(p);
    if (at_ != (int64_t)data_.size())
      fail(CORMORANT_BAD_BLOCK, "damaged: numbers are left over");
    return p;
  }

 private:
  static constexpr int HEADER = 40, SUM = 30;
  int64_t header_[HEADER], at_ = 0;
  std::vector<double> data_;

  void check_sum(const char *block, int64_t bytes) const {
    constexpr int at = 8 * SUM;
    const uint32_t first = crc32(block, at, ~0u);
    const uint32_t sum = ~crc32(block + at + 8, bytes - at - 8, first);
    if (header_[SUM] != (int64_t)sum)
      fail(CORMORANT_BAD_BLOCK, "damaged: the checksum does not fit");
  }
  int32_t size(int k, int64_t low, int64_t high) const {
    if (header_[k] < low || header_[k] > high)
      fail(CORMORANT_UNSUPPORTED, "entry %d of the header is %lld, expected %lld to %lld", k,
           (long long)header_[k], (long long)low, (long long)high);
    return (int32_t)header_[k];
  }
  void sizes(Parameters &p) const {
    p.lmax = size(2, 1, MAX_LMAX);
    p.planes = size(3, 1, 2);
    p.even = size(4, 0, 1);
    p.channels = size(5, 1, MAX_CHANNELS);
    p.levels = size(6, 1, MAX_LEVELS);
    p.species = size(7, 1, MAX_SPECIES);
    p.radial_kind = size(8, 0, 1);
    p.radials = size(9, 1, MAX_RADIALS);
    p.mask = size(10, MASK_NONE, MASK_GAUSSIAN);
    p.envelope = size(11, 0, 1);
    p.norm = size(12, 0, 1);
    p.gate = size(13, 0, 1);
    p.hidden = size(14, 1, MAX_HIDDEN);
    p.zbl = size(15, 0, 1);
    p.bits = size(19, 32, 64);
    memcpy(p.unit, header_ + 32, 16);
    p.unit[16] = 0;
    for (int l = 0; l <= MAX_LMAX; l++) {
      p.sums[l] = size(20 + l, 0, MAX_PATHS);
      p.squares[l] = size(25 + l, 0, MAX_PATHS);
    }
  }
  // Every component above degree 1 comes from the degree below.
  static void check_harmonics(const Parameters &p) {
    uint32_t found = 15;
    for (const CgTerm &term : p.harmonic) {
      if (term.degree < 2 || term.b >= 2 * term.degree - 1)
        fail(CORMORANT_BAD_BLOCK, "damaged: harmonics");
      found |= uint32_t(1) << (term.degree * term.degree + term.component);
    }
    if (found != (uint32_t(1) << (p.lmax + 1) * (p.lmax + 1)) - 1)
      fail(CORMORANT_BAD_BLOCK, "damaged: harmonics are missing");
  }
  void level(Parameters &p, int s) {
    LevelParameters &q = p.level[s];
    const int64_t c = p.channels, pc = p.planes * c, n = p.species;
    q.mean = take(p.lmax + 1);
    if (!s) q.pair_constant = take(n * n * pc);
    for (int l = 0; s && l <= p.lmax; l++) {
      q.dots[l] = take((p.lmax + 1) * c * pc);
      q.state[l] = take(c * pc);
    }
    q.radial = take(p.radials * (p.lmax + 1) * pc);
    q.radius = take(c);
    q.width = take(c);
    for (int l = 0; l <= p.lmax; l++)
      q.vertex[l] = take((s ? p.sums[l] + 1 + p.squares[l] : 1) * c * pc);
    if (!s) q.atom_constant = take(n * pc);
    if (p.gate) {
      q.gate = take(pc * (p.lmax + 1) * c);
      q.gate_bias = take((p.lmax + 1) * c);
    }
  }
  std::vector<double> take(int64_t count) {
    if (count > (int64_t)data_.size() - at_)
      fail(CORMORANT_BAD_BLOCK, "damaged: it ends too early");
    const double *from = data_.data() + at_;
    at_ += count;
    for (int64_t k = 0; k < count; k++)
      if (!std::isfinite(from[k]))
        fail(CORMORANT_NOT_FINITE, "a weight is not finite");
    return {from, from + count};
  }
  double number() { return take(1)[0]; }
  static int32_t whole(double value) {  // -1 where it would not fit
    return value >= 0 && value < 1e6 ? (int32_t)value : -1;
  }
  double positive() {
    const double value = number();
    if (!(value > 0)) fail(CORMORANT_BAD_BLOCK, "damaged: a radius");
    return value;
  }
  std::vector<CgTerm> terms(int64_t count, const Parameters &p, const int32_t *paths,
                            int32_t first, int32_t second) {
    if (count < 0 || count > (int64_t)data_.size())
      fail(CORMORANT_BAD_BLOCK, "damaged: a count");
    std::vector<CgTerm> out;
    for (int64_t k = 0; k < count; k++) {
      const std::vector<double> v = take(6);
      const CgTerm term{whole(v[0]), whole(v[1]), whole(v[2]),
                        whole(v[3]), whole(v[4]), v[5]};
      const auto within = [](int32_t x, int32_t limit) { return x >= 0 && x < limit; };
      if (!within(term.degree, p.lmax + 1) || !within(term.component, 2 * term.degree + 1) ||
          !within(term.path, paths[term.degree]) || !within(term.a, first) ||
          !within(term.b, second))
        fail(CORMORANT_BAD_BLOCK, "damaged: a product");
      out.push_back(term);
    }
    return out;
  }
};

}  // namespace
