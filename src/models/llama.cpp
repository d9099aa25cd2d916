#include "models/architectures.h"
#include "models/decoder.h"

/// Llama 1 to 3 (Touvron et al., 2023): RMS norm before each half of a block, rotary positions, grouped-query
/// attention, gated MLP.
namespace candela {
namespace {

class LlamaAttention {
 public:
  LlamaAttention(Parameters& parameters, const std::string& path, const ModelConfig& config, int layer)
      : layer_(layer),
        head_dim_(config.head_dim),
        q_(parameters.linear(path + ".q_proj", config.num_heads * head_dim_, config.hidden_size,
                             config.attention_bias)),
        k_(parameters.linear(path + ".k_proj", config.num_kv_heads * head_dim_, config.hidden_size,
                             config.attention_bias)),
        v_(parameters.linear(path + ".v_proj", config.num_kv_heads * head_dim_, config.hidden_size,
                             config.attention_bias)),
        o_(parameters.linear(path + ".o_proj", config.hidden_size, config.num_heads * head_dim_,
                             config.attention_bias)) {}

  Tensor forward(const Tensor& x, const Step& step) const {
    const std::vector<Tensor> qkv = apply_linear(x, {&q_, &k_, &v_}, step.dropout);
    const Tensor mixed = attend(split_heads(qkv[0], head_dim_), split_heads(qkv[1], head_dim_),
                                split_heads(qkv[2], head_dim_), step, layer_, 0);
    return apply_linear(mixed, o_, step.dropout);
  }

 private:
  int layer_;
  std::int64_t head_dim_;
  const Linear& q_;
  const Linear& k_;
  const Linear& v_;
  const Linear& o_;
};

}  // namespace

std::unique_ptr<Model> make_llama(const ModelConfig& config, WeightSource& source) {
  return std::make_unique<DecoderOf<PreNormBlock<LlamaAttention>>>(config, source);
}

}  // namespace candela
