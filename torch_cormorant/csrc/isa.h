// What the processor has. Only for code of no special instruction set.
#pragma once
#include <string_view>

#include "processor.h"

// The best instruction set that is compiled in, or the named one; NULL: it is not there.
inline const char *instruction_set(const char *name) {
  const auto is = [name](const char *other) {
    return !name || std::string_view(name) == other;
  };
#if defined(SEVERAL_SETS)
  const Processor here;
  if (is("avx512") && here.avx512) return "avx512";
  if (is("avx2") && here.avx2) return "avx2";
#endif
  return is("baseline") ? "baseline" : nullptr;
}
