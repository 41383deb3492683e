// What `plugin load cormorantplugin.so` calls.
#include "lammps.h"
#include "pair_cormorant.h"

using namespace LAMMPS_NS;

namespace {

// As LAMMPS reads it (lammpsplugin.h, which not every installation brings).
struct Plugin {
  const char *version, *style, *name, *info, *author;
  void *(*create)(LAMMPS *);
  void *handle;
};

void *create(LAMMPS *lmp) { return static_cast<Pair *>(new PairCormorant(lmp)); }

}  // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp,
                                                                        void *handle,
                                                                        void *reg) {
  Plugin plugin = {static_cast<LAMMPS *>(lmp)->version,
                   "pair",
                   "cormorant",
                   "Cormorant potentials without Python",
                   "the torch-cormorant authors",
                   create,
                   handle};
  reinterpret_cast<void (*)(Plugin *, void *)>(reg)(&plugin, lmp);
}
