#pragma once

#include "backend/cuda/kernels/params.h"

namespace candela::cuda {

/// Operands in the order out, then inputs (gradients: dx, x, dy). `op` is the number of UnaryOp or BinaryOp.
cudaError_t launch_unary(const LoopParams<2>& loops, Type type, int op, float alpha, float beta,
                         cudaStream_t stream);
cudaError_t launch_unary_grad(const LoopParams<3>& loops, Type type, int op, float alpha,
                              cudaStream_t stream);
cudaError_t launch_binary(const LoopParams<3>& loops, Type type, int op, cudaStream_t stream);
/// out = silu(gate) up; operands out, gate, up.
cudaError_t launch_swiglu(const LoopParams<3>& loops, Type type, cudaStream_t stream);
/// Operands dgate, dup, gate, up, dy.
/// out = gelu(gate) up, gelu by its number of UnaryOp; operands as those of SwiGLU.
cudaError_t launch_geglu(const LoopParams<3>& loops, Type type, int op, cudaStream_t stream);
cudaError_t launch_geglu_grad(const LoopParams<5>& loops, Type type, int op, cudaStream_t stream);
cudaError_t launch_swiglu_grad(const LoopParams<5>& loops, Type type, cudaStream_t stream);

}  // namespace candela::cuda
