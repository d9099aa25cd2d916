// Fine-tunes a model on a JSONL file with LoRA and continues a prompt: example_finetune MODEL_FOLDER
// DATA_FILE OUTPUT_FOLDER PROMPT [DEVICE]
#include <cstdio>

#include <candela/candela.h>

int main(int argc, char** argv) try {
  if (argc < 5) {
    std::fprintf(stderr, "usage: %s MODEL_FOLDER DATA_FILE OUTPUT_FOLDER PROMPT [DEVICE]\n", argv[0]);
    return 2;
  }
  const candela::Device device = candela::parse_device(argc > 5 ? argv[5] : "cpu");
  const auto model = candela::load_model(argv[1], {.dtype = candela::DType::F32, .device = device});
  const auto tokenizer = candela::Tokenizer::load(argv[1]);
  const auto rows = candela::DatasetOptions::for_model(tokenizer, model->config());
  const auto data = candela::Dataset::load(argv[2], tokenizer, rows);
  const candela::Lora lora = candela::Lora::attach(*model, {.rank = 16, .alpha = 32});

  candela::TrainOptions options;
  options.max_steps = 20;
  options.adamw.lr = 1e-3;
  candela::Trainer(*model, options).fit(data.samples, {}, [](const candela::StepReport& report) {
    std::printf("step %2ld  loss %.4f\n", static_cast<long>(report.step), report.loss);
  });
  lora.save(argv[3], argv[1]);

  candela::TextGenerator generator(*model, tokenizer);
  std::printf("%s\n", generator.generate(argv[4], {.max_tokens = 60}).text.c_str());
  return 0;
} catch (const candela::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
