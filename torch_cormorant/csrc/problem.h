// The plain C interface between Python (ctypes), the dispatcher and the kernels.
//
// Complex tensors are real ones with (re, im) side by side in their last axis, `wide`
// numbers in all. Every tensor is contiguous. Types and shapes are checked in Python
// (ops/operands.py), the values of index tensors here, before anything else is read.
#pragma once
#include <cstdint>

extern "C" {

// Coefficients of one product: out[row] = sum of value * table entry over its nonzeros,
// and the same by column. An entry is second component * (components of the first) +
// first component. Rows, and columns, stand in the order of their number of nonzeros; a
// run is (how many have the same number, that number).
struct Coefficients {
  int32_t first;           // components of the first operand, M1
  int32_t second;          // components of the second operand, M2
  int32_t degrees;         // tensors of the result
  int32_t rows;            // rows of the result, all degrees together
  int32_t row_runs, col_runs;
  const int32_t *row_run;  // [row_runs, 2]
  const int32_t *row_col;  // [nonzeros] table entry
  const void *row_val;     // [nonzeros] in the number type of the problem
  const int32_t *row_degree;   // [rows] degree whose tensor holds the row
  const int64_t *row_offset;   // [rows] position of the row in a node, in units of wide
  const int32_t *col_run;  // [col_runs, 2]
  const int32_t *col_entry;    // [M1 * M2] table entry of each column
  const int32_t *col_row;  // [nonzeros] row
  const void *col_val;     // [nonzeros]
  const int32_t *used;     // [M1 * M2] nonzeros of each table entry
};

struct Sum {
  int64_t targets, edges, sources, rows;
  int64_t wide;            // real numbers per component
  int32_t lmax1;           // largest degree of the edges
  int32_t is_complex, is_double, threads;
  int32_t need_x, need_g, need_sh;
  int32_t fresh_g;         // no row of g belongs to two edges: dg is set, not added to
  const void *x, *g, *sh;
  const int64_t *rowptr, *edge, *source, *row;  // row: of g, for each edge of the list
  struct Coefficients cg;
  void *const *out;            // per degree: results, or gradients that arrive
  const int64_t *out_rows;     // per degree: components * paths of one node
  void *dx, *dg, *dsh;         // zeroed by the caller where they are added to
};

struct Square {
  int64_t nodes, wide;
  int32_t is_complex, is_double, threads;
  const void *x, *y;
  struct Coefficients cg;
  void *const *out;
  const int64_t *out_rows;
  void *dx, *dy;
};

struct Dots {
  int64_t edges, rows_a, rows_b, wide;
  int32_t lmax, is_complex, is_double, threads;
  const void *a, *b;
  const int64_t *index_a, *index_b;
  void *out;               // [edges, lmax + 1, wide]: results, or gradients that arrive
  void *da, *db;           // zeroed by the caller; NULL where not needed
};
}

// What one instruction set offers. No function allocates, throws or starts threads:
// code of the standard library compiled here could end up on a lesser machine.
struct Kernels {
  const char *name;
  int32_t bytes;  // of a vector
  int64_t (*sum_scratch)(const Sum *);
  void (*sum_forward)(const Sum *, int64_t first, int64_t last, void *scratch);
  // Edges [e0, e1) of one receiver; buffers hold edges from `base` on. Without part_g
  // the gradients are added to the results at once, part_x has room for one edge.
  void (*sum_backward)(const Sum *, int64_t node, int64_t e0, int64_t e1, int64_t base,
                       void *part_x, void *part_g, void *scratch);
  // Add rows [e0, e1) of the buffers to those rows of dx and dg that `owner` owns.
  void (*sum_collect)(const Sum *, int64_t e0, int64_t e1, const void *part_x,
                      const void *part_g, int32_t owner, int32_t owners);
  int64_t (*square_scratch)(const Square *);
  void (*square_forward)(const Square *, int64_t first, int64_t last, void *scratch);
  void (*square_backward)(const Square *, int64_t first, int64_t last, void *scratch);
  void (*dots_forward)(const Dots *, int64_t first, int64_t last);
  void (*dots_backward)(const Dots *, int32_t owner, int32_t owners);
};

const Kernels *kernels_baseline();
#if defined(__x86_64__) || defined(_M_X64)
const Kernels *kernels_avx2();
const Kernels *kernels_avx512();
#endif
