#pragma once

#include <cstdint>
#include <cstring>

#include <candela/core/dtype.h>

#include "backend/args/elementwise.h"
#include "backend/args/reduce.h"

/// What the CPU kernels are made of: loops over contiguous floats, for the best instruction set of this
/// machine. Kernels bring other dtypes and strides into that form a block at a time (blocks.h). Outputs may
/// be an input, but must not overlap one otherwise.
namespace candela::spans {

/// The instruction set that they run on, by Highway's name: "AVX3".
const char* instruction_set();

void widen(const BFloat16* x, float* out, std::int64_t count);
void widen(const Float16* x, float* out, std::int64_t count);
inline void widen(const float* x, float* out, std::int64_t count) {
  std::memcpy(out, x, static_cast<std::size_t>(count) * sizeof(float));
}

void narrow(const float* x, BFloat16* out, std::int64_t count);
void narrow(const float* x, Float16* out, std::int64_t count);
inline void narrow(const float* x, float* out, std::int64_t count) {
  std::memcpy(out, x, static_cast<std::size_t>(count) * sizeof(float));
}

/// A copy that goes past the caches: for results too large to stay there, which then need not be read before
/// they are written. Call stream_fence() on the same thread before another thread may look.
void stream_copy(const void* from, void* to, std::size_t bytes);
void stream_fence();

void unary(UnaryOp op, const float* x, float* out, std::int64_t count, float alpha, float beta);
void unary_grad(UnaryOp op, const float* x, const float* dy, float* dx, std::int64_t count, float alpha);
void binary(BinaryOp op, const float* a, const float* b, float* out, std::int64_t count);
void swiglu(const float* gate, const float* up, float* out, std::int64_t count);
void swiglu_grad(const float* gate, const float* up, const float* dy, float* dgate, float* dup,
                 std::int64_t count);

/// The reduction of all elements. Sums are added up in f64: where addends cancel, what f32 loses can be more
/// than what is left.
double reduce(ReduceOp op, const float* x, std::int64_t count);
/// total[i] = total[i] op x[i]; SumSquares adds x[i]^2.
void fold(ReduceOp op, const float* x, float* total, std::int64_t count);
/// Position of the first element equal to `value` (or the first NaN if value is NaN); count if there is none.
std::int64_t find_first(const float* x, std::int64_t count, float value);

}  // namespace candela::spans
