// Puts fresh LoRA adapters on a model, takes one gradient step on a text, and saves them: example_adapter MODEL_FOLDER TEXT OUTPUT_FOLDER
#include <cstdio>

#include <candela/candela.h>

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s MODEL_FOLDER TEXT OUTPUT_FOLDER\n", argv[0]);
    return 2;
  }
  const auto model = candela::load_model(argv[1], {.dtype = candela::DType::F32});
  const candela::Lora lora = candela::Lora::attach(*model, {.rank = 8, .alpha = 16});
  const std::vector<candela::TokenId> tokens = candela::Tokenizer::load(argv[1]).encode(argv[2]);
  const auto ids = candela::Tensor::from_values(tokens, {1, static_cast<std::int64_t>(tokens.size())});
  const auto loss = [&] { return model->loss(model->forward_hidden(ids), candela::shift_labels(ids)); };
  const candela::Tensor before = loss();
  candela::backward(before);
  for (const candela::NamedTensor& parameter : lora.parameters()) {
    const auto zero = candela::zeros(parameter.tensor.shape());
    candela::adamw_step(parameter.tensor, parameter.tensor.grad(), zero, candela::clone(zero), {.lr = 1e-3}, 1);
  }
  const auto predicted = static_cast<double>(tokens.size() - 1);
  std::printf("loss per token: %.4f before, %.4f after one step\n", before.item() / predicted, loss().item() / predicted);
  lora.save(argv[3], argv[1]);
  return 0;
} catch (const candela::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
