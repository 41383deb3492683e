// Clebsch-Gordan coefficients as the kernels read them.
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
}
