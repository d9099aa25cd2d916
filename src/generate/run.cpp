#include <algorithm>
#include <cmath>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/generate/run.h>
#include <candela/ops/copy.h>
#include <candela/ops/gather.h>

#include "generate/requests.h"
#include "generate/text_stream.h"
#include "models/values.h"

namespace candela {
void check_generate_options(const GenerateOptions& options, bool has_tokenizer) {
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

namespace {

/// Tokens of room behind the longest prompt: not all of a generous max_tokens at once, the cache grows as
/// tokens come.
constexpr std::int64_t kFirstRoom = 256;

/// One request on its way.
struct Row {
  Row(std::size_t request_number, GenerationRequest request, const std::optional<Tokenizer>& tokenizer,
      std::vector<TokenId> stop_ids)
      : number(request_number),
        options(std::move(request.options)),
        stops(std::move(stop_ids)),
        seen(std::move(request.prompt)),
        // Stream 0 keeps the seed: a batch of one is a single call.
        generator(options.seed ^ (0x9e3779b97f4a7c15ULL * request.stream)),
        stream(tokenizer, options.stop_strings, std::move(request.callback)),
        prefix(request.prefix) {
    result.prompt_tokens = static_cast<std::int64_t>(seen.size());
  }
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;

  std::size_t number;
  GenerateOptions options;
  std::vector<TokenId> stops;
  std::vector<TokenId> seen;  // prompt and continuation
  Generator generator;
  TextStream stream;
  PrefixCache* prefix;
  Generation result;
  bool finished = false;

  void finish(FinishReason reason) {
    finished = true;
    result.finish = reason;
    // The end of the text may still hold a stop string, or be refused.
    if (reason != FinishReason::StopString && reason != FinishReason::Cancelled) {
      const TextStream::State state = stream.finish();
      if (state == TextStream::State::StopString) result.finish = FinishReason::StopString;
      if (state == TextStream::State::Cancelled) result.finish = FinishReason::Cancelled;
    }
    result.text = stream.text();
  }
};

using Rows = std::vector<std::unique_ptr<Row>>;

}  // namespace

struct GenerationRun::State {
  Model& model;
  std::optional<Tokenizer> tokenizer;
  TextFrame frame;
  std::int64_t limit;  // tokens of a row; 0: none
  Rows waiting;
  Rows rows;  // in the order of the cache's rows
  std::optional<KvCache> cache;
  std::vector<std::pair<std::size_t, Generation>> done;
  std::size_t next = 0;

  State(Model& of, std::optional<Tokenizer> with)
      : model(of), tokenizer(std::move(with)), limit(of.config().max_position_embeddings) {
    if (tokenizer) frame = text_frame(*tokenizer, model.config());
  }

  std::vector<TokenId> stops_of(const GenerateOptions& options) const {
    std::vector<TokenId> stops;
    if (options.stop_at_eos) {
      for (const std::int64_t id : model.config().eos_token_ids) stops.push_back(static_cast<TokenId>(id));
      if (frame.eos) stops.push_back(*frame.eos);
    }
    stops.insert(stops.end(), options.stop_tokens.begin(), options.stop_tokens.end());
    return stops;
  }

  /// The logits f32 [B, V] behind the last input of each row; rows without input get numbers that mean
  /// nothing.
  std::vector<float> forward(KvCache& through, const std::vector<std::vector<TokenId>>& inputs) const {
    std::size_t width = 0;
    for (const auto& input : inputs) width = std::max(width, input.size());
    std::vector<std::int32_t> ids(inputs.size() * width, 0);
    std::vector<std::int32_t> last(inputs.size());
    ForwardOptions options;
    options.cache = &through;
    for (std::size_t b = 0; b < inputs.size(); ++b) {
      std::copy(inputs[b].begin(), inputs[b].end(), ids.begin() + static_cast<std::ptrdiff_t>(b * width));
      options.row_lengths.push_back(static_cast<std::int64_t>(inputs[b].size()));
      last[b] = static_cast<std::int32_t>(b * width + std::max<std::size_t>(inputs[b].size(), 1) - 1);
    }
    const auto batch = static_cast<std::int64_t>(inputs.size());
    const Device device = model.device();
    Tensor hidden = model.forward_hidden(
        Tensor::from_values(ids, {batch, static_cast<std::int64_t>(width)}, device), options);
    hidden = reshape(hidden, {hidden.size(0) * hidden.size(1), hidden.size(2)});
    if (width > 1) hidden = embedding(hidden, Tensor::from_values(last, {batch}, device));
    return cast(model.logits(hidden), DType::F32).to_vector<float>();
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
                            first == logits.end() ? logits.front() : *first, broken_part(model)));
  }

