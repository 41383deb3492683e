#include "pair_cormorant.h"

#include <cmath>
#include <cstring>
#include <string>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

using namespace LAMMPS_NS;

namespace {

const char *const SYMBOLS[] = {
    "",   "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al",
    "Si", "P",  "S",  "Cl", "Ar", "K",  "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co",
    "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",  "Zr", "Nb",
    "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I",  "Xe", "Cs",
    "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm",
    "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi",
    "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",  "Np", "Pu", "Am", "Cm", "Bk",
    "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg",
    "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"};
constexpr int ELEMENTS = sizeof SYMBOLS / sizeof *SYMBOLS;

int number_of(const std::string &symbol) {
  for (int z = 1; z < ELEMENTS; z++)
    if (symbol == SYMBOLS[z]) return z;
  return 0;
}

struct Unit {
  const char *name;
  double ev;
};
// CODATA 2018
constexpr double JOULE_PER_MOL = 1 / (1.602176634e-19 * 6.02214076e23);
constexpr double HARTREE = 27.211386245988;
const Unit UNITS[] = {{"ev", 1},
                      {"mev", 1e-3},
                      {"kcal/mol", 4184 * JOULE_PER_MOL},
                      {"kj/mol", 1000 * JOULE_PER_MOL},
                      {"hartree", HARTREE},
                      {"ha", HARTREE},
                      {"rydberg", HARTREE / 2},
                      {"ry", HARTREE / 2}};

double in_ev(const std::string &unit) {
  const std::string name = utils::lowercase(unit);
  for (const Unit &known : UNITS)
    if (name == known.name) return known.ev;
  return 0;
}

}  // namespace

