#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <numeric>

#include <candela/generate/sampling.h>

#include "support/property.h"

namespace candela {
namespace {

/// The partial sort behind top_p gives what sorting everything gives.
TEST(SamplingProperty, NucleusOfALargeVocabularyEqualsTheFullSort) {
  test::check_property("nucleus", [](test::Draw& draw) {
    Generator generator(draw.seed());
    const double p = static_cast<double>(draw.in(1, 99)) / 100.0;
    std::vector<float> logits(3000);
    for (float& logit : logits) logit = 4 * generator.next_uniform();
    std::vector<std::size_t> order(logits.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    double total = 0;
    for (const float logit : logits) total += std::exp(static_cast<double>(logit));
    double sum = 0;
    std::size_t kept = 0;
    while (sum < p * total * (1 - 1e-12)) sum += std::exp(static_cast<double>(logits[order[kept++]]));
    const std::vector<Candidate> choices = candidates(logits, {.temperature = 1, .top_p = p}, {});
    if (choices.size() + 1 < kept || choices.size() > kept + 1)
      return false;  // the last may hang on rounding
    for (std::size_t i = 0; i < std::min(kept, choices.size()); ++i) {
      if (choices[i].id != static_cast<TokenId>(order[i])) return false;
    }
    return true;
  });
}

}  // namespace
}  // namespace candela
