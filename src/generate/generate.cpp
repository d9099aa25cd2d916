#include <algorithm>
#include <cmath>
#include <numeric>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/generate/generate.h>
#include <candela/ops/copy.h>
#include <candela/ops/gather.h>

#include "generate/text_stream.h"
#include "models/values.h"

namespace candela {
namespace {

/// One prompt on its way.
struct Row {
  Row(std::vector<TokenId> prompt, std::size_t index, const std::optional<Tokenizer>& tokenizer,
      const GenerateOptions& options, StreamCallback callback)
      : seen(std::move(prompt)),
        generator(options.seed ^ (0x9e3779b97f4a7c15ULL *
                                  index)),  // index 0 keeps the seed: a batch of one is a single call
        stream(tokenizer, options.stop_strings, std::move(callback)) {
    result.prompt_tokens = static_cast<std::int64_t>(seen.size());
  }

  std::vector<TokenId> seen;  // prompt and continuation
  Generator generator;
  TextStream stream;
  Generation result;
  bool finished = false;
};

/// Runs a batch of rows through the model until all have finished.
class BatchRun {
 public:
  BatchRun(Model& model, const GenerateOptions& options, const TextFrame& frame, std::vector<Row*> rows)
      : model_(model),
        options_(options),
        rows_(std::move(rows)),
        limit_(model.config().max_position_embeddings) {
    if (options.stop_at_eos) {
      for (const std::int64_t id : model.config().eos_token_ids) stops_.push_back(static_cast<TokenId>(id));
      if (frame.eos) stops_.push_back(*frame.eos);
    }
    stops_.insert(stops_.end(), options.stop_tokens.begin(), options.stop_tokens.end());
  }

  void run() {
    const NoGrad guard;
    std::int64_t longest = 0;
    for (const Row* row : rows_) longest = std::max(longest, row->result.prompt_tokens);
    const std::int64_t room =
        limit_ > 0 ? std::min(longest + options_.max_tokens, limit_) : longest + options_.max_tokens;
    // Not all of a generous max_tokens at once: the cache grows as tokens come.
    KvCache cache =
        model_.make_cache(static_cast<std::int64_t>(rows_.size()), std::min(room, longest + kFirstRoom));
    std::vector<std::vector<TokenId>> inputs;
    for (const Row* row : rows_) inputs.push_back(row->seen);
    while (true) {
      choose(forward(cache, inputs));
      drop_finished(cache);
      if (rows_.empty()) return;
      inputs.assign(rows_.size(), {});
      for (std::size_t b = 0; b < rows_.size(); ++b) {
        if (!rows_[b]->finished) inputs[b] = {rows_[b]->seen.back()};
      }
    }
  }

 private:
  static constexpr std::int64_t kFirstRoom = 256;

  /// The logits f32 [B, V] behind the last input of each row; rows without input get numbers that mean
  /// nothing.
  std::vector<float> forward(KvCache& cache, const std::vector<std::vector<TokenId>>& inputs) {
    std::size_t width = 0;
    for (const auto& input : inputs) width = std::max(width, input.size());
    std::vector<std::int32_t> ids(inputs.size() * width, 0);
    std::vector<std::int32_t> last(inputs.size());
    ForwardOptions options;
    options.cache = &cache;
    for (std::size_t b = 0; b < inputs.size(); ++b) {
      std::copy(inputs[b].begin(), inputs[b].end(), ids.begin() + static_cast<std::ptrdiff_t>(b * width));
      options.row_lengths.push_back(static_cast<std::int64_t>(inputs[b].size()));
      last[b] = static_cast<std::int32_t>(b * width + std::max<std::size_t>(inputs[b].size(), 1) - 1);
    }
    const auto batch = static_cast<std::int64_t>(inputs.size());
    const Device device = model_.device();
    Tensor hidden = model_.forward_hidden(
        Tensor::from_values(ids, {batch, static_cast<std::int64_t>(width)}, device), options);
    hidden = reshape(hidden, {hidden.size(0) * hidden.size(1), hidden.size(2)});
    if (width > 1) hidden = embedding(hidden, Tensor::from_values(last, {batch}, device));
    return cast(model_.logits(hidden), DType::F32).to_vector<float>();
  }

  void choose(const std::vector<float>& logits) {
    const std::size_t width = logits.size() / rows_.size();
    for (std::size_t b = 0; b < rows_.size(); ++b) {
      if (!rows_[b]->finished) extend(*rows_[b], std::span(logits).subspan(b * width, width));
    }
  }

