#include "backend/cpu/table.h"

namespace candela {

void fill_cpu_table(KernelTable& table) {
  fill_copy(table);
  fill_elementwise(table);
  fill_reduce(table);
  fill_matmul(table);
}

}  // namespace candela
