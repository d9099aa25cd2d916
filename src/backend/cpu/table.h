#pragma once

namespace candela {

struct KernelTable;

/// One function per op family, each in the file of that name. Families with kernels for both f64 and vectors
/// have two files: fill_<family> calls fill_<family>_simd first.
void fill_attention(KernelTable& table);
void fill_copy(KernelTable& table);
void fill_copy_simd(KernelTable& table);
void fill_elementwise(KernelTable& table);
void fill_elementwise_simd(KernelTable& table);
void fill_gather(KernelTable& table);
void fill_lora(KernelTable& table);
void fill_loss(KernelTable& table);
void fill_loss_simd(KernelTable& table);
void fill_matmul(KernelTable& table);
void fill_norm(KernelTable& table);
void fill_optimizer(KernelTable& table);
void fill_random(KernelTable& table);
void fill_reduce(KernelTable& table);
void fill_reduce_simd(KernelTable& table);
void fill_rope(KernelTable& table);
void fill_softmax(KernelTable& table);
void fill_topk(KernelTable& table);

namespace gemm_detail {
/// The implementations that gemm() chooses from.
void fill_gemm(KernelTable& table);
}  // namespace gemm_detail

void fill_cpu_table(KernelTable& table);

}  // namespace candela
