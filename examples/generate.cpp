// Continues a prompt, token by token: example_generate MODEL_FOLDER PROMPT [DEVICE [ADAPTER_FOLDER]]
#include <cstdio>

#include <candela/candela.h>

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL_FOLDER PROMPT [DEVICE [ADAPTER_FOLDER]]\n", argv[0]);
    return 2;
  }
  const auto model =
      candela::load_model(argv[1], {.device = candela::parse_device(argc > 3 ? argv[3] : "cpu")});
  if (argc > 4) candela::Lora::load(*model, argv[4]);
  candela::TextGenerator generator(*model, candela::Tokenizer::load(argv[1]));
  candela::GenerateOptions options;
  options.max_tokens = 100;
  options.sampling = {.temperature = 0.7, .top_p = 0.9};
  generator.generate(argv[2], options, [](std::string_view piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
    return true;
  });
  std::puts("");
  return 0;
} catch (const candela::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
