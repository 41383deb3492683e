/* Energy and forces of water from a native model file, in plain C.
 *
 *     cc water.c -I torch_cormorant/csrc/native -L FOLDER -l:libcormorant.so -o water
 *     ./water model.cormorant
 *
 * A file is written by NativePotential(model).save("model.cormorant"). */
#include <stdio.h>

#include "cormorant.h"

#define ATOMS 3

int main(int count, char **arguments) {
  const int32_t numbers[ATOMS] = {8, 1, 1};
  const double positions[3 * ATOMS] = {0, 0, 0, 0, 0, 0.96, 0, 0.93, -0.24};
  double energy, forces[3 * ATOMS];
  cormorant_results results = {.energy = &energy, .forces = forces};
  cormorant_model *model = NULL;

  if (count != 2) {
    fprintf(stderr, "usage: %s model.cormorant\n", arguments[0]);
    return 2;
  }
  if (cormorant_load(arguments[1], 64, &model) ||
      cormorant_evaluate(model, ATOMS, numbers, positions, NULL, NULL, 1, &results)) {
    fprintf(stderr, "%s: %s\n", arguments[0], cormorant_error());
    cormorant_destroy(model);
    return 1;
  }
  printf("%.17g %s\n", energy, cormorant_unit(model));
  for (int i = 0; i < ATOMS; i++)
    printf("%.17g %.17g %.17g\n", forces[3 * i], forces[3 * i + 1], forces[3 * i + 2]);
  cormorant_destroy(model);
  return 0;
}
