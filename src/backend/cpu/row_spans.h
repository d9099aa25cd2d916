#pragma once

#include <cstdint>

/// Loops over contiguous floats behind the optimizer and the random numbers; see spans.h.
namespace candela::spans {

/// The numbers of one AdamW step that all elements share: m = beta1 m + rest1 g with g = grad_scale grad and
/// rest1 = 1 - beta1 (taken before beta1 is rounded), v likewise with g^2; param = keep param - step m /
/// (root sqrt(v) + eps).
struct AdamwNumbers {
  float beta1, beta2, rest1, rest2, grad_scale, keep, step, root, eps;
};
void adamw(float* param, const float* grad, float* m, float* v, std::int64_t count,
           const AdamwNumbers& numbers);

/// Uniform in [0, 1): the positions [offset, offset + count) of philox(seed).
void uniform(std::uint64_t seed, std::uint64_t offset, float* out, std::int64_t count);
/// out[i] = mean + stddev sqrt(-2 ln(1 - u[2 i])) cos(2 pi u[2 i + 1]).
void box_muller(const float* u, float* out, std::int64_t count, float mean, float stddev);
/// out = x scale where u >= p, else 0.
void keep_scaled(const float* x, const float* u, float* out, std::int64_t count, float p, float scale);

}  // namespace candela::spans
