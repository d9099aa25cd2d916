#include <algorithm>
#include <bit>
#include <cmath>
#include <exception>
#include <fmt/format.h>
#include <numeric>
#include <set>

#include <candela/core/random.h>
#include <candela/io/dataset.h>

#include "io/mapped_file.h"
#include "io/missing.h"
#include "io/rows.h"

namespace candela {
namespace {

constexpr std::size_t kMaxRowBytes = std::size_t{64} << 20;

/// What `error` says, opening with the place.
std::string located(const Error& error, const std::string& where) {
  const std::string_view text = error.what();
  return text.starts_with(where) ? std::string(text) : fmt::format("{}: {}", where, text);
}

/// The sample of a row, with what stands in front of it and behind.
Sample encode_sample(const jinja::Value& row, RowFormat format, const std::string& where,
                     const Tokenizer& tokenizer, const DatasetOptions& options) {
  io::RowTokens tokens;
  try {
    tokens = io::encode_row(row, format, where, tokenizer, options);
  } catch (const Unsupported& error) {
    throw Unsupported(located(error, where));
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(located(error, where));
  } catch (const jinja::Failure& failure) {
    throw TemplateError(fmt::format("{}: {}", where, failure.message));
  }
  Sample sample;
  sample.ids = std::move(tokens.marked.ids);
  sample.answer = std::move(tokens.marked.answer);
  std::size_t prefix = 0;
  if (!tokens.complete) {
    const std::size_t text_tokens = sample.ids.size();
    sample.ids = options.frame.framed(std::move(sample.ids));
    prefix = sample.ids.size() - text_tokens;
    sample.answer.insert(sample.answer.begin(), prefix, 0);
  }
  const std::optional<TokenId>& eos = options.frame.eos;
  if (tokens.ends_with_eos && eos && (sample.ids.empty() || sample.ids.back() != *eos)) {
    sample.ids.push_back(*eos);
    sample.answer.push_back(1);
  }
  for (const TokenId id : sample.ids) {
    require<IoError>(
        options.vocab_size == 0 || id < options.vocab_size,
        "{}: holds the token {}, and the model's vocab_size is {}; use the model's own tokenizer", where, id,
        options.vocab_size);
  }
  // Nothing comes before the first token to predict it from.
  if (!sample.ids.empty()) sample.answer.front() = 0;
  sample.trained = sample.answer;
  // Ids come with their own labels; what stands in front of a text is context whatever is trained.
  if (options.train_on == TrainOn::All && format != RowFormat::Tokens && !sample.ids.empty()) {
    std::fill(sample.trained.begin() + static_cast<std::ptrdiff_t>(prefix), sample.trained.end(),
              std::uint8_t{1});
    sample.trained.front() = 0;
  }
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
  if (sample.trained_tokens() == 0 && options.skip_untrained) {
    ++statistics.untrained_rows;
    return false;
  }
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
    text += fmt::format("<|im_start|>{}\n{}{}\n", message.role, message.content, kChatMlEnd);
  if (add_generation_prompt) text += "<|im_start|>assistant\n";
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
  for (const std::int64_t id : config.eos_token_ids) options.end_ids.push_back(static_cast<TokenId>(id));
  if (config.eos_token)
    if (const std::optional<TokenId> eos = tokenizer.token_to_id(*config.eos_token))
      options.end_ids.push_back(*eos);
  return options;
}

std::string_view to_string(RowFormat format) {
  switch (format) {
    case RowFormat::Tokens:
      return "input_ids";
    case RowFormat::Completions:
      return "prompt/completion";
    case RowFormat::Chat:
      return "messages";
    case RowFormat::ShareGpt:
      return "conversations";
    case RowFormat::Alpaca:
      return "instruction/output";
    case RowFormat::Text:
      break;
  }
  return "text";
}

namespace {

/// The rows that could not be read: the first errors in full, the others counted.
class BadRows {
 public:
  void add(const Error& error, std::exception_ptr exception) {
    if (count_++ == 0) first_ = std::move(exception);
    if (count_ <= Dataset::kMaxShownRows) text_ += fmt::format("\n  {}", error.what());
  }
  /// One row's own error, or an IoError with all of them; nothing if there was none.
  void raise(const std::string& source) const {
    if (count_ == 0) return;
    if (count_ == 1) std::rethrow_exception(first_);
    const std::string more = count_ > Dataset::kMaxShownRows
                                 ? fmt::format("\n  and {} more", count_ - Dataset::kMaxShownRows)
                                 : std::string();
    throw IoError(fmt::format("{}: {} rows cannot be read:{}{}", source, count_, text_, more));
  }

 private:
  std::size_t count_ = 0;
  std::exception_ptr first_;
  std::string text_;
};

}  // namespace

Dataset Dataset::parse(std::string_view jsonl, const std::string& source, const Tokenizer& tokenizer,
                       const DatasetOptions& options) {
  require(options.max_length != 1, "dataset: max_length must be at least 2, or 0 for no limit; got 1");
  Dataset result;
  result.file = source;
  std::optional<RowFormat> format;
  BadRows bad;
  std::size_t line_number = 0;
  for (std::size_t start = 0; start < jsonl.size();) {
    // No further than a row may reach: a file can be larger than memory, and have no line break.
    const std::string_view near = jsonl.substr(start, kMaxRowBytes + 1);
    const std::string_view line = near.substr(0, near.find('\n'));
    start += line.size() + 1;
    ++line_number;
    if (blank(line)) continue;
    const std::string where = fmt::format("{}:{}", source, line_number);
    try {
      const jinja::Value row = io::parse_row(line, where, options);
      if (!format)
        format = io::detect_format(row, where);
      else
        io::check_format(row, *format, where);
      Sample sample = encode_sample(row, *format, where, tokenizer, options);
      sample.line = line_number;
      if (!limit_length(sample, where, options, result.statistics)) continue;
      count(result.statistics, sample);
      result.samples.push_back(std::move(sample));
    } catch (const DeviceError&) {
      throw;
    } catch (const Error& error) {
      bad.add(error, std::current_exception());
      if (!format) break;  // the rows that follow would only be as unknown
    }
  }
  bad.raise(source);
  require<IoError>(format.has_value(), "{}: must hold at least one row; the file is empty", source);
  result.format = *format;
  require<IoError>(!result.samples.empty() || result.statistics.dropped_rows > 0,
                   "{}: must have tokens to train on; none of its {} rows has one", source,
                   result.statistics.untrained_rows);
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
  kept.statistics.untrained_rows = statistics.untrained_rows;
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
    require<IoError>(there, "{}: no such file or folder; expected a .jsonl file or a folder with train.jsonl",
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
