#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace candela {

using TokenId = std::int32_t;

/// How long the ids of a text may be: the field `truncation` of a tokenizer.json.
struct Truncation {
  /// ids, the post-processor's included
  std::int64_t max_length = 0;
  /// cuts at the start of the text instead of its end
  bool left = false;
};

/// What makes the rows of a batch equally long: the field `padding` of a tokenizer.json.
struct Padding {
  TokenId id = 0;
  /// of every row; none: that of the longest
  std::optional<std::int64_t> length;
  /// lengths are rounded up to one of these
  std::int64_t multiple = 1;
  /// pads before the text instead of behind it
  bool left = false;
};

/// Turns text into token ids and back, exactly as the tokenizer.json it was loaded from says (byte-pair
/// encoding, WordPiece or Unigram). Its fields `truncation` and `padding` are told, not applied: as in
/// transformers, whoever batches texts decides on these. A copy is cheap and shares everything. All methods
/// may be called from several threads.
class Tokenizer {
 public:
  /// Loads a tokenizer.json, or the one in the folder `path`, which may be a name of the Hub (local_path).
  /// IoError (file, field) if it is missing or
  /// malformed, Unsupported (file, component) if it asks for a component that is not known.
  static Tokenizer load(const std::filesystem::path& path);
  /// As load, from the text of a tokenizer.json; `source` stands for the file in errors.
  static Tokenizer parse(std::string_view json, const std::string& source);

  /// The ids of `text`; invalid UTF-8 is read as U+FFFD, added tokens such as <|im_end|> are recognised
  /// inside. `add_special_tokens`: the post-processor's (BOS, say) around. Unsupported if a byte has no
  /// token.
  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens = true) const;

  /// As encode with the special tokens, but at most `truncation.max_length` ids: those of the text are cut.
  /// InvalidArgument if the special tokens alone are more.
  std::vector<TokenId> encode(std::string_view text, const Truncation& truncation) const;
  /// The fields `truncation` and `padding` of the file; none where they are absent.
  const std::optional<Truncation>& truncation() const;
  const std::optional<Padding>& padding() const;

  /// The ids that the post-processor puts in front of a text: BOS, as a rule, or none.
  std::vector<TokenId> prefix() const;

  /// The text of `ids`: valid UTF-8, with U+FFFD for bytes that form no character. Ids without a token (a
  /// model's vocabulary may be padded) are left out.
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens = true) const;

  /// Number of different tokens, added ones included.
  std::size_t vocab_size() const;
  /// The largest id of any token.
  TokenId max_id() const;
  std::optional<TokenId> token_to_id(std::string_view token) const;
  /// The token as the vocabulary writes it (`Ġthe` for " the").
  std::optional<std::string> id_to_token(TokenId id) const;
  /// Whether `id` is an added token marked special.
  bool is_special(TokenId id) const;

 private:
  class Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// Decodes ids as they are generated and gives text only as whole characters: what one token leaves
/// unfinished comes with the next. All that was given, joined, is what Tokenizer::decode gives for all ids.
/// For one thread at a time.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens = true);

  /// The text that `id` completes, possibly empty.
  std::string add(TokenId id);
  /// What is still held back (an unfinished character reads as U+FFFD), and a fresh start.
  std::string finish();

 private:
  std::string next(bool all);

  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::vector<TokenId> ids_;     // a window: tokens given in full that serve as context, then the others
  std::size_t context_ = 0;      // how many of ids_ are context
  std::size_t given_bytes_ = 0;  // how much of the window's text has been given
};

}  // namespace candela
