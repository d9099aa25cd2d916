#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/models/config.h>
#include <candela/models/linear.h>

#include "models/parameters.h"

/// Parts that blocks of transformers are made of.
namespace candela {

enum class NormKind : std::uint8_t {
  /// x / rms(x) w
  Rms,
  /// x / rms(x) (1 + w), as Gemma stores its weights
  RmsPlusOne,
  /// (x - mean) / std w + b
  Layer,
  LayerNoBias,
};

/// A norm over the last dimension.
class Norm {
 public:
  /// `path`.weight [width], and `path`.bias [width] of a Layer.
  Norm(Parameters& parameters, const std::string& path, std::int64_t width, NormKind kind, double eps);

  Tensor apply(const Tensor& x) const;
  /// {update + stream, its norm}, as one fused op where there is one.
  std::pair<Tensor, Tensor> add(const Tensor& update, const Tensor& stream) const;

 private:
  NormKind kind_;
  double eps_;
  const Tensor& weight_;
  const Tensor* bias_ = nullptr;
};

/// The residual stream of a transformer. Updates are added where the next norm reads the stream, so that both
/// are one fused op.
class ResidualStream {
 public:
  explicit ResidualStream(Tensor x) : x_(std::move(x)) {}

  /// The norm of the stream, or without one the stream itself.
  Tensor normed(const std::optional<Norm>& norm);
  /// To be called once between two reads.
  void add(Tensor update) { update_ = std::move(update); }
  /// The stream as it stands, [B, T, D].
  Tensor value() const;
  /// `block` on {the stream behind its last norm, normed}: the stream and the update that it leaves, recorded
  /// as one node that runs it again on the way back.
  void checkpoint(const Tensor& normed, Generator* dropout,
                  const std::function<void(ResidualStream& stream, const Tensor& normed)>& block);

 private:
  Tensor x_;
  Tensor update_;  // not yet added
};

/// Projections of one input, such as q, k and v: a group of layers, or one layer that holds them all, as some
/// checkpoints store them.
class Projections {
 public:
  struct Part {
    std::string name;
    std::int64_t outputs;
  };

  /// Layers `path`.NAME of the parts, or where `packed` is not empty the one layer `path`.`packed`.
  Projections(Parameters& parameters, const std::string& path, const std::vector<Part>& parts,
              std::int64_t inputs, bool bias, const std::string& packed = "");

  /// The parts' outputs [..., O], views of one tensor unless adapters have dropout.
  std::vector<Tensor> forward(const Tensor& x, Generator* dropout) const;

 private:
  const LinearGroup* group_ = nullptr;
  const Linear* packed_ = nullptr;
  std::vector<std::int64_t> sizes_;
};

enum class Activation : std::uint8_t { Silu, Gelu, GeluTanh, Relu };

/// The activation that hidden_act names; Unsupported for others.
Activation activation_of(const ModelConfig& config);

/// act(x).
Tensor activate(Activation activation, const Tensor& x);

/// act(gate) up (Shazeer, 2020): one fused op for silu and gelu.
Tensor activate_gated(Activation activation, const Tensor& gate, const Tensor& up);

/// The last dimension of x split into heads: [B, T, H D] -> [B, T, H, D].
Tensor split_heads(const Tensor& x, std::int64_t head_dim);

/// [B, T, H, D] -> [B, T, H D].
Tensor join_heads(const Tensor& x);

}  // namespace candela
