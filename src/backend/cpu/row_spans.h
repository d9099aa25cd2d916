#pragma once

#include <cstdint>

/// Loops over contiguous floats behind softmax, the norms, the optimizer and the random numbers; see spans.h.
namespace candela::spans {

/// Softmax (or its logarithm) of one row.
void softmax_row(const float* x, float* out, std::int64_t count, bool log);
void softmax_grad_row(const float* y, const float* dy, float* dx, std::int64_t count, bool log);

// The same for many columns at once, one row of them per call.
/// total[i] += e^(x[i] - shift[i]).
void add_exp(const float* x, const float* shift, float* total, std::int64_t count);
/// out[i] = e^(x[i] - shift[i]) / total[i], or x[i] - shift[i] - total[i] for the logarithm (total already
/// its logarithm).
void softmax_columns(const float* x, const float* shift, const float* total, float* out, std::int64_t count,
                     bool log);
/// total[i] += a[i] b[i].
void add_products(const float* a, const float* b, float* total, std::int64_t count);
/// dx[i] = y[i] (dy[i] - total[i]), or dy[i] - e^y[i] total[i] for the logarithm.
void softmax_grad_columns(const float* y, const float* dy, const float* total, float* dx, std::int64_t count,
                          bool log);

/// sum((x - mean)^2).
float centred_squares(const float* x, float mean, std::int64_t count);
/// out = x scale weight.
void scale_rows(const float* x, float scale, const float* weight, float* out, std::int64_t count);
/// out = (x - mean) scale weight + bias.
void normalize(const float* x, float mean, float scale, const float* weight, const float* bias, float* out,
               std::int64_t count);

/// sum(dy weight) and sum(dy weight (x - mean)).
struct NormSums {
  float g, gx;
};
NormSums norm_sums(const float* x, float mean, const float* weight, const float* dy, std::int64_t count);
/// dx = scale (dy weight - a - (x - mean) b) + extra (null: none).
struct NormSlopes {
  float mean, scale, a, b;
};
void norm_dx(const float* x, const float* weight, const float* dy, const float* extra, float* dx,
             NormSlopes slopes, std::int64_t count);
/// total[i] += dy[i] (x[i] - mean) scale.
void norm_dweight(const float* x, float mean, float scale, const float* dy, float* total, std::int64_t count);

/// The numbers of one AdamW step that all elements share: m = beta1 m + (1 - beta1) g with g = grad_scale
/// grad, v likewise with g^2; param = keep param - step m / (root sqrt(v) + eps).
struct AdamwNumbers {
  float beta1, beta2, grad_scale, keep, step, root, eps;
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
