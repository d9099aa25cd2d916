#include "backend/cpu/table.h"

namespace candela {

void fill_cpu_table(KernelTable& table) {
  fill_copy(table);
  fill_elementwise(table);
  fill_reduce(table);
  fill_matmul(table);
  fill_attention(table);
  fill_lora(table);
  fill_loss(table);
  fill_rope(table);
  fill_norm(table);
  fill_softmax(table);
  fill_gather(table);
  fill_optimizer(table);
  fill_random(table);
  fill_topk(table);
}

}  // namespace candela
