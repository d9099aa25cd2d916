#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include <candela/io/text_config.h>
#include <candela/io/tokenizer.h>

namespace candela {

/// The tokens that stand around a text: the same in training, evaluation and generation.
struct TextFrame {
  /// In front of every text (BOS, as a rule), unless the text brings them itself.
  std::vector<TokenId> prefix{};
  /// Ends a row of training that does not end in it already.
  std::optional<TokenId> eos{};

  /// The prefix in front of `ids`, unless they begin with it.
  std::vector<TokenId> framed(std::vector<TokenId> ids) const;
};

/// The prefix is what the post-processor of tokenizer.json puts in front of a text (TemplateProcessing);
/// where tokenizer_config.json says add_bos_token, it is BOS or nothing, as transformers does. EOS is the
/// eos_token of tokenizer_config.json if it is among the tokens that end a generated text, else the first of
/// those.
TextFrame text_frame(const Tokenizer& tokenizer, const TextConfig& config);

}  // namespace candela