  TokenId draw(Row& row, std::span<const float> logits) const {
    try {
      return sample(logits, row.options.sampling, row.seen, row.generator);
    } catch (const InvalidArgument&) {
      check_logits(logits);
      throw;
    }
  }

  void extend(Row& row, std::span<const float> logits) const {
    GeneratedToken token;
    token.id = draw(row, logits);
    if (row.options.log_probabilities) token.log_probability = log_probability(logits, token.id);
    token.alternatives = top_log_probabilities(logits, row.options.alternatives);
    row.seen.push_back(token.id);
    row.result.tokens.push_back(std::move(token));
    const bool stop = std::find(row.stops.begin(), row.stops.end(), row.seen.back()) != row.stops.end();
    const TextStream::State state = stop ? TextStream::State::Going : row.stream.add(row.seen.back());
    if (state != TextStream::State::Going) {
      row.finish(state == TextStream::State::StopString ? FinishReason::StopString : FinishReason::Cancelled);
    } else if (stop) {
      row.finish(FinishReason::StopToken);
    } else if (static_cast<std::int64_t>(row.result.tokens.size()) >= row.options.max_tokens) {
      row.finish(FinishReason::Length);
    } else if (limit > 0 && static_cast<std::int64_t>(row.seen.size()) >= limit) {
      row.finish(FinishReason::Context);
    }
  }

  /// The inputs through the model, and a token for each row that still runs.
  void advance(const Rows& of, KvCache& through, const std::vector<std::vector<TokenId>>& inputs) const {
    const std::vector<float> logits = forward(through, inputs);
    const std::size_t width = logits.size() / of.size();
    for (std::size_t b = 0; b < of.size(); ++b) {
      if (!of[b]->finished) extend(*of[b], std::span(logits).subspan(b * width, width));
    }
  }

  /// The cache of a request that runs alone, cut to what its prompt begins with; nothing if it holds none of
  /// that.
  std::optional<KvCache> take_prefix(Row& row) const {
    if (row.prefix == nullptr) return std::nullopt;
    const std::vector<TokenId> held = std::exchange(row.prefix->tokens, {});
    std::optional<KvCache> kept = std::exchange(row.prefix->cache, std::nullopt);
    // Beyond the trained length the angles of `dynamic` are those of the whole text: older keys have others.
    if (!kept || kept->batch() != 1 || model.config().rope.type == "dynamic") return std::nullopt;
    // One token must be left to predict from.
    const std::size_t most =
        std::min({held.size(), row.seen.size() - 1, static_cast<std::size_t>(kept->longest())});
    const auto [differs, ignored] =
        std::mismatch(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(most), row.seen.begin());
    row.result.cached_tokens = differs - held.begin();
    if (row.result.cached_tokens == 0) return std::nullopt;
    kept->truncate(row.result.cached_tokens);
    return kept;
  }

  /// Leaves what a request that ran alone has seen where its next one finds it.
  void keep_prefix() {
    if (rows.size() != 1 || rows[0]->prefix == nullptr || !cache) return;
    const std::vector<TokenId>& seen = rows[0]->seen;
    rows[0]->prefix->tokens.assign(seen.begin(), seen.begin() + cache->longest());
    rows[0]->prefix->cache = std::move(cache);
  }

