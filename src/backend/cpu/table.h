#pragma once

namespace candela {

struct KernelTable;

/// One function per op family, each in the file of that name.
void fill_attention(KernelTable& table);
void fill_copy(KernelTable& table);
void fill_elementwise(KernelTable& table);
void fill_gather(KernelTable& table);
void fill_lora(KernelTable& table);
void fill_loss(KernelTable& table);
void fill_matmul(KernelTable& table);
void fill_norm(KernelTable& table);
void fill_optimizer(KernelTable& table);
void fill_random(KernelTable& table);
void fill_reduce(KernelTable& table);
void fill_rope(KernelTable& table);
void fill_softmax(KernelTable& table);
void fill_topk(KernelTable& table);

void fill_cpu_table(KernelTable& table);

}  // namespace candela