PairCormorant::PairCormorant(LAMMPS *lmp) : Pair(lmp) {
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairCormorant::~PairCormorant() {
  if (model_) cormorant_destroy(model_);
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

void PairCormorant::allocate() {
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) setflag[i][j] = 0;
  allocated = 1;
}

void PairCormorant::settings(int narg, char **arg) {
  for (int k = 0; k < narg; k++) {
    const std::string word = arg[k];
    if (word == "float32" || word == "float64") {
      bits_ = word == "float32" ? 32 : 64;
    } else if (word == "threads" && k + 1 < narg) {
      threads_ = utils::inumeric(FLERR, arg[++k], false, lmp);
    } else if (word == "max_force" && k + 1 < narg) {
      max_force_ = utils::numeric(FLERR, arg[++k], false, lmp);
    } else {
      error->all(FLERR,
                 "pair_style cormorant does not know {}; it takes float32, float64, "
                 "threads N and max_force F (eV/Angstrom)",
                 word);
    }
  }
  if (threads_ < 1 || !(max_force_ > 0))
    error->all(FLERR, "pair_style cormorant: threads and max_force must be positive");
}

void PairCormorant::coeff(int narg, char **arg) {
  const int types = atom->ntypes;
  if (narg != 3 + types || std::string(arg[0]) != "*" || std::string(arg[1]) != "*")
    error->all(FLERR,
               "pair_coeff of cormorant needs * * FILE and an element for each of the {} "
               "atom types, such as: pair_coeff * * model.cormorant H O",
               types);
  if (!allocated) allocate();
  load(arg[2]);
  check_elements(arg + 3);
  for (int i = 1; i <= types; i++)
    for (int j = i; j <= types; j++) setflag[i][j] = 1;
}

void PairCormorant::load(const char *path) {
  if (model_) cormorant_destroy(model_);
  model_ = nullptr;
  int status = cormorant_load(path, bits_, &model_), worst = 0;
  MPI_Allreduce(&status, &worst, 1, MPI_INT, MPI_MAX, world);
  const char *const hint = "; files are written by: cormorant native MODEL OUTPUT";
  if (worst)
    error->all(FLERR, "pair_style cormorant: {}: {}{}", path,
               status ? cormorant_error() : "another process could not read it",
               status == CORMORANT_BAD_BLOCK ? hint : "");
}

void PairCormorant::check_elements(char **names) {
  std::vector<int32_t> known(cormorant_elements(model_, nullptr, 0));
  cormorant_elements(model_, known.data(), (int32_t)known.size());
  std::string list;
  for (const int32_t z : known)
    if (z < ELEMENTS) list += std::string(list.empty() ? "" : " ") + SYMBOLS[z];
  element_.assign(atom->ntypes + 1, 0);
  for (int type = 1; type <= atom->ntypes; type++) {
    const std::string name = names[type - 1];
    const int z = number_of(name);
    bool found = false;
    for (const int32_t other : known) found |= z && other == z;
    if (!found)
      error->all(FLERR,
                 "pair_coeff of cormorant: the model does not know {} of atom type {}; it "
                 "knows {}",
                 name, type, list);
    element_[type] = z;
  }
}

double PairCormorant::unit_factor() const {
  const std::string style = update->unit_style, unit = cormorant_unit(model_);
  if (style != "metal" && style != "real")
    error->all(FLERR, "pair_style cormorant needs units metal or real, not {}", style);
  const double ev = in_ev(unit);
  if (ev == 0)
    error->all(FLERR, "pair_style cormorant does not know the model's unit of energy: '{}'",
               unit);
  return ev / in_ev(style == "metal" ? "eV" : "kcal/mol");
}

void PairCormorant::init_style() {
  factor_ = unit_factor();
  // rows of one length, whatever processors the processes run on
  int64_t bytes[2] = {cormorant_row_bytes(model_), -cormorant_row_bytes(model_)}, most[2];
  MPI_Allreduce(bytes, most, 2, MPI_INT64_T, MPI_MAX, world);
  if (most[0] != -most[1])
    error->all(FLERR, "pair_style cormorant: the processes run on different processors, "
                      "whose instruction sets differ; use machines of one kind");
  const int row = (int)(bytes[0] / (int64_t)sizeof(double));
  comm_forward = row;
  comm_reverse = comm_reverse_off = row < FORCES ? FORCES : row;
  // hybrid asked for the sizes before there was a model
  Pair *const whole = force->pair;
  whole->comm_forward = MAX(whole->comm_forward, comm_forward);
  whole->comm_reverse = MAX(whole->comm_reverse, comm_reverse);
  whole->comm_reverse_off = MAX(whole->comm_reverse_off, comm_reverse_off);
  cormorant_set_skin(model_, neighbor->skin);
}

double PairCormorant::init_one(int, int) { return cormorant_cutoff(model_); }

// Atoms may move by half of the skin until ghosts are exchanged again.
void PairCormorant::check_exchange() {
  const int n = 3 * atom->nlocal;
  const double *x = atom->nlocal ? atom->x[0] : nullptr;
  if (neighbor->ago == 0 || (int)exchanged_.size() != n) {
    exchanged_.assign(x, x + n);
    return;
  }
  const double most = 0.25 * neighbor->skin * neighbor->skin * (1 + 1e-6);
  for (int i = 0; i < n; i += 3) {
    double square = 0;
    for (int a = 0; a < 3; a++)
      square += (x[i + a] - exchanged_[i + a]) * (x[i + a] - exchanged_[i + a]);
    if (square > most)
      error->one(FLERR,
                 "pair_style cormorant: atom {} moved by more than half of the skin since "
                 "ghosts were exchanged: neigh_modify every 1 delay 0 check yes",
                 atom->tag[i / 3]);
  }
}

void PairCormorant::communicate(void *rows, const int32_t *place, int64_t bytes,
                                bool forward) {
  rows_ = (char *)rows;
  place_ = place;
  bytes_ = bytes;
  if (forward)
    comm->forward_comm(this, comm_forward);
  else
    comm->reverse_comm(this, comm_forward);
  rows_ = nullptr;
}

void PairCormorant::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  check_exchange();
  const int own = atom->nlocal, all = own + atom->nghost;
  numbers_.resize(all);
  for (int i = 0; i < all; i++) numbers_[i] = element_[atom->type[i]];
  forces_.resize(3 * all);
  double energy = 0, strain[9] = {};
  cormorant_results results = {};
  results.energy = &energy;
  results.forces = forces_.data();
  if (vflag_global) results.strain = strain;
  if (eflag_atom) {
    energies_.resize(all);
    results.energies = energies_.data();
  }
  if (vflag_atom) {
    strains_.resize(6 * all);
    results.strains = strains_.data();
  }
  cormorant_exchange exchange = {};
  exchange.context = this;
  exchange.total = atom->natoms;
  names_.assign(atom->tag, atom->tag + all);
  exchange.names = names_.data();
  exchange.forward = [](void *self, void *rows, const int32_t *place, int64_t bytes) {
    ((PairCormorant *)self)->communicate(rows, place, bytes, true);
  };
  exchange.reverse = [](void *self, void *rows, const int32_t *place, int64_t bytes) {
    ((PairCormorant *)self)->communicate(rows, place, bytes, false);
  };
  const int status =
      cormorant_evaluate_domain(model_, all, own, numbers_.data(), all ? atom->x[0] : nullptr,
                                &exchange, threads_, &results);
  if (status)
    error->one(FLERR,
               "pair_style cormorant, step {}: {}", update->ntimestep, cormorant_error());
  add_results(strain, energy);
}

