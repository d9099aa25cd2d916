#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
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
  /// its file: an index into Dataset::files
  std::size_t source = 0;

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
  /// Longest piece of a plain text, in tokens; 0: max_length, or 2048 where that has no limit.
  std::size_t text_length = 0;
  /// Draws the rows of files whose weight is no whole number.
  std::uint64_t seed = 0;
  /// A row that cannot be read: false: an error in the end; true: it is left out and told in
  /// Dataset::bad_rows.
  bool keep_going = false;

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

/// A file of rows, and how often an epoch takes each of them: of weight 0.5, every other row, drawn once for
/// the whole run; of weight 2.5, each row twice, and half of them a third time.
struct DataFile {
  std::filesystem::path path;
  double weight = 1;
};

/// Rows that could not be read.
struct BadRows {
  std::size_t count = 0;
  /// What is wrong with the first kMaxShown of them, each with file and line.
  std::vector<std::string> texts;
  static constexpr std::size_t kMaxShown = 20;
};

/// The samples of files of rows: JSONL, one JSON array of objects, CSV (RFC 4180) and TSV with a row of
/// names, by the endings of their names or else by their first byte; each plain, or compressed by gzip, xz or
/// zstd. A .txt or .md file is one text: paragraphs are joined to pieces of at most
/// DatasetOptions::text_length tokens, of which the last ends in EOS. Blank lines are skipped. The first row
/// of each file decides its RowFormat.
///
/// Files are read in pieces. What stays in memory is the samples: 6 bytes a token and about 150 a row.
///
/// What is trained: of a text row, every token but the first (nothing predicts it); of a completion row, the
/// completion and its EOS; of a chat, each assistant turn with the token that ends it, as the model's
/// template renders them, without messages that say `"weight": 0` or `"train": false`. Trained and other
/// spans are encoded on their own, because that is how a prompt and its continuation meet when generating.
struct Dataset {
  std::vector<std::filesystem::path> files;
  /// of the first file
  RowFormat format = RowFormat::Text;
  std::vector<Sample> samples;
  DatasetStatistics statistics;
  /// empty unless DatasetOptions::keep_going
  BadRows bad_rows{};

  /// The files for a person: the first one, and how many more there are.
  std::string name() const;
  /// FILE:LINE of a sample.
  std::string where(const Sample& sample) const;

  /// IoError with file and line for each row that cannot be parsed, lacks a field, is empty, has no token to
  /// train on or is too long (BadRows::kMaxShown of them are told, the others counted); for a file without
  /// rows or cut short; and when truncation leaves no row. TemplateError where the template refuses a chat.
  /// Unsupported for chats without a template if the tokenizer does not know ChatML. InvalidArgument for a
  /// weight that is not in (0, 1000].
  static Dataset load(std::span<const DataFile> files, const Tokenizer& tokenizer,
                      const DatasetOptions& options = {});
  static Dataset load(const std::filesystem::path& file, const Tokenizer& tokenizer,
                      const DatasetOptions& options = {});
  /// As load, from the text of a file that is not compressed; `source` stands for it in errors, and its
  /// ending says how the rows are written.
  static Dataset parse(std::string_view text, const std::string& source, const Tokenizer& tokenizer,
                       const DatasetOptions& options = {});

  /// Takes out this share of the rows, drawn by `seed`, at least one; both parts keep the order of the file.
  /// The copies of a row that a weight repeats stay together.
  /// InvalidArgument unless share is in (0, 1) and a row is left.
  Dataset hold_out(double share, std::uint64_t seed);
};

/// The files of a data set.
struct DatasetFiles {
  std::vector<DataFile> train;
  /// empty: there is none
  std::vector<DataFile> valid;
  std::vector<DataFile> test;

  /// Each of `sources` is PATH or PATH:WEIGHT. PATH is a file (of the training set), or a folder: in it and
  /// in its folder `data`, files of rows and texts whose name begins or ends with train (or training), valid
  /// (validation, val, dev) or test, as in train.jsonl or train-00000-of-00002.csv.gz; where no name says
  /// train, all others are the training set. A path that is there wins over what its colon may mean, and over
  /// a name of the Hub (local_path).
  /// IoError for what is not there, a folder without a training set, and one that holds a file in two forms
  /// (train.csv and train.csv.gz).
  static DatasetFiles find(std::span<const std::string> sources);
  static DatasetFiles find(const std::filesystem::path& path);
};

}  // namespace candela
