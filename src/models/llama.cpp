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
        qkv_(parameters.group({{path + ".q_proj", config.num_heads * head_dim_},
                               {path + ".k_proj", config.num_kv_heads * head_dim_},
                               {path + ".v_proj", config.num_kv_heads * head_dim_}},
                              config.hidden_size, config.attention_bias)),
        o_(parameters.linear(path + ".o_proj", config.hidden_size, config.num_heads * head_dim_,
                             config.attention_bias)) {}

  Tensor forward(const Tensor& x, const Step& step) const {
    const std::vector<Tensor> qkv = qkv_.forward(x, step.dropout);
    const Tensor mixed = attend(split_heads(qkv[0], head_dim_), split_heads(qkv[1], head_dim_),
                                split_heads(qkv[2], head_dim_), step, layer_, 0);
    return apply_linear(mixed, o_, step.dropout);
  }

 private:
  int layer_;
  std::int64_t head_dim_;
  const LinearGroup& qkv_;
  const Linear& o_;
};

}  // namespace

std::unique_ptr<Model> make_llama(const ModelConfig& config, WeightSource& source) {
  return std::make_unique<DecoderOf<PreNormBlock<LlamaAttention>>>(config, source);
}

}  // namespace candela