  /// The waiting requests' prompts, in a cache of their own that joins that of the others.
  void prefill() {
    Rows started = std::move(waiting);
    waiting.clear();
    std::int64_t longest = 0;
    std::int64_t room = 0;
    std::vector<std::vector<TokenId>> inputs;
    std::optional<KvCache> kept;
    if (started.size() == 1 && !cache) kept = take_prefix(*started.front());
    for (const auto& row : started) {
      longest = std::max(longest, row->result.prompt_tokens);
      room = std::max(room, row->options.max_tokens);
      inputs.emplace_back(row->seen.begin() + row->result.cached_tokens, row->seen.end());
    }
    room = std::min(longest + std::min(room, kFirstRoom), limit > 0 ? limit : longest + room);
    KvCache fresh =
        kept ? std::move(*kept) : model.make_cache(static_cast<std::int64_t>(started.size()), room);
    if (kept) fresh.reserve(room - fresh.longest());
    advance(started, fresh, inputs);
    if (cache) {
      cache->join(fresh);
    } else {
      cache.emplace(std::move(fresh));
    }
    for (auto& row : started) rows.push_back(std::move(row));
  }

  /// Hands out the finished, and takes their rows out of the cache once they are half of it: fewer copies
  /// than one at a time, and little wasted work.
  void collect() {
    std::vector<std::int64_t> going;
    for (std::size_t b = 0; b < rows.size(); ++b) {
      if (rows[b]->finished && rows[b]->number != kTaken) {
        done.emplace_back(rows[b]->number, std::move(rows[b]->result));
        rows[b]->number = kTaken;
      }
      if (!rows[b]->finished) going.push_back(static_cast<std::int64_t>(b));
    }
    if (2 * going.size() > rows.size()) return;
    Rows kept;
    for (const std::int64_t b : going) kept.push_back(std::move(rows[static_cast<std::size_t>(b)]));
    if (going.empty()) {
      keep_prefix();
      cache.reset();
    } else {
      cache->select_rows(going);
    }
    rows = std::move(kept);
  }

  static constexpr std::size_t kTaken = static_cast<std::size_t>(-1);
};

GenerationRun::GenerationRun(Model& model, std::optional<Tokenizer> tokenizer)
    : state_(std::make_unique<State>(model, std::move(tokenizer))) {}

GenerationRun::~GenerationRun() = default;

std::size_t GenerationRun::add(GenerationRequest request) {
  check_generate_options(request.options, state_->tokenizer.has_value());
  check_prompt(state_->model.config(), request.prompt);
  require(!request.callback || state_->tokenizer.has_value(), "generate: streaming text needs a tokenizer");
  std::vector<TokenId> stops = state_->stops_of(request.options);
  state_->waiting.push_back(
      std::make_unique<Row>(state_->next, std::move(request), state_->tokenizer, std::move(stops)));
  return state_->next++;
}

bool GenerationRun::step() {
  const NoGrad guard;
  if (!state_->waiting.empty()) {
    state_->prefill();
  } else if (!state_->rows.empty()) {
    std::vector<std::vector<TokenId>> inputs(state_->rows.size());
    for (std::size_t b = 0; b < inputs.size(); ++b) {
      if (!state_->rows[b]->finished) inputs[b] = {state_->rows[b]->seen.back()};
    }
    state_->advance(state_->rows, *state_->cache, inputs);
  } else {
    return false;
  }
  state_->collect();
  return true;
}

void GenerationRun::cancel(std::size_t request) {
  for (auto& row : state_->rows) {
    if (row->number == request && !row->finished) row->finish(FinishReason::Cancelled);
  }
  for (std::size_t i = 0; i < state_->waiting.size(); ++i) {
    Row& row = *state_->waiting[i];
    if (row.number != request) continue;
    row.finish(FinishReason::Cancelled);
    state_->done.emplace_back(request, std::move(row.result));
    state_->waiting.erase(state_->waiting.begin() + static_cast<std::ptrdiff_t>(i));
    break;
  }
  state_->collect();
}

std::size_t GenerationRun::running() const {
  const auto runs = [](const std::unique_ptr<Row>& row) { return !row->finished; };
  return state_->waiting.size() +
         static_cast<std::size_t>(std::count_if(state_->rows.begin(), state_->rows.end(), runs));
}

std::vector<std::pair<std::size_t, Generation>> GenerationRun::finished() {
  return std::exchange(state_->done, {});
}

}  // namespace candela
