#pragma once

#include <string>

#include "backend/args/matmul.h"
#include "backend/metal/engine.h"
#include "backend/workspace.h"

namespace candela::metal {

/// The product by MPSMatrixMultiplication or MPSMatrixVectorMultiplication: why it cannot take the arguments,
/// and the encoding of it. A measuring workspace notes the copies of operands that MPS cannot see as
/// matrices, and nothing is encoded; so for the native product, which takes none.
std::string mps_matmul_supports(const MatmulArgs& args);
void encode_mps_matmul(Engine* engine, const MatmulArgs& args, Workspace memory);
/// As the last one, cut so that (row + 2 K) N element size stays below `limit` in every part.
void encode_mps_parts(Engine* engine, const MatmulArgs& args, Workspace memory, double limit);
inline constexpr double kMpsProductLimit = 0x1p31;

/// The product by native shaders: gemv for few rows (or few columns, turned), else tiles of simdgroup
/// matrices. Any strides. Beyond what the op takes, an f32 operand goes with a 16-bit one.
std::string native_matmul_supports(const MatmulArgs& args);
void encode_native_matmul(Engine* engine, const MatmulArgs& args, Workspace memory);

/// Whether a native shader may read the matrices four neighbours at a time: one of the last two strides is 1,
/// and that dimension and all other strides are multiples of four.
bool read_in_fours(const TensorArg& x);

/// The last two dimensions swapped.
TensorArg swapped(const TensorArg& arg);
/// Columns [first, first + count) of the last dimension.
TensorArg columns_of(const TensorArg& arg, std::int64_t first, std::int64_t count);

/// Rows [first, first + count) of the last dimension but one.
TensorArg rows_of(const TensorArg& arg, std::int64_t first, std::int64_t count);

}  // namespace candela::metal
