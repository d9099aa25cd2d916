#pragma once

#include <candela/ops/rope.h>

/// The rotation of rope as ops that own their operand's memory use it.
namespace candela {

/// Whether rope's kernels can rotate x [B, T, H, D] where it lies.
bool rotates_in_place(const Tensor& x);

/// x = rope(x) where it lies, or with `inverse` its gradient's rotation; positions i32 [T] or [B, T]. x must
/// be rotates_in_place and the arguments checked.
void rotate_in_place(const Tensor& x, const RopeTable& table, const Tensor& positions, bool inverse);

/// Throws as rope() does for its arguments; returns positions as [B, T].
Tensor check_rope(const Tensor& x, const RopeTable& table, const Tensor& positions);

}  // namespace candela
