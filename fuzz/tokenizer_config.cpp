#include "fuzz/model_folder.h"
#include "fuzz/mutate.h"

/// A tokenizer_config.json.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const fuzz::ModelFolder folder("tokenizer_config.json");
  fuzz::expect_result_or_error([&] {
    const ModelConfig config = folder.load(fuzz::text_of(data, size));
    fuzz::check(!config.bos_token || config.bos_token->size() <= size, "a token is part of the file");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json});
}
