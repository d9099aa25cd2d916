#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include <candela/io/chat_template.h>
#include <candela/io/tokenizer.h>
#include <candela/models/config.h>

#include "cli/chat_record.h"
#include "cli/model_options.h"

namespace candela::cli {

/// Messages as a template is given them: objects with `role` and `content`.
using ChatMessages = nlohmann::ordered_json::array_t;

/// How a model, with the adapter that it is to have, writes chats.
class ChatFormat {
 public:
  /// The template of `file`; where it is empty, the adapter's; where that has none, the model's; else ChatML.
  /// Warns where the adapter's differs from the model's.
  ChatFormat(const ModelOptions& model, const std::string& file, Tokenizer tokenizer,
             const ModelConfig& config);

  /// The ids of a chat with the opening of an answer. `options` is an object with further variables of the
  /// template. Unsupported without a template for a tokenizer that does not know ChatML.
  std::vector<TokenId> encode(const ChatMessages& messages, const nlohmann::ordered_json& options) const;
  /// Tokens that end an answer.
  const std::vector<TokenId>& stop_ids() const { return stop_ids_; }

 private:
  std::string model_;
  Tokenizer tokenizer_;
  std::optional<ChatTemplate> template_;
  std::vector<TokenId> prefix_;
  std::vector<TokenId> stop_ids_;
};

/// The object of --chat-options; UsageError for what is none.
nlohmann::ordered_json parse_chat_options(const std::string& text);

}  // namespace candela::cli
