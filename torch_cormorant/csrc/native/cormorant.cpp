// The C interface: arguments, instruction set, errors.
#include "cormorant.h"

#include <cstdio>
#include <new>
#include <string_view>

#include "dynamics.h"
#include "evaluator.h"

extern "C" const char *cormorant_isa();  // dispatch.cpp

struct cormorant_model {
  std::unique_ptr<Evaluator> evaluator;
  double cutoff;
  int32_t levels, bits;
  char unit[sizeof(Parameters::unit)];
  std::vector<int32_t> elements;
};

namespace {

constexpr int32_t ABI = 2;
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
  const Passes<S> *passes = Choice<S>::of({p.planes, p.lmax});
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
    require(!request.exchange || (request.exchange->forward && request.exchange->reverse),
            "forward or reverse of the exchange is NULL");
    require(!request.pairs || (request.first && request.second && request.vectors),
            "first, second or vectors is NULL");
    model->evaluator->run(request);
  });
}

std::vector<char> contents(const char *path) {
  FILE *file = std::fopen(path, "rb");
  if (!file) fail(CORMORANT_NO_FILE, "%s: it cannot be opened", path);
  std::vector<char> found;
  size_t got = 1;
  try {
    while (got) {
      const size_t at = found.size();
      found.resize(at + (1 << 20));
      got = std::fread(found.data() + at, 1, 1 << 20, file);
      found.resize(at + got);
    }
  } catch (...) {
    std::fclose(file);
    throw;
  }
  const bool failed = std::ferror(file);
  std::fclose(file);
  if (failed) fail(CORMORANT_NO_FILE, "%s: it cannot be read", path);
  return found;
}

std::unique_ptr<cormorant_model> model_of(const void *file, int64_t bytes, int32_t bits) {
  require(bits == 0 || bits == 32 || bits == 64, "bits must be 0, 32 or 64");
  const Parameters p = BlockReader(file, bytes).read();
  auto made = std::make_unique<cormorant_model>();
  made->bits = bits ? bits : p.bits;
  made->evaluator = made->bits == 64 ? make<double>(p) : make<float>(p);
  made->cutoff = p.cutoff;
  made->levels = p.levels;
  memcpy(made->unit, p.unit, sizeof p.unit);
  for (const double number : p.numbers) made->elements.push_back((int32_t)number);
  return made;
}

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT int32_t cormorant_native_abi(void) { return ABI; }

EXPORT int32_t cormorant_create(const void *file, int64_t bytes, int32_t bits,
                                cormorant_model **model) {
  return guarded([&] {
    require(model, "model is NULL");
    *model = nullptr;
    *model = model_of(file, bytes, bits).release();
  });
}

EXPORT int32_t cormorant_load(const char *path, int32_t bits, cormorant_model **model) {
  return guarded([&] {
    require(path && model, "path or model is NULL");
    *model = nullptr;
    const std::vector<char> file = contents(path);
    *model = model_of(file.data(), (int64_t)file.size(), bits).release();
  });
}

EXPORT void cormorant_destroy(cormorant_model *model) { delete model; }

EXPORT double cormorant_cutoff(const cormorant_model *model) { return model->cutoff; }
EXPORT double cormorant_reach(const cormorant_model *model) {
  return model->cutoff * model->levels;
}
EXPORT const char *cormorant_unit(const cormorant_model *model) { return model->unit; }
EXPORT int32_t cormorant_bits(const cormorant_model *model) { return model->bits; }
EXPORT int32_t cormorant_elements(const cormorant_model *model, int32_t *numbers,
                                  int32_t room) {
  const int32_t count = (int32_t)model->elements.size();
  for (int32_t k = 0; k < std::min(count, room); k++) numbers[k] = model->elements[k];
  return count;
}
EXPORT int64_t cormorant_row_bytes(const cormorant_model *model) {
  return model->evaluator->row_bytes();
}
EXPORT void cormorant_set_skin(cormorant_model *model, double skin) {
  model->evaluator->skin = skin;
}

EXPORT int32_t cormorant_evaluate(cormorant_model *model, int64_t atoms,
                                  const int32_t *numbers, const double *positions,
                                  const double *cell, const int32_t *periodic,
                                  int32_t threads, cormorant_results *results) {
  return evaluate(model, {atoms, atoms, numbers, positions, cell, periodic, 0, nullptr,
                          nullptr, nullptr, nullptr, threads, results}, false);
}

EXPORT int32_t cormorant_evaluate_domain(cormorant_model *model, int64_t atoms,
                                         int64_t local, const int32_t *numbers,
                                         const double *positions,
                                         const cormorant_exchange *exchange,
                                         int32_t threads, cormorant_results *results) {
  if (!exchange) return answer(CORMORANT_BAD_ARGUMENT, "exchange is NULL");
  return evaluate(model, {atoms, local, numbers, positions, nullptr, nullptr, 0, nullptr,
                          nullptr, nullptr, exchange, threads, results}, false);
}

EXPORT int32_t cormorant_evaluate_pairs(cormorant_model *model, int64_t atoms,
                                        int64_t local, const int32_t *numbers,
                                        int64_t pairs, const int32_t *first,
                                        const int32_t *second, const double *vectors,
                                        int32_t threads, cormorant_results *results) {
  return evaluate(model, {atoms, local, numbers, nullptr, nullptr, nullptr, pairs, first,
                          second, vectors, nullptr, threads, results}, true);
}

EXPORT int32_t cormorant_run(cormorant_model *model, cormorant_dynamics *run,
                             int64_t steps, int32_t threads) {
  return guarded([&] {
    require(model && run, "model or run is NULL");
    require(run->atoms >= 0 && run->atoms < (int64_t)1 << 30 && steps >= 0,
            "a number of atoms or steps is negative or too large");
    require(run->random[0] | run->random[1] | run->random[2] | run->random[3],
            "random is zero");
    require(!run->atoms || (run->numbers && run->inverse_masses && run->positions &&
                            run->velocities && run->forces),
            "numbers, inverse_masses, positions, velocities or forces is NULL");
    require(run->timestep > 0 && run->friction >= 0 && run->temperature >= 0,
            "timestep must be positive, friction and temperature not negative");
    cormorant_results results = {};
    results.energy = &run->energy;
    results.forces = run->forces;
    const std::function<void()> forces = [&] {
      model->evaluator->run({run->atoms, run->atoms, run->numbers, run->positions,
                             run->cell, run->periodic, 0, nullptr, nullptr, nullptr,
                             nullptr, threads, &results});
    };
    Dynamics(*run, forces).go(steps);
  });
}

EXPORT const char *cormorant_error(void) { return reason; }
}
