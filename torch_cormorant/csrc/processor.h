// What processor and operating system can run, asked for by the instructions themselves:
// __builtin_cpu_supports answers "nothing" in libraries linked by some Clangs.
#pragma once
#if defined(SEVERAL_SETS)
#include <cpuid.h>

#include <cstdint>

namespace {

struct Processor {
  bool avx2 = false, avx512 = false;

  Processor() {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    const bool fma = bit(c, 12), saves = bit(c, 27);
    if (!saves || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    uint32_t state, high;  // registers that the system keeps when it changes threads
    __asm__("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
    avx2 = fma && bit(b, 5) && (state & 0x6) == 0x6;
    const bool f = bit(b, 16), dq = bit(b, 17), bw = bit(b, 30), vl = bit(b, 31);
    avx512 = avx2 && f && dq && bw && vl && (state & 0xe6) == 0xe6;
  }

  static bool bit(uint32_t word, int k) { return word >> k & 1; }
};

}  // namespace
#endif
