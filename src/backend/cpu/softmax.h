#pragma once

#include <cstdint>

#include <candela/core/dtype.h>

/// The inner loops of softmax on the CPU: one contiguous row, or a block of neighbouring columns.
namespace candela::softmax_detail {

/// What a loop may assume of its results.
struct Mode {
  DType dtype;
  /// log softmax instead of softmax
  bool log;
  /// results go past the caches: every row of them begins at a whole vector; end with stream_fence()
  bool stream;
};

/// One row of softmax. `scratch`: `padded(count)` floats.
void softmax_row(Mode mode, const void* x, void* out, float* scratch, std::int64_t count);
void softmax_grad_row(Mode mode, const void* y, const void* dy, void* dx, std::int64_t count);

/// `count` neighbouring columns of `length` elements each, worked on `width` (at most kMaxColumns) at a time.
struct Columns {
  std::int64_t length, count, width;
};
inline constexpr std::int64_t kMaxColumns = 256;
/// Rows of columns that share the maximum that is taken off them: few enough that as many again find room in
/// the second-level cache when they lie a power of two apart and so compete for few places.
inline constexpr std::int64_t kChunk = 16;

/// Rows are `*_step` elements apart. `scratch`: (length + ceil(length / kChunk)) * padded(width) floats, or
/// null to read x twice instead.
void softmax_columns(Mode mode, const void* x, std::int64_t x_step, void* out, std::int64_t out_step,
                     void* scratch, Columns size);
/// `scratch`: 2 * length * padded(width) elements of the dtype, or null to read y and dy twice instead.
void softmax_grad_columns(Mode mode, const void* y, std::int64_t y_step, const void* dy, std::int64_t dy_step,
                          void* dx, std::int64_t dx_step, void* scratch, Columns size);

/// Elements that a loop over `count` of them may write: whole pairs of the widest vectors.
constexpr std::int64_t padded(std::int64_t count) {
  constexpr std::int64_t kPair = 128;
  return (count + kPair - 1) / kPair * kPair;
}

}  // namespace candela::softmax_detail
