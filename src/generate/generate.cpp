#include <algorithm>
#include <numeric>

#include <candela/core/error.h>
#include <candela/generate/generate.h>
#include <candela/generate/run.h>

#include "generate/requests.h"

namespace candela {

std::string_view to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::Length:
      return "length";
    case FinishReason::Context:
      return "context";
    case FinishReason::StopToken:
      return "stop_token";
    case FinishReason::StopString:
      return "stop_string";
    case FinishReason::Cancelled:
      return "cancelled";
  }
  throw InvalidArgument("finish reason: unknown value");
}

std::vector<TokenId> Generation::ids() const {
  std::vector<TokenId> result;
  result.reserve(tokens.size());
  for (const GeneratedToken& token : tokens) result.push_back(token.id);
  return result;
}

TextGenerator::TextGenerator(Model& model, std::optional<Tokenizer> tokenizer)
    : model_(model), tokenizer_(std::move(tokenizer)) {
  if (tokenizer_) frame_ = text_frame(*tokenizer_, model_.config());
}

Generation TextGenerator::generate(std::string_view prompt, const GenerateOptions& options,
                                   const StreamCallback& stream) {
  require(tokenizer_.has_value(), "generate: a text prompt needs a tokenizer");
  return generate(frame_.framed(tokenizer_->encode(prompt, false)), options, stream);
}

Generation TextGenerator::generate(std::span<const TokenId> prompt, const GenerateOptions& options,
                                   const StreamCallback& stream, PrefixCache* prefix) {
  GenerationRun run(model_, tokenizer_);
  run.add({{prompt.begin(), prompt.end()}, options, 0, stream, prefix});
  while (run.step()) {
  }
  return std::move(run.finished().front().second);
}

std::vector<Generation> TextGenerator::generate_batch(const std::vector<std::vector<TokenId>>& prompts,
                                                      const GenerateOptions& options,
                                                      const std::function<void(std::size_t)>& done) {
  check_generate_options(options, tokenizer_.has_value());
  for (const std::vector<TokenId>& prompt : prompts) check_prompt(model_.config(), prompt);
  std::vector<std::size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return prompts[a].size() < prompts[b].size(); });
  std::vector<Generation> results(prompts.size());
  const auto batch = static_cast<std::size_t>(options.batch_size);
  for (std::size_t start = 0; start < order.size(); start += batch) {
    const std::size_t end = std::min(start + batch, order.size());
    GenerationRun run(model_, tokenizer_);
    for (std::size_t i = start; i < end; ++i) run.add({prompts[order[i]], options, order[i], {}, nullptr});
    while (run.step()) {
    }
    for (auto& [number, generation] : run.finished()) results[order[start + number]] = std::move(generation);
    if (done) done(end);
  }
  return results;
}

}  // namespace candela
