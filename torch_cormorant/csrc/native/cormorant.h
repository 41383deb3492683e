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
  CORMORANT_BAD_BLOCK,     /* the block of parameters is damaged or of another version */
  CORMORANT_UNSUPPORTED,   /* its sizes were not compiled in */
  CORMORANT_BAD_ARGUMENT,  /* a pointer is NULL or a count negative */
  CORMORANT_UNKNOWN_SPECIES,
  CORMORANT_NOT_FINITE,    /* a position or cell vector, or a result */
  CORMORANT_COINCIDENT,    /* two atoms at one place */
  CORMORANT_BAD_CELL,      /* periodic vectors that are zero, dependent or too short */
  CORMORANT_BAD_PAIR,      /* a pair with an atom that does not exist */
  CORMORANT_NO_MEMORY,
  CORMORANT_NO_THREADS
};

typedef struct cormorant_model cormorant_model;

/* Version of this interface and of the block of parameters. */
int32_t cormorant_native_abi(void);

/* Make a model from a block of parameters, as torch_cormorant.interfaces.native_block
 * writes it. The block may be freed afterwards.
 *
 * bits: 32 or 64, the precision of the arithmetic (positions and results are always
 * double). */
int32_t cormorant_create(const void *block, int64_t bytes, int32_t bits,
                         cormorant_model **model);

void cormorant_destroy(cormorant_model *model);

/* Cutoff of the graph, and how far the energy of an atom looks: levels times cutoff. */
double cormorant_cutoff(const cormorant_model *model);
double cormorant_reach(const cormorant_model *model);

/* What is asked for; results that are NULL are left out. */
typedef struct cormorant_results {
  double *energy;   /* [1] */
  double *energies; /* [atoms]: shares of the atoms, which add up to the energy */
  double *forces;   /* [atoms][3]: minus the gradient */
  double *strain;   /* [3][3]: derivative by a strain, symmetric; the virial is minus it */
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

/* What went wrong in the last call of this thread that answered a code. */
const char *cormorant_error(void);

#ifdef __cplusplus
}
#endif
#endif
