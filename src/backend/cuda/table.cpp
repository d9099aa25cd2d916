#include "backend/cuda/table.h"

namespace candela::cuda {

void fill_table(KernelTable& table, const Offer& offer) {
  fill_attention(table, offer);
  fill_copy(table, offer);
  fill_elementwise(table, offer);
  fill_gather(table, offer);
  fill_lora(table, offer);
  fill_loss(table, offer);
  fill_matmul(table, offer);
  fill_norm(table, offer);
  fill_optimizer(table, offer);
  fill_random(table, offer);
  fill_reduce(table, offer);
  fill_rope(table, offer);
  fill_softmax(table, offer);
  fill_topk(table, offer);
}

}  // namespace candela::cuda