  /// Refuses what sample() does not take, and names the part of the model that it came from: -inf rules a
  /// token out, where another is left.
  void check_logits(std::span<const float> logits) const {
    const auto broken = [](float logit) { return !std::isfinite(logit) && !(logit < 0); };
    const bool any =
        std::any_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); });
    const auto first = std::find_if(logits.begin(), logits.end(), broken);
    if (any && first == logits.end()) return;
    throw Error(fmt::format("generate: the model gave a logit of {}: {}",
                            first == logits.end() ? logits.front() : *first, broken_part(model_)));
  }

  TokenId draw(Row& row, std::span<const float> logits) const {
    try {
      return sample(logits, options_.sampling, row.seen, row.generator);
    } catch (const InvalidArgument&) {
      check_logits(logits);
      throw;
    }
  }

  void extend(Row& row, std::span<const float> logits) {
    GeneratedToken token;
    token.id = draw(row, logits);
    if (options_.log_probabilities) token.log_probability = log_probability(logits, token.id);
    token.alternatives = top_log_probabilities(logits, options_.alternatives);
    row.seen.push_back(token.id);
    row.result.tokens.push_back(std::move(token));
    const bool stop = std::find(stops_.begin(), stops_.end(), row.seen.back()) != stops_.end();
    const TextStream::State state = stop ? TextStream::State::Going : row.stream.add(row.seen.back());
    if (state != TextStream::State::Going) {
      finish(row,
             state == TextStream::State::StopString ? FinishReason::StopString : FinishReason::Cancelled);
    } else if (stop) {
      finish(row, FinishReason::StopToken);
    } else if (static_cast<std::int64_t>(row.result.tokens.size()) >= options_.max_tokens) {
      finish(row, FinishReason::Length);
    } else if (limit_ > 0 && static_cast<std::int64_t>(row.seen.size()) >= limit_) {
      finish(row, FinishReason::Context);
    }
  }

  void finish(Row& row, FinishReason reason) {
    row.finished = true;
    row.result.finish = reason;
    // The end of the text may still hold a stop string, or be refused.
    if (reason != FinishReason::StopString && reason != FinishReason::Cancelled) {
      const TextStream::State state = row.stream.finish();
      if (state == TextStream::State::StopString) row.result.finish = FinishReason::StopString;
      if (state == TextStream::State::Cancelled) row.result.finish = FinishReason::Cancelled;
    }
    row.result.text = row.stream.text();
  }

  /// Takes finished rows out of the batch once they are half of it: fewer copies than one at a time, and
  /// little wasted work.
  void drop_finished(KvCache& cache) {
    std::vector<std::int64_t> going;
    for (std::size_t b = 0; b < rows_.size(); ++b) {
      if (!rows_[b]->finished) going.push_back(static_cast<std::int64_t>(b));
    }
    if (2 * going.size() > rows_.size()) return;
    std::vector<Row*> rows;
    for (const std::int64_t b : going) rows.push_back(rows_[static_cast<std::size_t>(b)]);
    if (!going.empty()) cache.select_rows(going);
    rows_ = std::move(rows);
  }

  Model& model_;
  const GenerateOptions& options_;
  std::vector<Row*> rows_;
  std::int64_t limit_;
  std::vector<TokenId> stops_;
};

void check_options(const GenerateOptions& options, bool has_tokenizer) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  check_sampling(options.sampling);
  require(options.max_tokens > 0 && options.max_tokens <= kMost,
          "generate: max_tokens must be in [1, {}]; got {}", kMost, options.max_tokens);
  require(options.batch_size > 0 && options.batch_size <= kMost,
          "generate: batch_size must be in [1, {}]; got {}", kMost, options.batch_size);
  require(options.alternatives >= 0, "generate: alternatives must be 0 or more; got {}",
          options.alternatives);
  require(options.stop_strings.empty() || has_tokenizer, "generate: stop strings need a tokenizer");
  for (const std::string& stop : options.stop_strings)
    require(!stop.empty(), "generate: a stop string must not be empty");
}

void check_prompt(const ModelConfig& config, std::span<const TokenId> prompt) {
  require(!prompt.empty(), "generate: the prompt has no tokens");
  const auto length = static_cast<std::int64_t>(prompt.size());
  require(config.max_position_embeddings == 0 || length < config.max_position_embeddings,
          "generate: the prompt must be shorter than the model's context of {} tokens; got {}",
          config.max_position_embeddings, length);
  for (const TokenId id : prompt) {
    require(id >= 0 && id < config.vocab_size,
            "generate: prompt ids must be in [0, {}), as the model's vocab_size says; got {}: use the "
            "model's own "
            "tokenizer",
            config.vocab_size, id);
  }
}

}  // namespace

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
                                   const StreamCallback& stream) {
  check_options(options, tokenizer_.has_value());
  check_prompt(model_.config(), prompt);
  require(!stream || tokenizer_.has_value(), "generate: streaming text needs a tokenizer");
  Row row(std::vector<TokenId>(prompt.begin(), prompt.end()), 0, tokenizer_, options, stream);
  BatchRun(model_, options, frame_, {&row}).run();
  return std::move(row.result);
}

std::vector<Generation> TextGenerator::generate_batch(const std::vector<std::vector<TokenId>>& prompts,
                                                      const GenerateOptions& options,
                                                      const std::function<void(std::size_t)>& done) {
  check_options(options, tokenizer_.has_value());
  for (const std::vector<TokenId>& prompt : prompts) check_prompt(model_.config(), prompt);
  std::vector<std::size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return prompts[a].size() < prompts[b].size(); });
  std::vector<Generation> results(prompts.size());
  const auto batch = static_cast<std::size_t>(options.batch_size);
  for (std::size_t start = 0; start < order.size(); start += batch) {
    const std::size_t end = std::min(start + batch, order.size());
    std::vector<std::unique_ptr<Row>> rows;
    std::vector<Row*> pointers;
    for (std::size_t i = start; i < end; ++i) {
      rows.push_back(
          std::make_unique<Row>(prompts[order[i]], order[i], tokenizer_, options, StreamCallback()));
      pointers.push_back(rows.back().get());
    }
    BatchRun(model_, options, frame_, std::move(pointers)).run();
    for (std::size_t i = start; i < end; ++i) results[order[i]] = std::move(rows[i - start]->result);
    if (done) done(end);
  }
  return results;
}

}  // namespace candela
