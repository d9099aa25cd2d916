#include "models/positions.h"

#include <algorithm>
#include <bit>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>

namespace candela {
namespace {

/// Powers of two, so that decoding does not need a new table per token.
std::int64_t rounded_up(std::int64_t length) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(length)));
}

}  // namespace

RopeTable RopeTables::get(std::int64_t length) const {
  const NoGrad guard;
  const std::lock_guard lock(mutex_);
  const std::int64_t trained = config_.max_positions;
  const bool dynamic = config_.type == "dynamic";
  // The angles of `dynamic` depend on the length once it is beyond max_position_embeddings: each length has
  // its own table there.
  const bool own_table = dynamic && length > trained;
  const bool reusable = own_table ? length_ == length : length_ >= length && (!dynamic || length_ <= trained);
  if (!reusable) {
    std::int64_t made = own_table ? length : rounded_up(length);
    if (!own_table && dynamic) made = std::min(made, trained);
    if (table_.cos.defined() && !dynamic) earlier_.push_back(table_);  // nothing is recorded with `dynamic`
    table_ = rope_table(config_, made, device_, bf16_frequencies_);
    length_ = made;
  }
  return table_;
}

Tensor PositionRange::get(std::int64_t first, std::int64_t count) const {
  const NoGrad guard;
  const std::lock_guard lock(mutex_);
  const std::int64_t end = first + count;
  if (!range_.defined() || range_.numel() < end) {
    if (range_.defined()) earlier_.push_back(range_);
    range_ = arange(rounded_up(end), DType::I32, device_);
  }
  return slice(range_, 0, first, end);
}

}  // namespace candela
