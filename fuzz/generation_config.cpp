#include <algorithm>

#include <candela/generate/sampling.h>

#include "fuzz/model_folder.h"
#include "fuzz/mutate.h"

/// A generation_config.json. Its sampling defaults, if they pass their check, choose a token.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const fuzz::ModelFolder folder("generation_config.json");
  fuzz::expect_result_or_error([&] {
    const ModelConfig config = folder.load(fuzz::text_of(data, size));
    fuzz::check(std::all_of(config.eos_token_ids.begin(), config.eos_token_ids.end(),
                            [&](std::int64_t id) { return id >= 0 && id < config.vocab_size; }),
                "ids are within the vocabulary");
    const SamplingOptions options = default_sampling(config);
    check_sampling(options);
    constexpr float kLogits[] = {0.5F, -1.0F, 2.0F};
    fuzz::check(!candidates(kLogits, options, {}).empty(), "there is a token to choose");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json});
}
