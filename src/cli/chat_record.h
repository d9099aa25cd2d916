#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <candela/io/dataset.h>

namespace candela::cli {

/// How a run wrote its texts, kept with the adapter: OUTPUT/chat_template.jinja and OUTPUT/candela_chat.json
/// (the ids that end a turn, and those that stand in front of a text).
struct ChatRecord {
  /// its Jinja text
  std::optional<std::string> chat_template;
  std::vector<TokenId> stop_ids;
  std::vector<TokenId> prefix;

  bool operator==(const ChatRecord&) const = default;
};

/// What rows of these options are written by.
ChatRecord chat_record_of(const DatasetOptions& rows, const Tokenizer& tokenizer);

/// Writes both files; without a template, an earlier run's goes.
void save_chat_record(const std::filesystem::path& folder, const ChatRecord& record);

/// The record in an adapter's folder; nothing if it has none. IoError for one that is malformed.
std::optional<ChatRecord> load_chat_record(const std::filesystem::path& folder);

/// Warns of each part of the adapter's record that is otherwise in the model.
void warn_of_differences(const ChatRecord& adapter, const ChatRecord& model, const std::string& folder);

}  // namespace candela::cli
