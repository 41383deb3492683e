/* Energies, forces and strain derivatives of a potential, without Python or torch.
 *
 * Lengths are in Angstrom, energies in the unit of the model. Nothing here aborts or
 * throws: every function answers 0 (CORMORANT_DONE) or a code, and cormorant_error() then
 * has the reason in words. A model may be used by several threads at once.
 *
 * Results do not depend on the number of threads, to the last bit.
 */
#ifndef CORMORANT_H
#define CORMORANT_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum cormorant_status {
  CORMORANT_DONE = 0,
  CORMORANT_BAD_BLOCK,     /* no model file, a damaged one or one of another version */
  CORMORANT_UNSUPPORTED,   /* its sizes were not compiled in */
  CORMORANT_BAD_ARGUMENT,  /* a pointer is NULL or a count negative */
  CORMORANT_UNKNOWN_SPECIES,
  CORMORANT_NOT_FINITE,    /* a position or cell vector, or a result */
  CORMORANT_COINCIDENT,    /* two atoms at one place */
  CORMORANT_BAD_CELL,      /* periodic vectors that are zero, dependent or too short */
  CORMORANT_BAD_PAIR,      /* a pair with an atom that does not exist */
  CORMORANT_NO_MEMORY,
  CORMORANT_NO_THREADS,
  CORMORANT_NO_FILE,       /* it cannot be read */
  CORMORANT_BLOWN_UP       /* a run: a force is too large */
};

typedef struct cormorant_model cormorant_model;

/* Version of this interface and of the model file. */
int32_t cormorant_native_abi(void);

/* Make a model from a model file, as NativePotential.save writes it.
 *
 * bits: 32 or 64, the precision of the arithmetic, 0 for that of the weights (positions
 * and results are always double). */
int32_t cormorant_load(const char *path, int32_t bits, cormorant_model **model);

/* The same from the bytes of a file, which may be freed afterwards. */
int32_t cormorant_create(const void *file, int64_t bytes, int32_t bits,
                         cormorant_model **model);

void cormorant_destroy(cormorant_model *model);

/* Cutoff of the graph, and how far the energy of an atom looks: levels times cutoff. */
double cormorant_cutoff(const cormorant_model *model);
double cormorant_reach(const cormorant_model *model);

/* Unit of energies, such as "eV" or "kcal/mol"; empty where nobody said it. */
const char *cormorant_unit(const cormorant_model *model);

/* Precision of the arithmetic, 32 or 64. */
int32_t cormorant_bits(const cormorant_model *model);

/* How many elements the model knows; the first `room` of them are written. */
int32_t cormorant_elements(const cormorant_model *model, int32_t *numbers, int32_t room);

/* Search for pairs this much (Angstrom) farther out, and anew only when an atom has moved
 * by half of it or the cell has changed; results change by rounding. 0, at the start: in
 * every call. Not while a call is under way. */
void cormorant_set_skin(cormorant_model *model, double skin);

/* What is asked for; results that are NULL are left out. */
typedef struct cormorant_results {
  double *energy;   /* [1] */
  double *energies; /* [atoms]: shares of the atoms, which add up to the energy */
  double *forces;   /* [atoms][3]: minus the gradient */
  double *strain;   /* [3][3]: derivative by a strain, symmetric; the virial is minus it */
  double *strains;  /* [atoms][6]: shares of the atoms, xx yy zz xy xz yz */
  int64_t pairs;    /* written: undirected pairs within the cutoff */
} cormorant_results;

/* numbers [atoms], positions [atoms][3]; cell [3][3] with vectors in rows, or NULL;
 * periodic [3]: which of them repeat, NULL for all three of a cell. */
int32_t cormorant_evaluate(cormorant_model *model, int64_t atoms, const int32_t *numbers,
                           const double *positions, const double *cell,
                           const int32_t *periodic, int32_t threads,
                           cormorant_results *results);

/* The same on undirected pairs from elsewhere, each once: vectors [pairs][3] are
 * position(first) - position(second), images counted. Only the first `local` atoms have
 * an energy; the others are ghosts, whose forces belong to what they are images of.
 * Ghosts are needed out to the reach, pairs out to the cutoff; longer ones are left out. */
int32_t cormorant_evaluate_pairs(cormorant_model *model, int64_t atoms, int64_t local,
                                 const int32_t *numbers, int64_t pairs,
                                 const int32_t *first, const int32_t *second,
                                 const double *vectors, int32_t threads,
                                 cormorant_results *results);

/* One of several processes, or domains, that compute a structure together: the first
 * `local` atoms are its own, the others are images of its own or of those of others, all
 * that lie within the cutoff of an own one. Between the levels `forward` must copy the
 * rows of all own atoms to their images, wherever these are, and `reverse` add the rows
 * of images to those that they are images of. The row of atom i begins at
 * (char *)rows + place[i] * bytes; it holds numbers of cormorant_bits. Both are called
 * levels - 1 times, in every process, by the thread that called. */
typedef struct cormorant_exchange {
  void *context;
  void (*forward)(void *context, void *rows, const int32_t *place, int64_t bytes);
  void (*reverse)(void *context, void *rows, const int32_t *place, int64_t bytes);
  int64_t total; /* atoms of the whole structure */
  const int32_t *names; /* [atoms] what they are called in errors; NULL: 0, 1, ... */
} cormorant_exchange;

/* Energy, energies and strain are those of the own atoms and pairs (each shared between
 * two processes), forces on images belong to what they are images of. */
int32_t cormorant_evaluate_domain(cormorant_model *model, int64_t atoms, int64_t local,
                                  const int32_t *numbers, const double *positions,
                                  const cormorant_exchange *exchange, int32_t threads,
                                  cormorant_results *results);

/* Bytes of a row; all processes must have the same. */
int64_t cormorant_row_bytes(const cormorant_model *model);

/* A run of molecular dynamics. Times are in any unit t; an acceleration in Angstrom / t^2
 * is a force times the inverse mass, so that half a mass times the square of a velocity
 * is an energy of the model's unit. */
typedef struct cormorant_dynamics {
  int64_t atoms;
  const int32_t *numbers;       /* [atoms] */
  const double *inverse_masses; /* [atoms] */
  const double *cell;           /* as in cormorant_evaluate */
  const int32_t *periodic;
  double *positions, *velocities, *forces; /* [atoms][3], changed */
  double energy;                /* written */
  double timestep;              /* t */
  double friction;              /* 1 / t; 0: velocity Verlet, else Langevin (BAOAB) */
  double temperature;           /* of the bath, kT in the model's unit of energy */
  double max_force;             /* a larger one ends the run */
  uint64_t random[4];           /* state of the random numbers, changed; not all zero */
  int32_t fresh;                /* forces and energy are those of the positions */
  int64_t done;                 /* steps that went well, counted on; 0 at the start */
} cormorant_dynamics;

/* Go on until `steps` are done. After a fault everything is as after the last step that
 * went well. */
int32_t cormorant_run(cormorant_model *model, cormorant_dynamics *run, int64_t steps,
                      int32_t threads);

/* What went wrong in the last call of this thread that answered a code. */
const char *cormorant_error(void);

#ifdef __cplusplus
}
#endif
#endif
