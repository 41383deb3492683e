// For a library of the native evaluator alone (CMakeLists.txt): the instruction set.
#include "../isa.h"

extern "C" const char *cormorant_isa() { return instruction_set(nullptr); }
