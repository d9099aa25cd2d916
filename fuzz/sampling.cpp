#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include <candela/generate/sampling.h>

#include "fuzz/model_folder.h"
#include "fuzz/mutate.h"

/// From a generation_config.json to tokens: the text of the file, a zero byte, then logits as they lie, f32.
/// What passes its checks must choose a token that is there.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const fuzz::ModelFolder folder("generation_config.json");
  const std::string_view input = fuzz::text_of(data, size);
  const std::string_view text = input.substr(0, input.find('\0'));
  const std::string_view rest = text.size() < size ? input.substr(text.size() + 1) : std::string_view();
  std::vector<float> logits(rest.size() / sizeof(float));
  if (!logits.empty()) std::memcpy(logits.data(), rest.data(), logits.size() * sizeof(float));
  fuzz::expect_result_or_error([&] {
    const SamplingOptions options = default_sampling(folder.load(text));
    std::vector<TokenId> seen;
    for (std::size_t i = 0; i < logits.size(); i += 2) seen.push_back(static_cast<TokenId>(i));
    const std::vector<Candidate> choices = candidates(logits, options, seen);
    fuzz::check(!choices.empty(), "there is a token to choose");
    double total = 0;
    for (const Candidate& choice : choices) {
      fuzz::check(choice.probability >= 0 && choice.probability <= 1, "a probability is one");
      fuzz::check(logits[static_cast<std::size_t>(choice.id)] > -INFINITY, "an excluded token stays out");
      total += choice.probability;
    }
    fuzz::check(std::abs(total - 1) < 1e-9, "probabilities add up to 1");
    Generator generator(size);
    const TokenId drawn = sample(logits, options, seen, generator);
    fuzz::check(
        std::any_of(choices.begin(), choices.end(), [&](const Candidate& c) { return c.id == drawn; }),
        "what is drawn is among the candidates");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json, Part::Bytes});
}