void PairCormorant::add_results(const double *strain, double energy) {
  const int own = atom->nlocal, all = own + atom->nghost;
  if (!force->newton_pair) comm->reverse_comm(this, FORCES);
  check_forces();
  const int last = force->newton_pair ? all : own;
  for (int i = 0; i < last; i++)
    for (int a = 0; a < 3; a++) atom->f[i][a] += factor_ * forces_[3 * i + a];
  if (eflag_global) eng_vdwl += factor_ * energy;
  if (eflag_atom)
    for (int i = 0; i < own; i++) eatom[i] += factor_ * energies_[i];
  const int place[6] = {0, 4, 8, 1, 2, 5};
  for (int k = 0; k < 6 && vflag_global; k++) virial[k] -= factor_ * strain[place[k]];
  for (int i = 0; i < last && vflag_atom; i++)
    for (int k = 0; k < 6; k++) vatom[i][k] -= factor_ * strains_[6 * i + k];
}

// Of own atoms, without what other processes add to them: enough to see a run explode.
void PairCormorant::check_forces() {
  const double most = max_force_ / in_ev(cormorant_unit(model_));
  for (int i = 0; i < atom->nlocal; i++) {
    const double *f = &forces_[3 * i];
    const double size = std::sqrt(f[0] * f[0] + f[1] * f[1] + f[2] * f[2]);
    if (size > most)
      error->one(FLERR,
                 "pair_style cormorant, step {}: the force on atom {} is {:.3g} "
                 "eV/Angstrom, more than max_force = {:g}",
                 update->ntimestep, atom->tag[i], size * in_ev(cormorant_unit(model_)),
                 max_force_);
  }
}

double PairCormorant::memory_usage() {
  return Pair::memory_usage() +
         8.0 * (double)(forces_.size() + energies_.size() + strains_.size());
}

// ---------------------------------------------------------------- communication

int PairCormorant::pack_forward_comm(int n, int *list, double *buf, int, int *) {
  for (int k = 0; k < n; k++)
    memcpy(buf + (int64_t)k * comm_forward, row(list[k]), bytes_);
  return n * comm_forward;
}

void PairCormorant::unpack_forward_comm(int n, int first, double *buf) {
  for (int k = 0; k < n; k++)
    memcpy(row(first + k), buf + (int64_t)k * comm_forward, bytes_);
}

int PairCormorant::pack_reverse_comm(int n, int first, double *buf) {
  if (rows_) {
    for (int k = 0; k < n; k++)
      memcpy(buf + (int64_t)k * comm_forward, row(first + k), bytes_);
    return n * comm_forward;
  }
  for (int k = 0; k < n; k++) {
    double *to = buf + FORCES * k;
    memcpy(to, &forces_[3 * (first + k)], 3 * sizeof(double));
    if (vflag_atom) memcpy(to + 3, &strains_[6 * (first + k)], 6 * sizeof(double));
  }
  return n * FORCES;
}

void PairCormorant::unpack_reverse_comm(int n, int *list, double *buf) {
  if (!rows_) {
    for (int k = 0; k < n; k++) {
      const double *from = buf + FORCES * k;
      for (int a = 0; a < 3; a++) forces_[3 * list[k] + a] += from[a];
      for (int a = 0; a < 6 && vflag_atom; a++) strains_[6 * list[k] + a] += from[3 + a];
    }
    return;
  }
  const bool single = cormorant_bits(model_) == 32;
  for (int k = 0; k < n; k++) {
    const double *from = buf + (int64_t)k * comm_forward;
    if (single) {
      float *to = (float *)row(list[k]);
      for (int64_t c = 0; c < bytes_ / 4; c++) to[c] += ((const float *)from)[c];
    } else {
      double *to = row(list[k]);
      for (int64_t c = 0; c < bytes_ / 8; c++) to[c] += from[c];
    }
  }
}
