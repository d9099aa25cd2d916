#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/ops/weight.h>

namespace candela {

/// A low-rank adapter on a linear layer: adds scale (x a^T) b^T to its output (Hu et al., 2021).
struct LoraAdapter {
  /// [r, I]; undefined: no adapter
  Tensor a;
  /// [O, r]
  Tensor b;
  double scale = 1;
  /// probability that an element of the adapter's input is dropped in training
  double dropout = 0;
  bool enabled = true;
  /// while merged into the layer's weight: the weight before, if it was kept
  Weight original;
  bool merged = false;
};

class LinearGroup;

/// A linear layer of a model: y = x weight^T + bias, and the place where an adapter attaches.
struct Linear {
  /// the module path of transformers, "model.layers.0.self_attn.q_proj"
  std::string path;
  /// [O, I]; in a group, rows of the group's: replace it by set_weights()
  Weight weight;
  /// [O] or undefined
  Tensor bias;
  LoraAdapter adapter;
  /// null: the layer has its input for itself
  LinearGroup* group = nullptr;

  std::int64_t inputs() const { return weight.inputs(); }
  std::int64_t outputs() const { return weight.outputs(); }
  bool adapted() const { return adapter.a.defined() && adapter.enabled && !adapter.merged; }
};

/// What is done to the input of linear layers first. Composed of ops; a backend may fuse it with the product.
struct Prologue {
  enum class Kind : std::uint8_t {
    /// x
    None,
    /// rms_norm(x, weight, eps)
    RmsNorm,
    /// silu(x) up
    Swiglu,
  };

  Kind kind = Kind::None;
  Tensor x;
  Tensor weight;
  double eps = 0;
  Tensor up;

  Prologue(Tensor input) : x(std::move(input)) {}  // NOLINT(google-explicit-constructor): the plain input
  static Prologue rms_norm(Tensor x, Tensor weight, double eps);
  static Prologue swiglu(Tensor gate, Tensor up);

  /// The input of the product, [..., I].
  Tensor apply() const;
};

/// Linear layers that share an input, such as q, k and v: one weight [sum O, I] of which each layer's is a
/// run of rows, one bias, one product, one packed result. Where dense weights are not rows of one tensor
/// already, they are copied together. Const members may be called on several threads at once, while nobody
/// changes a weight or an adapter.
class LinearGroup {
 public:
  /// The layers, in the order of their outputs; they must stay where they are. All have a bias or none.
  explicit LinearGroup(std::vector<Linear*> layers);
  LinearGroup(const LinearGroup&) = delete;
  LinearGroup& operator=(const LinearGroup&) = delete;

  std::span<Linear* const> layers() const { return layers_; }
  /// [sum O, I]
  const Weight& weight() const { return weight_; }
  /// [sum O] or undefined
  const Tensor& bias() const { return bias_; }

  /// The layers' outputs [..., O] side by side, [..., sum O], and with a generator (training) as views of
  /// tensors of their own where adapters have dropout, each with a mask of its own. Gradients for the input
  /// and the adapters.
  std::vector<Tensor> forward(const Prologue& input, Generator* dropout = nullptr) const;

 private:
  friend void set_weights(std::span<const std::pair<Linear*, Weight>> weights);

  std::vector<Linear*> layers_;
  Weight weight_;
  Tensor bias_;
};

/// Gives layers other weights of the same shape and dtype. Layers of one group are replaced best in one call:
/// their group's weight is put together once. Strong guarantee: after an exception nothing has changed.
void set_weights(std::span<const std::pair<Linear*, Weight>> weights);

/// The output [..., O] of one layer for x [..., I], its adapter included: one fused op. With a generator, the
/// adapter's input goes through dropout (training). Gradients for the input and the adapter.
Tensor apply_linear(const Prologue& input, const Linear& layer, Generator* dropout = nullptr);

}  // namespace candela
