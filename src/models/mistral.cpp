#include "models/architectures.h"
#include "models/decoder.h"

/// Mistral (Jiang et al., 2023): Llama without biases, whose attention sees no more than the last
/// `sliding_window` tokens.
namespace candela {
namespace {

class MistralAttention {
 public:
  MistralAttention(Parameters& parameters, const std::string& path, const ModelConfig& config, int layer)
      : layer_(layer),
        head_dim_(config.head_dim),
        window_(layer_window(config, layer)),
        qkv_(parameters.group({{path + ".q_proj", config.num_heads * head_dim_},
                               {path + ".k_proj", config.num_kv_heads * head_dim_},
                               {path + ".v_proj", config.num_kv_heads * head_dim_}},
                              config.hidden_size)),
        o_(parameters.linear(path + ".o_proj", config.hidden_size, config.num_heads * head_dim_)) {}

  Tensor forward(const Tensor& x, const Step& step) const {
    const std::vector<Tensor> qkv = qkv_.forward(x, step.dropout);
    const Tensor mixed = attend(split_heads(qkv[0], head_dim_), split_heads(qkv[1], head_dim_),
                                split_heads(qkv[2], head_dim_), step, layer_, window_);
    return apply_linear(mixed, o_, step.dropout);
  }

 private:
  int layer_;
  std::int64_t head_dim_;
  std::int64_t window_;  // 0: none
  const LinearGroup& qkv_;
  const Linear& o_;
};

}  // namespace

std::unique_ptr<Model> make_mistral(const ModelConfig& config, WeightSource& source) {
  return std::make_unique<DecoderOf<PreNormBlock<MistralAttention>>>(config, source);
}

}  // namespace candela
