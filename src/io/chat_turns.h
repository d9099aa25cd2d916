#pragma once

#include <span>
#include <string>
#include <vector>

#include <candela/io/tokenizer.h>

#include "io/chat.h"

namespace candela::io {

/// Tokens of a row, and per token whether it belongs to an answer.
struct MarkedTokens {
  std::vector<TokenId> ids;
  std::vector<std::uint8_t> answer;

  void add(const std::vector<TokenId>& tokens, bool is_answer);
};

/// Which messages are answers to train on: those of the role assistant, without those that say "weight": 0 or
/// "train": false. `last_only`: of these, the last alone. TemplateError, opening with `where`, for a weight
/// other than 0 or 1.
std::vector<bool> trained_messages(const jinja::Value& messages, bool last_only, const std::string& where);

/// The chat as `chat_template` renders it, with the turns of the messages that `trained` names marked, each
/// from the first token after its opening through the token that ends it.
///
/// Where a turn stands is taken from the template's own rendering: from {% generation %}, where the template
/// has it; else a turn begins where the messages before it, rendered with the opening of an answer, end: that
/// this is a prefix of the whole is checked. It ends where the messages up to it end, if that rendering is a
/// prefix too, or at the first of `ends` (or of the tokens that end other turns of the chat). TemplateError,
/// opening with `where`, where neither tells.
///
/// Openings and answers are encoded on their own, because that is how they meet when generating.
MarkedTokens encode_chat(const ChatTemplate& chat_template, const ChatInput& input,
                         const std::vector<bool>& trained, const Tokenizer& tokenizer,
                         std::span<const TokenId> ends, const std::string& where);

/// The special token that ends an answer as the template writes it; nothing if it writes none, or refuses a
/// plain chat.
std::optional<TokenId> end_of_turn(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                   std::span<const TokenId> ends);

}  // namespace candela::io
