// SPDX-License-Identifier: Apache-2.0
// Prints launch shapes of row kernels; test_rows.py asserts on them.
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#include "primitives/column_sums.h"
#include "primitives/rows.h"

using namespace kernelhub::primitives;

int main() {
  for (long cols = 1; cols <= 1 << 21; cols += cols < 1100 ? 1 : cols / 7) {
    for (const long element : {2, 4}) {
      for (const int groups : {4, 8}) {
        for (const int cluster : {1, 8, 16}) {
          const RowLaunch launch = row_launch(cols, element, {groups, cluster});
          std::printf("launch %ld %ld %d %d %d %d %d %d\n", cols, element, groups, cluster,
                      launch.threads_per_row, launch.rows_per_block, launch.groups, launch.cluster);
        }
      }
    }
  }
  for (const long cols : {1, 64, 4096, 100000, 1 << 20}) {
    for (const long rows : {1L, 7L, 1000L, 1000000L, 1L << 33}) {
      const RowLaunch launch = row_launch(cols, 2, {4, 16});
      const ColumnChunks chunks = column_chunks(rows, cols, 1);
      std::printf("rows %ld %ld %d %d %u %ld %ld\n", cols, rows, launch.rows_per_block,
                  launch.cluster, row_blocks(launch, rows, kMaxRowBlocks), chunks.count,
                  column_workspace_bytes(chunks, 1));
      for (const long resident : {132, 1056}) {
        std::printf("partials %ld %ld %d %d %ld %ld\n", cols, rows, launch.rows_per_block,
                    launch.cluster, resident, partial_rows(launch, rows, cols, 132, resident));
      }
      long next = 0;
      for (long chunk = 0; chunk < chunks.count; ++chunk) {
        if (chunks.begin(chunk) != next || chunks.end(chunk) <= next) std::abort();
        next = chunks.end(chunk);
      }
      if (next != rows) std::abort();
    }
  }
}
