#pragma once

#include <cstdint>

#include <candela/core/dtype.h>

/// The inner loops of the norms on the CPU: one contiguous row of T = `dtype`.
///
/// f32 vectors that all rows share (weight, bias, the sums of their gradients) are in the order in which the
/// loops take elements of T, and padded to whole vectors: to_row_order() brings them there and
/// from_row_order() back.
namespace candela::norm_detail {

struct Mode {
  DType dtype;
  /// results go past the caches: every row of them begins at a whole vector; end with stream_fence()
  bool stream;
};

/// Floats that a vector of `count` elements in row order takes.
constexpr std::int64_t padded(std::int64_t count) {
  constexpr std::int64_t kPair = 128;
  return (count + kPair - 1) / kPair * kPair;
}
void to_row_order(DType dtype, const float* x, float* out, std::int64_t count);
void from_row_order(DType dtype, const float* x, float* out, std::int64_t count);

/// h = x + residual (or x, where `residual` is null), also written to `sum`; out = h rstd weight. Returns
/// rstd. `scratch`: padded(count) floats.
struct RmsRow {
  const void *x, *residual;
  void *sum, *out;
};
float rms_norm_row(Mode mode, const RmsRow& row, const float* weight, float* scratch, std::int64_t count,
                   double eps);

/// dx = rstd (dy weight - h c) + dsum with c = mean(dy weight h) rstd^2; dweight += dy h rstd. `dsum` and
/// `dweight` may be null.
struct RmsGradRow {
  const void *h, *dy, *dsum;
  void* dx;
  float rstd;
};
void rms_norm_grad_row(Mode mode, const RmsGradRow& row, const float* weight, float* dweight,
                       std::int64_t count);

struct Moments {
  float mean, rstd;
};
/// out = (x - mean) rstd weight + bias.
Moments layer_norm_row(Mode mode, const void* x, void* out, const float* weight, const float* bias,
                       std::int64_t count, double eps);

/// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)); dweight += dy n, dbias
/// += dy (either may be null).
struct LayerGradRow {
  const void *x, *dy;
  void* dx;
  Moments moments;
};
void layer_norm_grad_row(Mode mode, const LayerGradRow& row, const float* weight, float* dweight,
                         float* dbias, std::int64_t count);

}  // namespace candela::norm_detail
