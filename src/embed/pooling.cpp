#include "embed/pooling.h"

#include <algorithm>

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/matmul.h>
#include <candela/ops/reduce.h>

namespace candela {
namespace {

Tensor index_tensor(std::span<const std::int32_t> values, Device device) {
  return Tensor::from_values(std::vector<std::int32_t>(values.begin(), values.end()),
                             {static_cast<std::int64_t>(values.size())}, device);
}

/// One product with a matrix of shares: [N, T] [T, D].
Tensor mean_tokens(const Tensor& hidden, std::span<const std::int32_t> first,
                   std::span<const std::int32_t> end) {
  const auto count = static_cast<std::int64_t>(first.size());
  const std::int64_t tokens = hidden.size(0);
  std::vector<float> shares(static_cast<std::size_t>(count * tokens), 0.0F);
  for (std::size_t i = 0; i < first.size(); ++i) {
    float* const row = shares.data() + i * static_cast<std::size_t>(tokens);
    std::fill(row + first[i], row + end[i], 1.0F / static_cast<float>(end[i] - first[i]));
  }
  return matmul(Tensor::from_values(shares, {count, tokens}, hidden.device()), hidden);
}

Tensor pool_one(Pooling mode, const Tensor& hidden, std::span<const std::int32_t> first,
                std::span<const std::int32_t> end) {
  switch (mode) {
    case Pooling::Cls:
      return candela::embedding(hidden, index_tensor(first, hidden.device()));
    case Pooling::LastToken: {
      std::vector<std::int32_t> last(end.begin(), end.end());
      for (std::int32_t& token : last) --token;
      return candela::embedding(hidden, index_tensor(last, hidden.device()));
    }
    case Pooling::Mean:
      return mean_tokens(hidden, first, end);
    case Pooling::Max: {
      std::vector<Tensor> largest;
      for (std::size_t i = 0; i < first.size(); ++i)
        largest.push_back(max(slice(hidden, 0, first[i], end[i]), {0}, true));
      return concat(largest, 0);
    }
  }
  throw InvalidArgument("embedder: unknown pooling");
}

Tensor apply_step(const EmbedStep& step, const Tensor& x) {
  if (step.kind == EmbedStep::Kind::Normalize) return unit_rows(x);
  const Tensor bias = step.bias.defined() ? to_device(step.bias, x.device()) : Tensor();
  const Tensor y = linear(x, to_device(step.weight, x.device()), bias);
  switch (step.activation) {
    case EmbedStep::Activation::Identity:
      return y;
    case EmbedStep::Activation::Tanh:
      return tanh(y);
    case EmbedStep::Activation::Gelu:
      return gelu(y);
    case EmbedStep::Activation::Relu:
      return relu(y);
  }
  throw InvalidArgument("embedder: unknown activation");
}

}  // namespace

Tensor unit_rows(const Tensor& x) {
  constexpr double kLeast = 1e-24;  // of the square, so that the gradient at a row of zeros is finite
  const Tensor squares = maximum(sum(square(x), {-1}, true), full({1}, kLeast, x.dtype(), x.device()));
  return mul(x, rsqrt(squares));
}

Tensor pool_tokens(const Tensor& hidden, std::span<const Pooling> modes, std::span<const std::int32_t> first,
                   std::span<const std::int32_t> end) {
  const Tensor wide = cast(hidden, DType::F32);
  std::vector<Tensor> results;
  for (const Pooling mode : modes) results.push_back(pool_one(mode, wide, first, end));
  return results.size() == 1 ? results[0] : concat(results, 1);
}

Tensor finish_embeddings(Tensor pooled, const EmbedderConfig& config, std::int64_t dimensions) {
  bool unit = false;
  for (const EmbedStep& step : config.steps) {
    pooled = apply_step(step, pooled);
    unit = step.kind == EmbedStep::Kind::Normalize;
  }
  if (dimensions == 0 || dimensions == pooled.size(1)) return pooled;
  pooled = contiguous(slice(pooled, 1, 0, dimensions));
  return unit ? unit_rows(pooled) : pooled;
}

}  // namespace candela
