#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <candela/generate/sampling.h>
#include <candela/io/text_frame.h>
#include <candela/io/tokenizer.h>
#include <candela/models/kv_cache.h>
#include <candela/models/model.h>

/// Continuing texts with a model.
namespace candela {

struct GenerateOptions {
  /// of the continuation
  std::int64_t max_tokens = 256;
  SamplingOptions sampling{};
  /// prompt i of a call draws from its own stream of this seed, whatever the batch
  std::uint64_t seed = 0;
  /// any of config().eos_token_ids, and the tokenizer's EOS, ends the text
  bool stop_at_eos = true;
  /// these do as well
  std::vector<TokenId> stop_tokens{};
  /// the text ends before the first of these; needs a tokenizer
  std::vector<std::string> stop_strings{};
  /// fill GeneratedToken::log_probability
  bool log_probabilities = false;
  /// how many entries GeneratedToken::alternatives gets
  std::int64_t alternatives = 0;
  /// most prompts in one forward pass
  std::int64_t batch_size = 16;
};

/// Probabilities are the model's own: before penalty, temperature and filters.
struct GeneratedToken {
  TokenId id = 0;
  double log_probability = 0;
  std::vector<std::pair<TokenId, double>>
      /// the most likely tokens and their log-probabilities
      alternatives;
};

enum class FinishReason { Length, Context, StopToken, StopString, Cancelled };
/// "length", "context", "stop_token", "stop_string", "cancelled".
std::string_view to_string(FinishReason reason);

struct Generation {
  /// What was generated, a final stop token included.
  std::vector<GeneratedToken> tokens;
  /// Their text, without the stop token and without the stop string and what follows it. Empty without a
  /// tokenizer.
  std::string text;
  FinishReason finish = FinishReason::Length;
  std::int64_t prompt_tokens = 0;
  /// of these, the tokens that a PrefixCache held, and that were not computed again
  std::int64_t cached_tokens = 0;

  std::vector<TokenId> ids() const;
};

/// The keys and values of an earlier text, for one that begins alike: of a conversation, each turn computes
/// only what is new. Belongs to one model, whose layers and adapters stay as they are between the texts; else
/// clear() it.
struct PrefixCache {
  /// those that `cache` holds, in its only row
  std::vector<TokenId> tokens;
  std::optional<KvCache> cache;

  void clear() {
    tokens.clear();
    cache.reset();
  }
};

/// Receives the text as it comes, in whole characters; what may turn out to be the beginning of a stop string
/// is held back. False ends the generation.
using StreamCallback = std::function<bool(std::string_view text)>;

/// Generates with one model; not safe from several threads at once, but each of several threads may have one
/// of its own on the same model. The model must outlive it.
class TextGenerator {
 public:
  explicit TextGenerator(Model& model, std::optional<Tokenizer> tokenizer = std::nullopt);

  /// Continues `prompt`, with the prefix of the model's text_frame() in front as in training. InvalidArgument
  /// without a tokenizer, for an empty prompt or one that leaves no room for a token within
  /// max_position_embeddings, and for options out of range; Error naming a weight that is not finite.
  Generation generate(std::string_view prompt, const GenerateOptions& options = {},
                      const StreamCallback& stream = {});
  /// `prefix`: begins with what it holds of the prompt, and leaves the prompt and its continuation there.
  Generation generate(std::span<const TokenId> prompt, const GenerateOptions& options = {},
                      const StreamCallback& stream = {}, PrefixCache* prefix = nullptr);

  /// Continues many prompts, batch_size of them at a time, those of like length together; results are in the
  /// order of the prompts. `done`, if given, is called with the number of prompts finished so far.
  std::vector<Generation> generate_batch(const std::vector<std::vector<TokenId>>& prompts,
                                         const GenerateOptions& options = {},
                                         const std::function<void(std::size_t)>& done = {});

 private:
  Model& model_;
  std::optional<Tokenizer> tokenizer_;
  TextFrame frame_;
};

}  // namespace candela
