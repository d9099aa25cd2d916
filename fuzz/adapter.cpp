#include <cmath>
#include <cstring>

#include <candela/core/grad.h>
#include <candela/core/parallel.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>

#include "fuzz/model_folder.h"
#include "fuzz/mutate.h"

/// A peft folder put on a model: adapter_config.json, a zero byte, then adapter_model.safetensors. What loads
/// must compute, and come off again.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const fuzz::ModelFolder folder("adapter_config.json");
  static const auto model = [] {
    set_thread_count(1);
    return make_model(ModelConfig::parse(R"({"model_type": "llama", "vocab_size": 16, "hidden_size": 8,
      "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8})",
                                         "tiny"));
  }();
  const std::string_view input = fuzz::text_of(data, size);
  const std::string_view config = input.substr(0, input.find('\0'));
  folder.put("adapter_config.json", config);
  folder.put("adapter_model.safetensors", config.size() < size ? input.substr(config.size() + 1) : "");
  fuzz::expect_result_or_error([&] {
    Lora lora = Lora::load(*model, folder.path());
    fuzz::check(lora.parameter_count() > 0, "an adapter that loads has parameters");
    const NoGrad guard;
    const Tensor logits =
        model->logits(model->forward_hidden(Tensor::from_values<std::int32_t>({1, 2, 3}, {1, 3})));
    fuzz::check(logits.numel() == 3 * 16, "the model computes with it");
    lora.detach();
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json, Part::Safetensors});
}
