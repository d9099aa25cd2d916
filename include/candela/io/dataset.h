#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <candela/io/chat_template.h>
#include <candela/io/text_frame.h>
#include <candela/io/tokenizer.h>

namespace candela {

/// One row of a data set as the model sees it.
struct Sample {
  std::vector<TokenId> ids;
  /// per id: 1 where the loss counts the prediction of this token
  std::vector<std::uint8_t> trained;
  /// in the file, from 1
  std::size_t line = 0;
  /// per id: 1 in an answer: what is trained without train_on_prompt
  std::vector<std::uint8_t> answer{};

  std::size_t trained_tokens() const;
};

/// A message of a chat.
struct ChatMessage {
  std::string role;
  std::string content;
};

/// The token that ends a turn of ChatML.
inline constexpr const char* kChatMlEnd = "<|im_end|>";

/// ChatML: `<|im_start|>role\ncontent<|im_end|>\n` for each message, then, if asked for, the opening of the
/// assistant's turn.
std::string render_chatml(const std::vector<ChatMessage>& messages, bool add_generation_prompt);
/// Throws Unsupported, opening with `where`, unless <|im_start|> and <|im_end|> are tokens of their own: a
/// model that was not trained on ChatML would see them as odd text.
void require_chatml(const Tokenizer& tokenizer, const std::string& where);

/// What the rows of a file look like, decided by the first row, in this order: `input_ids` (and `labels`,
/// -100 where nothing is trained); `prompt` and `completion`; `messages`; `conversations` (ShareGPT: `from`,
/// `value`); `instruction`, `input` and `output` (Alpaca); `text`.
enum class RowFormat { Tokens, Completions, Chat, ShareGpt, Alpaca, Text };
std::string_view to_string(RowFormat format);

/// Which tokens the loss counts: all; the answers, which is every turn of the assistant, completion or text;
/// or the last answer of each row.
enum class TrainOn { All, Assistant, Last };

struct DatasetOptions {
  /// Longest sample in tokens; 0: no limit.
  std::size_t max_length = 0;
  /// A longer row: false: IoError with its line; true: its end is cut off and it is counted.
  bool truncate = false;
  TrainOn train_on = TrainOn::Assistant;
  /// A row without a token to train on: false: IoError with its line; true: it is left out and counted.
  bool skip_untrained = false;
  /// Writes out chats and, unless `raw`, prompts and completions as a user's and an assistant's message.
  /// Without it, chats are ChatML, for tokenizers that have its tokens.
  std::optional<ChatTemplate> chat_template{};
  bool raw = false;
  /// Tokens that end a generated text: the end of a turn is recognised by them.
  std::vector<TokenId> end_ids{};
  /// Field names: the one that a format expects, and the one that the rows have.
  std::vector<std::pair<std::string, std::string>> map{};
  /// The prefix goes in front of every row that no template wrote; EOS ends text and completion rows.
  TextFrame frame{};
  /// Ids must be below it; 0: any.
  std::int64_t vocab_size = 0;

  /// What suits a model: its text_frame(), its end tokens, and its context as the limit. The template is left
  /// to ChatTemplate::load.
  static DatasetOptions for_model(const Tokenizer& tokenizer, const TextConfig& config);
};

struct DatasetStatistics {
  std::size_t rows = 0;
  std::size_t tokens = 0;
  std::size_t trained_tokens = 0;
  std::size_t truncated_rows = 0;
  /// left out: what truncation left of them has no token to train on
  std::size_t dropped_rows = 0;
  /// left out: none of their tokens is trained
  std::size_t untrained_rows = 0;
  std::size_t shortest = 0;
  std::size_t longest = 0;
  /// Rows whose length is in [2^i, 2^(i+1)).
  std::vector<std::size_t> length_histogram;

  double trained_share() const {
    return tokens ? static_cast<double>(trained_tokens) / static_cast<double>(tokens) : 0;
  }
};

/// The samples of one JSONL file. Blank lines are skipped.
///
/// What is trained: of a text row, every token but the first (nothing predicts it); of a completion row, the
/// completion and its EOS; of a chat, each assistant turn with the token that ends it, as the model's
/// template renders them, without messages that say `"weight": 0` or `"train": false`. Trained and other
/// spans are encoded on their own, because that is how a prompt and its continuation meet when generating.
struct Dataset {
  std::filesystem::path file;
  RowFormat format = RowFormat::Text;
  std::vector<Sample> samples;
  DatasetStatistics statistics;

  /// IoError with file and line for each row that is not JSON, lacks a field, is empty, has no token to train
  /// on or is too long (kMaxShownRows of them are told, the others counted); for a file without rows; and
  /// when truncation leaves no row. TemplateError where the template refuses a chat. Unsupported for chats
  /// without a template if the tokenizer does not know ChatML.
  static constexpr std::size_t kMaxShownRows = 20;
  static Dataset load(const std::filesystem::path& file, const Tokenizer& tokenizer,
                      const DatasetOptions& options = {});
  /// As load, from the text of a file; `source` stands for it in errors.
  static Dataset parse(std::string_view jsonl, const std::string& source, const Tokenizer& tokenizer,
                       const DatasetOptions& options = {});

  /// Takes out this share of the rows, drawn by `seed`, at least one; both parts keep the order of the file.
  /// InvalidArgument unless share is in (0, 1) and a row is left.
  Dataset hold_out(double share, std::uint64_t seed);
};

/// The files of a data set.
struct DatasetFiles {
  std::filesystem::path train;
  std::optional<std::filesystem::path> valid;
  std::optional<std::filesystem::path> test;

  /// `path`: a file (it is the training set), or a folder with train.jsonl and, optionally, valid.jsonl and
  /// test.jsonl.
  static DatasetFiles find(const std::filesystem::path& path);
};

}  // namespace candela
