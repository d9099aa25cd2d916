#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include <candela/ops/rope.h>

/// Constants of a model's positions: made once, and again where a longer sequence comes. Thread-safe. What
/// was handed out stays, as recorded work reads it at every replay.
namespace candela {

/// The rotary table of one RopeConfig.
class RopeTables {
 public:
  RopeTables(const RopeConfig& config, Device device, bool bf16_frequencies)
      : config_(config), device_(device), bf16_frequencies_(bf16_frequencies) {}

  /// A table for sequences of `length` tokens, with at least as many rows.
  RopeTable get(std::int64_t length) const;

 private:
  RopeConfig config_;
  Device device_;
  bool bf16_frequencies_;
  mutable std::mutex mutex_;
  mutable RopeTable table_;
  /// shorter ones; their lengths are powers of two
  mutable std::vector<RopeTable> earlier_;
  mutable std::int64_t length_ = 0;
};

/// 0, 1, 2, ... in i32.
class PositionRange {
 public:
  explicit PositionRange(Device device) : device_(device) {}

  /// first, ..., first + count - 1: a view of what is made once.
  Tensor get(std::int64_t first, std::int64_t count) const;

 private:
  Device device_;
  mutable std::mutex mutex_;
  mutable Tensor range_;
  mutable std::vector<Tensor> earlier_;
};

}  // namespace candela
