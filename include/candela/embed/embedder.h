#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <candela/core/tensor.h>
#include <candela/io/tokenizer.h>
#include <candela/models/model.h>

namespace candela {

/// How the hidden states of a text become one vector.
enum class Pooling : std::uint8_t {
  /// the first token's
  Cls,
  /// the mean over the tokens
  Mean,
  /// the largest of each element
  Max,
  /// the last token's
  LastToken,
};

/// How alike two embeddings are: larger is more alike, so that distances are negative.
enum class Similarity : std::uint8_t { Cosine, Dot, Euclidean, Manhattan };

std::string_view to_string(Pooling pooling);
std::string_view to_string(Similarity similarity);

/// One step behind pooling.
struct EmbedStep {
  enum class Kind : std::uint8_t { Normalize, Dense };
  enum class Activation : std::uint8_t { Identity, Tanh, Gelu, Relu };

  Kind kind = Kind::Normalize;
  /// of Dense: [O, I], f32
  Tensor weight;
  /// [O] or undefined
  Tensor bias;
  Activation activation = Activation::Identity;
};

/// What a folder of sentence-transformers says beside its model.
struct EmbedderConfig {
  /// of several, the results side by side
  std::vector<Pooling> pooling;
  /// whether the tokens of a prompt are pooled too
  bool include_prompt = true;
  std::vector<EmbedStep> steps;
  /// texts to put in front, by name
  std::map<std::string, std::string> prompts;
  /// the name of the one that is used unasked; empty: none
  std::string default_prompt;
  Similarity similarity = Similarity::Cosine;
  /// special tokens included; longer texts are cut
  std::int64_t max_tokens = 0;
};

struct EmbedOptions {
  /// The name of a prompt; unset: the default one, if there is any. Empty: none.
  std::optional<std::string> prompt_name;
  /// A text to put in front, instead of a named prompt.
  std::optional<std::string> prompt;
  /// The first elements that are kept (Matryoshka, Kusupati et al., 2022); 0: all.
  std::int64_t dimensions = 0;
  /// Tokens that are computed at once, but at least one text.
  std::int64_t batch_tokens = 4096;
  /// Called with the number of texts done so far.
  std::function<void(std::int64_t)> progress;
};

/// Makes vectors of texts: a backbone, pooling, and what follows. embed() may run on several threads at once.
class Embedder {
 public:
  /// A folder as sentence-transformers writes it (modules.json), or one of a model alone: then the mean over
  /// tokens, or for decoders the last token, normalised. `options.backbone_only` is implied. IoError with
  /// file and field for what is missing or contradicts the model, Unsupported for a module, pooling mode or
  /// similarity that is not known.
  static Embedder load(const std::filesystem::path& folder, const LoadOptions& options = {});

  /// Of a model in memory: for ids, not for texts.
  static Embedder of_model(std::unique_ptr<Model> model, EmbedderConfig config);

  const Model& model() const { return *model_; }
  Model& model() { return *model_; }
  /// Where the model's own files lie: the folder, or one inside it.
  const std::filesystem::path& model_folder() const { return folder_; }
  const Tokenizer& tokenizer() const;
  const EmbedderConfig& config() const { return config_; }
  /// Replaces pooling and normalisation of a folder without modules.json.
  void set_pooling(std::vector<Pooling> pooling, bool normalize);
  /// Elements of an embedding.
  std::int64_t dimensions() const;
  /// What an index notes of the model that made it: differs where geometry, weights or pooling differ.
  std::string fingerprint() const;

  /// Texts as ids, special tokens included.
  struct TokenRows {
    std::vector<std::vector<TokenId>> ids;
    /// of each, how many tokens at its start are not pooled
    std::vector<std::int64_t> skipped;
    /// how many texts were longer than max_tokens
    std::int64_t cut = 0;
  };
  /// The texts behind their prompt, cut at max_tokens. Errors as embed().
  TokenRows tokenize(std::span<const std::string> texts, const EmbedOptions& options = {}) const;

  /// f32 [N, D] on the CPU. InvalidArgument for a prompt that is not there, dimensions beyond those of the
  /// model, or a text without tokens. `cut`, if given, receives how many texts were longer than max_tokens.
  Tensor embed(std::span<const std::string> texts, const EmbedOptions& options = {},
               std::int64_t* cut = nullptr) const;
  /// The same for rows of ids, none of them empty, as they are.
  Tensor embed_ids(const std::vector<std::vector<TokenId>>& rows, const EmbedOptions& options = {}) const;
  /// The backbone's hidden states of each row, f32 [tokens, D] on the CPU.
  std::vector<Tensor> hidden_states(const std::vector<std::vector<TokenId>>& rows,
                                    const EmbedOptions& options = {}) const;
  /// [N, M]: how alike a [N, D] and b [M, D] are, by config().similarity.
  Tensor similarity(const Tensor& a, const Tensor& b) const;

  /// Writes a folder that sentence-transformers reads: weights as they are now (merged adapters included),
  /// and modules.json with what it names. The folder appears whole or not at all. As save_model() for errors.
  void save(const std::filesystem::path& folder) const;
  /// What of that can be known before any work: throws as save().
  void check_save(const std::filesystem::path& folder) const;

 private:
  Embedder() = default;
  std::string prompt_of(const EmbedOptions& options) const;
  void for_each_batch(const TokenRows& rows, const EmbedOptions& options,
                      const std::function<void(std::span<const std::size_t>, const Tensor&)>& use) const;
  Tensor pooled(const Tensor& hidden, const TokenRows& rows, std::span<const std::size_t> batch) const;
  Tensor embed_rows(const TokenRows& rows, const EmbedOptions& options) const;
  void check_dimensions(std::int64_t dimensions) const;

  std::filesystem::path folder_;  // of the model's files
  std::unique_ptr<Model> model_;
  std::optional<Tokenizer> tokenizer_;
  EmbedderConfig config_;
  bool plain_ = false;  // no modules.json
};

/// [N, M]: how alike the rows of a [N, D] and b [M, D], f32 on one device, are.
Tensor similarities(const Tensor& a, const Tensor& b, Similarity similarity);

}  // namespace candela
