#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <rapidcheck/gtest.h>

#include <candela/generate/sampling.h>

namespace candela {
namespace {

/// The partial sort behind top_p gives what sorting everything gives.
RC_GTEST_PROP(SamplingProperty, NucleusOfALargeVocabularyEqualsTheFullSort, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const double p = *rc::gen::inRange(1, 100) / 100.0;
  Generator generator(seed);
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
  RC_ASSERT(choices.size() + 1 >= kept);  // the last one may hang on rounding
  RC_ASSERT(choices.size() <= kept + 1);
  for (std::size_t i = 0; i < std::min(kept, choices.size()); ++i)
    RC_ASSERT(choices[i].id == static_cast<TokenId>(order[i]));
}

}  // namespace
}  // namespace candela
