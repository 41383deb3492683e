// The C interface: arguments, instruction set, errors.
#include "cormorant.h"

#include <new>
#include <string_view>

#include "evaluator.h"

extern "C" const char *cormorant_isa();  // dispatch.cpp

struct cormorant_model {
  std::unique_ptr<Evaluator> evaluator;
  double cutoff;
  int32_t levels;
};

namespace {

constexpr int32_t ABI = 1;
thread_local char reason[sizeof(Fault::text)] = "";

int32_t answer(int32_t status, const char *text) {
  snprintf(reason, sizeof reason, "%s", text);
  return status;
}

template <class Work> int32_t guarded(const Work &work) {
  try {
    work();
    return CORMORANT_DONE;
  } catch (const Fault &fault) {
    return answer(fault.status, fault.text);
  } catch (const std::bad_alloc &) {
    return answer(CORMORANT_NO_MEMORY, "out of memory");
  } catch (const std::length_error &) {
    return answer(CORMORANT_NO_MEMORY, "out of memory");
  } catch (const std::system_error &) {
    return answer(CORMORANT_NO_THREADS, "the system gives no more threads");
  }
}

template <class S> struct Choice;
#define CHOICE(S)                                                         \
  template <> struct Choice<S> {                                          \
    static const Passes<S> *of(const Shape &shape) {                      \
      const std::string_view isa = cormorant_isa();                       \
      X86(if (isa == "avx512") return native_##S##_avx512(shape);         \
          if (isa == "avx2") return native_##S##_avx2(shape);)            \
      return native_##S##_baseline(shape);                                \
    }                                                                     \
  };
#if defined(SEVERAL_SETS)
#define X86(...) __VA_ARGS__
#else
#define X86(...)
#endif
CHOICE(float)
CHOICE(double)

template <class S> std::unique_ptr<Evaluator> make(const Parameters &p) {
  const Passes<S> *passes = Choice<S>::of({p.planes, p.lmax, p.even});
  if (!passes) fail(CORMORANT_UNSUPPORTED, "these degrees were not compiled in");
  return std::make_unique<EvaluatorOf<S>>(p, *passes);
}

void require(bool fine, const char *what) {
  if (!fine) fail(CORMORANT_BAD_ARGUMENT, "%s", what);
}

int32_t evaluate(cormorant_model *model, const Request &request, bool given) {
  return guarded([&] {
    require(model && request.results, "model or results is NULL");
    require(request.atoms >= 0 && request.pairs >= 0 && request.local >= 0 &&
                request.local <= request.atoms && request.atoms < (int64_t)1 << 30,
            "a number of atoms or pairs is negative or too large");
    require(!request.atoms || request.numbers, "numbers is NULL");
    require(!request.atoms || given || request.positions, "positions is NULL");
    require(!request.pairs || (request.first && request.second && request.vectors),
            "first, second or vectors is NULL");
    model->evaluator->run(request);
  });
}

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT int32_t cormorant_native_abi(void) { return ABI; }

EXPORT int32_t cormorant_create(const void *block, int64_t bytes, int32_t bits,
                                cormorant_model **model) {
  return guarded([&] {
    require(model, "model is NULL");
    *model = nullptr;
    require(bits == 32 || bits == 64, "bits must be 32 or 64");
    const Parameters p = BlockReader(block, bytes).read();
    auto made = std::make_unique<cormorant_model>();
    made->evaluator = bits == 64 ? make<double>(p) : make<float>(p);
    made->cutoff = p.cutoff;
    made->levels = p.levels;
    *model = made.release();
  });
}

EXPORT void cormorant_destroy(cormorant_model *model) { delete model; }

EXPORT double cormorant_cutoff(const cormorant_model *model) { return model->cutoff; }
EXPORT double cormorant_reach(const cormorant_model *model) {
  return model->cutoff * model->levels;
}

EXPORT int32_t cormorant_evaluate(cormorant_model *model, int64_t atoms,
                                  const int32_t *numbers, const double *positions,
                                  const double *cell, const int32_t *periodic,
                                  int32_t threads, cormorant_results *results) {
  return evaluate(model, {atoms, atoms, numbers, positions, cell, periodic, 0, nullptr,
                          nullptr, nullptr, threads, results}, false);
}

EXPORT int32_t cormorant_evaluate_pairs(cormorant_model *model, int64_t atoms,
                                        int64_t local, const int32_t *numbers,
                                        int64_t pairs, const int32_t *first,
                                        const int32_t *second, const double *vectors,
                                        int32_t threads, cormorant_results *results) {
  return evaluate(model, {atoms, local, numbers, nullptr, nullptr, nullptr, pairs, first,
                          second, vectors, threads, results}, true);
}

EXPORT const char *cormorant_error(void) { return reason; }
}
