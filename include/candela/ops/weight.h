#pragma once

#include <span>
#include <utility>

#include <candela/core/tensor.h>

namespace candela {

/// The weight [O, I] of a linear layer as it is stored. Ops, merging, loading and saving take a Weight, so
/// that only this class and the kernels know formats. One format exists: dense, f32, bf16 or f16 (f64 as
/// reference).
class Weight {
 public:
  /// Undefined: no weight.
  Weight() = default;
  /// A dense weight that shares `values` [O, I].
  Weight(Tensor values) : values_(std::move(values)) {}  // NOLINT(google-explicit-constructor)

  bool defined() const { return values_.defined(); }
  std::int64_t outputs() const { return values_.size(0); }
  std::int64_t inputs() const { return values_.size(1); }
  /// The dtype of the activations that it multiplies.
  DType dtype() const { return values_.dtype(); }
  Device device() const { return values_.device(); }
  bool requires_grad() const { return values_.requires_grad(); }

  /// The values [O, I] as a tensor: the weight's own memory where it is dense.
  const Tensor& dense() const { return values_; }
  /// Rows [first, first + count), sharing memory; outside autograd.
  Weight rows(std::int64_t first, std::int64_t count) const;
  /// W + delta (f32 [O, I]), computed in f32 and rounded to the weight's dtype, in memory of its own.
  Weight plus(const Tensor& delta) const;
  /// Whether both are the same memory and layout.
  bool same_as(const Weight& other) const;

  /// The parts [O_i, I] below each other as one weight [sum O_i, I]: a view where they lie so already, else a
  /// copy. InvalidArgument if inputs, dtypes or devices differ.
  static Weight stacked(std::span<const Weight> parts);

 private:
  Tensor values_;
};

}  // namespace candela
