// Errors inside of the library: thrown here, turned into codes at the interface.
#pragma once
#include <cstdarg>
#include <cstdio>

#include "cormorant.h"

namespace {

struct Fault {
  int32_t status;
  char text[200];
};

[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(int32_t status,
                                                            const char *format, ...) {
  Fault fault{status, {}};
  va_list rest;
  va_start(rest, format);
  vsnprintf(fault.text, sizeof fault.text, format, rest);
  va_end(rest);
  throw fault;
}

}  // namespace
