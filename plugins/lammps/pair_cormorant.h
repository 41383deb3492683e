// pair_style cormorant: a Cormorant potential from its native model file.
//
//   pair_style cormorant [float32 | float64] [threads N] [max_force F]
//   pair_coeff * * model.cormorant H C O
//
// Ghosts reach one cutoff. Between the levels of the network, features of ghosts come
// from their owners by LAMMPS's forward communication and gradients return by its reverse
// one, so that every process computes its own atoms only.
#pragma once
#include <cstdint>
#include <vector>

#include "cormorant.h"
#include "pair.h"

namespace LAMMPS_NS {

class PairCormorant : public Pair {
 public:
  explicit PairCormorant(class LAMMPS *);
  ~PairCormorant() override;
  PairCormorant(const PairCormorant &) = delete;
  PairCormorant &operator=(const PairCormorant &) = delete;

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  double memory_usage() override;

  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

 private:
  cormorant_model *model_ = nullptr;
  int bits_ = 0, threads_ = 1;
  double max_force_ = 200, factor_ = 1;   // eV/Angstrom; from the model's unit to LAMMPS's
  std::vector<int32_t> element_;          // atomic number of every atom type
  std::vector<int32_t> numbers_, names_;
  std::vector<double> forces_, energies_, strains_, exchanged_;

  // what is being communicated: rows of the network, or forces and virials of ghosts
  char *rows_ = nullptr;
  const int32_t *place_ = nullptr;
  int64_t bytes_ = 0;
  static constexpr int FORCES = 9;

  void allocate();
  void load(const char *);
  void check_elements(char **);
  double unit_factor() const;
  void check_exchange();
  void check_forces();
  void add_results(const double *, double);
  void communicate(void *, const int32_t *, int64_t, bool);
  double *row(int atom) const { return (double *)(rows_ + place_[atom] * bytes_); }
};

}  // namespace LAMMPS_NS
