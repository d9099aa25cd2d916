#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <candela/ops/attention.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>
#include <candela/ops/loss.h>
#include <candela/ops/optimizer.h>
#include <candela/ops/rope.h>
#include <candela/ops/topk.h>

/// The composed reference of every fused op: plain ops, readable, on any device and dtype (f64 included),
/// with gradients through the plain ops'. They are the tests' oracle, and the path where no implementation
/// takes the arguments.
namespace candela::composed {

Tensor swiglu(const Tensor& gate, const Tensor& up);
Tensor geglu(const Tensor& gate, const Tensor& up, GeluKind kind);
Tensor softmax(const Tensor& x, int dim);
Tensor log_softmax(const Tensor& x, int dim);
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, double weight_offset);
std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                       double eps, double weight_offset);
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);
/// Builds the T x S matrix of scores, for one run after the other of queries that see the same keys: for
/// references and small inputs.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options);
Tensor rope(const Tensor& x, const RopeTable& table, const Tensor& positions);
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t ignore_index);
Tensor linear_cross_entropy(const Tensor& x, const Weight& weight, const Tensor& targets,
                            std::int64_t ignore_index, const LowRankLogits& extra);
Tensor lora_linear(const Tensor& x, const Weight& weight, const Tensor& bias,
                   std::span<const LowRank> adapters, const Tensor& lora_x);
Tensor embedding(const Tensor& weight, const Tensor& ids);
/// Reads the index on the host and picks the elements one by one.
Tensor gather(const Tensor& x, int dim, const Tensor& index);
/// Sorts the rows on the host.
TopkResult topk(const Tensor& x, std::int64_t k);
/// The random numbers of seed and offset, as kernels take them (args/random.h), made on the host.
Tensor uniform(const Shape& shape, std::uint64_t seed, std::uint64_t offset, double low, double high,
               DType dtype, Device device);
Tensor normal(const Shape& shape, std::uint64_t seed, std::uint64_t offset, double mean, double stddev,
              DType dtype, Device device);
Tensor dropout(const Tensor& x, double p, std::uint64_t seed, std::uint64_t offset);
/// In place, as the op; in f64 where param is. m and v f32 or f64.
void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, std::int64_t step, double grad_scale);
void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                const AdamwOptions& options, const Tensor& factors);
/// Reads its operands on the host.
Tensor adamw_factors(const Tensor& loss, const Tensor& squares, const Tensor& learning_rate,
                     const Tensor& updates, const AdamwOptions& options, double clip_norm);

}  // namespace candela::composed
