#include <candela/ops/norm.h>

#include "models/architectures.h"
#include "models/decoder.h"

/// Qwen3 (Yang et al., 2025): Llama with an RMS norm on every head of q and k before the rotation; some
/// layers may have a sliding window.
namespace candela {
namespace {

class Qwen3Attention {
 public:
  Qwen3Attention(Parameters& parameters, const std::string& path, const ModelConfig& config, int layer)
      : layer_(layer),
        head_dim_(config.head_dim),
        window_(layer_window(config, layer)),
        eps_(config.rms_norm_eps),
        qkv_(parameters.group({{path + ".q_proj", config.num_heads * head_dim_},
                               {path + ".k_proj", config.num_kv_heads * head_dim_},
                               {path + ".v_proj", config.num_kv_heads * head_dim_}},
                              config.hidden_size, config.attention_bias)),
        o_(parameters.linear(path + ".o_proj", config.hidden_size, config.num_heads * head_dim_,
                             config.attention_bias)),
        q_norm_(parameters.tensor(path + ".q_norm.weight", {head_dim_})),
        k_norm_(parameters.tensor(path + ".k_norm.weight", {head_dim_})) {}

  Tensor forward(const Tensor& x, const Step& step) const {
    const std::vector<Tensor> qkv = qkv_.forward(x, step.dropout);
    const Tensor q = rms_norm(split_heads(qkv[0], head_dim_), q_norm_, eps_);
    const Tensor k = rms_norm(split_heads(qkv[1], head_dim_), k_norm_, eps_);
    const Tensor mixed = attend(q, k, split_heads(qkv[2], head_dim_), step, layer_, window_);
    return apply_linear(mixed, o_, step.dropout);
  }

 private:
  int layer_;
  std::int64_t head_dim_;
  std::int64_t window_;  // 0: none
  double eps_;
  const LinearGroup& qkv_;
  const Linear& o_;
  const Tensor& q_norm_;
  const Tensor& k_norm_;
};

}  // namespace

std::unique_ptr<Model> make_qwen3(const ModelConfig& config, WeightSource& source) {
  return std::make_unique<DecoderOf<PreNormBlock<Qwen3Attention>>>(config, source);
}

}  // namespace candela
