// What the processor has. Only for code of no special instruction set.
#pragma once
#include <string_view>

// The best instruction set that is compiled in, or the named one; NULL: it is not there.
inline const char *instruction_set(const char *name) {
  const auto is = [name](const char *other) {
    return !name || std::string_view(name) == other;
  };
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_cpu_init();
  if (is("avx512") && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw"))
    return "avx512";
  if (is("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return "avx2";
#endif
  return is("baseline") ? "baseline" : nullptr;
}
