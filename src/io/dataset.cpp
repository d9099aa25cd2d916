#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>

#include <candela/core/random.h>
#include <candela/io/dataset.h>

#include "io/json.h"
#include "io/listing.h"
#include "io/mapped_file.h"
#include "io/missing.h"

namespace candela {
namespace {

using io::JsonObject;

/// A stretch of a row that is encoded on its own.
struct TextSpan {
  std::string text;
  bool trained = false;
};

/// A row as text, before encoding.
struct Row {
  std::vector<TextSpan> spans;
  bool ends_with_eos = false;  // EOS is appended (and trained) unless the ids end in it
};

constexpr std::size_t kMaxRowBytes = std::size_t{64} << 20;

std::string opening(const std::string& role) {
  return "<|im_start|>" + role + "\n";
}

/// The text of `key`, which must be there and hold more than nothing.
std::string text_of(const JsonObject& row, const char* key) {
  std::string text = row.string(key);
  if (text.empty()) row.fail(key, "a non-empty string");
  return text;
}

std::optional<RowFormat> format_of(const JsonObject& row) {
  if (row.has("prompt") && row.has("completion")) return RowFormat::Completions;
  if (row.has("messages")) return RowFormat::Chat;
  if (row.has("text")) return RowFormat::Text;
  return std::nullopt;
}

bool has_fields(const JsonObject& row, RowFormat format) {
  switch (format) {
    case RowFormat::Completions:
      return row.has("prompt") && row.has("completion");
    case RowFormat::Chat:
      return row.has("messages");
    case RowFormat::Text:
      break;
  }
  return row.has("text");
}

/// A row of another format than that of the file, which its first row decided.
void check_format(const JsonObject& row, RowFormat format) {
  const std::optional<RowFormat> own = format_of(row);
  if (!own || has_fields(row, format)) return;  // what is missing is named when the row is read
  throw IoError(
      fmt::format("{}: must hold {}, which row 1 made the format of the file; got a row with {}: use one "
                  "format in a file",
                  row.source(), to_string(format), to_string(*own)));
}

RowFormat detect(const JsonObject& row) {
  if (const std::optional<RowFormat> format = format_of(row)) return *format;
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.json().items()) keys.push_back(value.is_null() ? key + " (null)" : key);
  throw IoError(
      fmt::format("{}: must hold \"text\", or \"prompt\" and \"completion\", or \"messages\"; got {}",
                  row.source(), keys.empty() ? "no field" : io::listed(keys, ", ")));
}

std::vector<ChatMessage> read_messages(const JsonObject& row) {
  std::vector<ChatMessage> messages;
  constexpr std::array kRoles = {"system", "user", "assistant", "tool"};
  for (const JsonObject& entry : row.objects("messages")) {
    messages.push_back({text_of(entry, "role"), entry.string("content")});
    if (std::find(kRoles.begin(), kRoles.end(), messages.back().role) == kRoles.end())
      entry.fail("role", "system, user, assistant or tool");
  }
  if (messages.empty()) row.fail("messages", "a list of at least one message");
  const bool answered = std::any_of(messages.begin(), messages.end(),
                                    [](const ChatMessage& m) { return m.role == "assistant"; });
  if (!answered) row.fail("messages", "a chat with a message of the role assistant");
  return messages;
}

/// An assistant's turn is trained from the first token after its opening through its end token; the rest is
/// context.
Row chat_row(const std::vector<ChatMessage>& messages) {
  Row row;
  std::string context;
  for (const ChatMessage& message : messages) {
    context += opening(message.role);
    if (message.role == "assistant") {
      row.spans.push_back({std::move(context), false});
      row.spans.push_back({message.content + kChatMlEnd, true});
      context = std::string(1, '\n');
    } else {
      context += fmt::format("{}{}\n", message.content, kChatMlEnd);
    }
  }
  if (!context.empty()) row.spans.push_back({std::move(context), false});
  return row;
}

Row read_row(const JsonObject& json, RowFormat format) {
  switch (format) {
    case RowFormat::Completions:
      return {{{text_of(json, "prompt"), false}, {text_of(json, "completion"), true}}, true};
    case RowFormat::Chat:
      return chat_row(read_messages(json));
    case RowFormat::Text:
      break;
  }
  return {{{text_of(json, "text"), true}}, true};
}

Sample encode_row(const Row& row, const std::string& where, const Tokenizer& tokenizer,
                  const DatasetOptions& options) {
  Sample sample;
  const auto add = [&](TokenId id, bool answer) {
    sample.ids.push_back(id);
    sample.answer.push_back(answer ? 1 : 0);
    sample.trained.push_back(answer || options.train_on_prompt ? 1 : 0);
  };
  try {
    for (const TextSpan& span : row.spans) {
      for (const TokenId id : tokenizer.encode(span.text, false)) add(id, span.trained);
    }
  } catch (const Unsupported& error) {
    throw Unsupported(fmt::format("{}: {}", where, error.what()));
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(fmt::format("{}: {}", where, error.what()));
  }
  const std::size_t text_tokens = sample.ids.size();
  sample.ids = options.frame.framed(std::move(sample.ids));
  for (auto* marks : {&sample.trained, &sample.answer})
    marks->insert(marks->begin(), sample.ids.size() - text_tokens, 0);
  const std::optional<TokenId>& eos = options.frame.eos;
  if (row.ends_with_eos && eos && (sample.ids.empty() || sample.ids.back() != *eos)) add(*eos, true);
  for (const TokenId id : sample.ids) {
    require<IoError>(
        options.vocab_size == 0 || id < options.vocab_size,
        "{}: holds the token {}, and the model's vocab_size is {}; use the model's own tokenizer", where, id,
        options.vocab_size);
  }
  // Nothing comes before the first token to predict it from.
  if (!sample.ids.empty()) sample.trained.front() = sample.answer.front() = 0;
  return sample;
}

void count(DatasetStatistics& statistics, const Sample& sample) {
  const std::size_t length = sample.ids.size();
  statistics.shortest = statistics.rows == 0 ? length : std::min(statistics.shortest, length);
  statistics.longest = std::max(statistics.longest, length);
  ++statistics.rows;
  statistics.tokens += length;
  statistics.trained_tokens += sample.trained_tokens();
  const auto bucket = static_cast<std::size_t>(std::bit_width(length) - 1);
  if (statistics.length_histogram.size() <= bucket) statistics.length_histogram.resize(bucket + 1);
  ++statistics.length_histogram[bucket];
}

/// Cuts or refuses what is above the limit, and refuses what teaches nothing. False: nothing of the row is
/// left to train on.
bool limit_length(Sample& sample, const std::string& where, const DatasetOptions& options,
                  DatasetStatistics& statistics) {
  require<IoError>(sample.ids.size() >= 2,
                   "{}: must give at least 2 tokens (one to predict from, one to predict); got {}", where,
                   sample.ids.size());
  require<IoError>(sample.trained_tokens() > 0,
                   "{}: must have a token to train on; all {} are prompt: is the answer empty?", where,
                   sample.ids.size());
  if (options.max_length == 0 || sample.ids.size() <= options.max_length) return true;
  require<IoError>(options.truncate,
                   "{}: must have at most {} tokens; got {}: raise the limit (--max-length), cut rows off "
                   "(--truncate), or shorten the row",
                   where, options.max_length, sample.ids.size());
  sample.ids.resize(options.max_length);
  sample.trained.resize(options.max_length);
  sample.answer.resize(options.max_length);
  const bool left = sample.trained_tokens() > 0;
  ++(left ? statistics.truncated_rows : statistics.dropped_rows);
  return left;
}

bool blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

std::size_t Sample::trained_tokens() const {
  return static_cast<std::size_t>(std::count(trained.begin(), trained.end(), std::uint8_t{1}));
}

std::string render_chatml(const std::vector<ChatMessage>& messages, bool add_generation_prompt) {
  std::string text;
  for (const ChatMessage& message : messages)
    text += fmt::format("{}{}{}\n", opening(message.role), message.content, kChatMlEnd);
  if (add_generation_prompt) text += opening("assistant");
  return text;
}

void require_chatml(const Tokenizer& tokenizer, const std::string& where) {
  for (const std::string token : {"<|im_start|>", kChatMlEnd}) {
    require<Unsupported>(
        tokenizer.token_to_id(token) && tokenizer.encode(token, false).size() == 1,
        "{}: chats are written in the ChatML template, whose {} must be one token; this "
        "tokenizer has none: write the turns out as prompt and completion, or use a model that "
        "was trained on ChatML",
        where, token);
  }
}

DatasetOptions DatasetOptions::for_model(const Tokenizer& tokenizer, const TextConfig& config) {
  DatasetOptions options;
  options.max_length = static_cast<std::size_t>(config.max_position_embeddings);
  options.frame = text_frame(tokenizer, config);
  options.vocab_size = config.vocab_size;
  return options;
}

std::string_view to_string(RowFormat format) {
  switch (format) {
    case RowFormat::Completions:
      return "prompt/completion";
    case RowFormat::Chat:
      return "messages";
    case RowFormat::Text:
      break;
  }
  return "text";
}

Dataset Dataset::parse(std::string_view jsonl, const std::string& source, const Tokenizer& tokenizer,
                       const DatasetOptions& options) {
  require(options.max_length != 1, "dataset: max_length must be at least 2, or 0 for no limit; got 1");
  Dataset result;
  result.file = source;
  std::optional<RowFormat> format;
  std::size_t line_number = 0;
  for (std::size_t start = 0; start < jsonl.size();) {
    // No further than a row may reach: a file can be larger than memory, and have no line break.
    const std::string_view near = jsonl.substr(start, kMaxRowBytes + 1);
    const std::string_view line = near.substr(0, near.find('\n'));
    start += line.size() + 1;
    ++line_number;
    const std::string where = fmt::format("{}:{}", source, line_number);
    if (blank(line)) {
      // Empty lines at the very end are how some editors close a file; elsewhere a row is missing.
      if (start >= jsonl.size() || blank(jsonl.substr(start))) break;
      throw IoError(fmt::format("{}: must hold a JSON object; got an empty line", where));
    }
    const io::JsonTree document = io::parse_json(line, where, {.max_bytes = kMaxRowBytes});
    const JsonObject row(document, where);
    if (!format) {
      format = detect(row);
      if (*format == RowFormat::Chat) require_chatml(tokenizer, where);
    }
    check_format(row, *format);
    Sample sample = encode_row(read_row(row, *format), where, tokenizer, options);
    sample.line = line_number;
    if (!limit_length(sample, where, options, result.statistics)) continue;
    count(result.statistics, sample);
    result.samples.push_back(std::move(sample));
  }
  require<IoError>(format.has_value(), "{}: must hold at least one row; the file is empty", source);
  result.format = *format;
  require<IoError>(
      !result.samples.empty(),
      "{}: must have tokens to train on; the limit of {} tokens cuts off the answer of each of its "
      "{} rows: raise it (--max-length)",
      source, options.max_length, result.statistics.dropped_rows);
  return result;
}

Dataset Dataset::hold_out(double share, std::uint64_t seed) {
  require(share > 0 && share < 1, "dataset: the share to hold out must be above 0 and below 1; got {}",
          share);
  require(samples.size() >= 2, "{}: must have at least 2 rows to hold one out; got {}", file.string(),
          samples.size());
  const auto wanted = static_cast<std::size_t>(std::llround(share * static_cast<double>(samples.size())));
  const std::size_t count_out = std::clamp<std::size_t>(wanted, 1, samples.size() - 1);
  // The first of a shuffle (Fisher and Yates), back in the order of the file.
  std::vector<std::size_t> order(samples.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Generator generator(seed);
  for (std::size_t i = 0; i < count_out; ++i)
    std::swap(order[i], order[i + generator.next_below(order.size() - i)]);
  const std::set<std::size_t> out(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count_out));
  Dataset held{file, format, {}, {}};
  Dataset kept{file, format, {}, {}};
  kept.statistics.truncated_rows = statistics.truncated_rows;
  kept.statistics.dropped_rows = statistics.dropped_rows;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    Dataset& part = out.count(i) > 0 ? held : kept;
    count(part.statistics, samples[i]);
    part.samples.push_back(std::move(samples[i]));
  }
  *this = std::move(kept);
  return held;
}

Dataset Dataset::load(const std::filesystem::path& file, const Tokenizer& tokenizer,
                      const DatasetOptions& options) {
  const io::MappedFile mapped(file);
  return parse(mapped.text(), file.string(), tokenizer, options);
}

DatasetFiles DatasetFiles::find(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    std::string why;
    const bool there = io::is_there(path, why);
    require<IoError>(why.empty(), "{}: {}", path.string(), why);
    require<IoError>(there,
                     "{}: no such file or folder; expected a .jsonl file or a folder with train.jsonl",
                     path.string());
    return {path, std::nullopt, std::nullopt};
  }
  const auto optional_file = [&](const char* name) {
    const auto file = path / name;
    std::string why;
    const bool there = io::is_there(file, why);
    require<IoError>(why.empty(), "{}: {}", file.string(), why);
    return there ? std::optional(file) : std::nullopt;
  };
  const auto train = optional_file("train.jsonl");
  require<IoError>(train.has_value(), "{}: must hold train.jsonl; it is not there", path.string());
  return {*train, optional_file("valid.jsonl"), optional_file("test.jsonl")};
}

}  // namespace candela
