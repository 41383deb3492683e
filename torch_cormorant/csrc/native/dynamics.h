// Molecular dynamics without leaving the library: velocity Verlet, or Langevin by BAOAB
// (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34).
#pragma once
#include <cmath>
#include <functional>
#include <vector>

#include "fault.h"

namespace {

// Random numbers by xoshiro256++ (Blackman and Vigna), normal ones by Box and Muller.
class Random {
 public:
  explicit Random(uint64_t *state) : state_(state) {}
  // Numbers for a step; a second one that is left over is not kept.
  void normal(std::vector<double> &out) {
    for (size_t k = 0; k < out.size(); k += 2) {
      const double size = std::sqrt(-2 * std::log(uniform())), turn = 2 * M_PI * uniform();
      out[k] = size * std::cos(turn);
      if (k + 1 < out.size()) out[k + 1] = size * std::sin(turn);
    }
  }

 private:
  uint64_t *const state_;

  static uint64_t turned(uint64_t x, int k) { return x << k | x >> (64 - k); }
  double uniform() {  // above 0, at most 1
    uint64_t *s = state_;
    const uint64_t found = turned(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = turned(s[3], 45);
    return (double)((found >> 11) + 1) * 0x1p-53;
  }
};

// `forces` writes energy and forces for the positions of the run.
class Dynamics {
 public:
  Dynamics(cormorant_dynamics &run, const std::function<void()> &forces)
      : run_(run), forces_(forces), random_(run.random), noise_(3 * run.atoms) {
    keep_ = std::exp(-run.friction * run.timestep);
    add_ = std::sqrt((1 - keep_ * keep_) * run.temperature);
  }
  void go(int64_t steps) {
    if (!run_.fresh) forces_();
    run_.fresh = 1;
    for (; run_.done < steps; run_.done++) {
      const std::vector<double> before = state();
      try {
        step();
        check();
      } catch (...) {
        restore(before);
        throw;
      }
    }
  }

 private:
  cormorant_dynamics &run_;
  const std::function<void()> &forces_;
  Random random_;
  std::vector<double> noise_;
  double keep_, add_;

  std::vector<double> state() const {
    const int64_t n = 3 * run_.atoms;
    std::vector<double> out(run_.positions, run_.positions + n);
    out.insert(out.end(), run_.velocities, run_.velocities + n);
    out.insert(out.end(), run_.forces, run_.forces + n);
    out.push_back(run_.energy);
    return out;
  }
  void restore(const std::vector<double> &from) {
    const int64_t n = 3 * run_.atoms;
    std::copy_n(from.data(), n, run_.positions);
    std::copy_n(from.data() + n, n, run_.velocities);
    std::copy_n(from.data() + 2 * n, n, run_.forces);
    run_.energy = from.back();
  }
  void step() {
    kick();
    if (run_.friction > 0) {
      drift(0.5 * run_.timestep);
      random_.normal(noise_);
      for (int64_t k = 0; k < 3 * run_.atoms; k++)
        run_.velocities[k] = keep_ * run_.velocities[k] +
                             add_ * std::sqrt(run_.inverse_masses[k / 3]) * noise_[k];
      drift(0.5 * run_.timestep);
    } else {
      drift(run_.timestep);
    }
    forces_();
    kick();
  }
  void kick() {
    for (int64_t k = 0; k < 3 * run_.atoms; k++)
      run_.velocities[k] +=
          0.5 * run_.timestep * run_.inverse_masses[k / 3] * run_.forces[k];
  }
  void drift(double time) {
    for (int64_t k = 0; k < 3 * run_.atoms; k++)
      run_.positions[k] += time * run_.velocities[k];
  }
  void check() const {
    const double most = run_.max_force * run_.max_force;
    for (int64_t i = 0; i < run_.atoms; i++) {
      const double *f = run_.forces + 3 * i;
      const double square = f[0] * f[0] + f[1] * f[1] + f[2] * f[2];
      if (!(square <= most))
        fail(CORMORANT_BLOWN_UP, "the force on atom %lld is %.3g, more than %.3g",
             (long long)i, std::sqrt(square), run_.max_force);
    }
  }
};

}  // namespace
