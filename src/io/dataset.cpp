#include <algorithm>
#include <bit>
#include <cmath>
#include <exception>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>
#include <numeric>
#include <utility>

#include <candela/core/random.h>
#include <candela/io/dataset.h>

#include "io/byte_cursor.h"
#include "io/byte_source.h"
#include "io/row_reader.h"
#include "io/rows.h"
#include "io/text_pieces.h"

namespace candela {
namespace {

constexpr std::size_t kTextLength = 2048;
constexpr double kMaxWeight = 1000;

/// What `error` says, opening with the place.
std::string located(const Error& error, const std::string& where) {
  const std::string_view text = error.what();
  return text.starts_with(where) ? std::string(text) : fmt::format("{}: {}", where, text);
}

io::RowTokens encode_located(const jinja::Value& row, RowFormat format, const std::string& where,
                             const Tokenizer& tokenizer, const DatasetOptions& options) {
  try {
    return io::encode_row(row, format, where, tokenizer, options);
  } catch (const Unsupported& error) {
    throw Unsupported(located(error, where));
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(located(error, where));
  } catch (const jinja::Failure& failure) {
    throw TemplateError(fmt::format("{}: {}", where, failure.message));
  }
}

/// The sample of a row's tokens, with what stands in front of it and behind.
Sample framed_sample(io::RowTokens tokens, bool own_labels, const std::string& where,
                     const DatasetOptions& options) {
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
  if (options.train_on == TrainOn::All && !own_labels && !sample.ids.empty()) {
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

/// Marks `count` of `rows` rows, drawn by `seed`: the first of a shuffle (Fisher and Yates).
std::vector<bool> drawn_rows(std::size_t rows, std::size_t count, std::uint64_t seed) {
  std::vector<std::size_t> order(rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<bool> drawn(rows, false);
  Generator generator(seed);
  for (std::size_t i = 0; i < count; ++i) {
    std::swap(order[i], order[i + generator.next_below(rows - i)]);
    drawn[order[i]] = true;
  }
  return drawn;
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
  options.text_length = std::min(options.max_length, kTextLength);
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

/// Reads one file after the other into a Dataset.
class Loader {
 public:
  Loader(const Tokenizer& tokenizer, const DatasetOptions& options)
      : tokenizer_(tokenizer), options_(options) {
    require(options.max_length != 1, "dataset: max_length must be at least 2, or 0 for no limit; got 1");
  }

  void read(io::ByteSource& source, const std::string& name, double weight);
  Dataset finish();

 private:
  void read_rows(io::FileForm form, io::ByteCursor& cursor);
  void read_text(io::ByteCursor& cursor);
  void take(Sample sample, std::size_t line, const std::string& where);
  void weigh(std::size_t first, double weight);
  void add_bad(const Error& error, std::exception_ptr exception);

  const Tokenizer& tokenizer_;
  const DatasetOptions& options_;
  Dataset result_;
  std::optional<RowFormat> format_;  // of the file at hand
  bool any_format_ = false;
  std::exception_ptr first_bad_;
};

void Loader::add_bad(const Error& error, std::exception_ptr exception) {
  BadRows& bad = result_.bad_rows;
  if (bad.count++ == 0) first_bad_ = std::move(exception);
  if (bad.texts.size() < BadRows::kMaxShown) bad.texts.emplace_back(error.what());
}

void Loader::take(Sample sample, std::size_t line, const std::string& where) {
  sample.line = line;
  sample.source = result_.files.size() - 1;
  // Rows stay for the whole run: without what their vectors grew by.
  sample.ids.shrink_to_fit();
  sample.answer.shrink_to_fit();
  sample.trained.shrink_to_fit();
  if (limit_length(sample, where, options_, result_.statistics)) result_.samples.push_back(std::move(sample));
}

void Loader::read_rows(io::FileForm form, io::ByteCursor& cursor) {
  const auto reader = io::make_row_reader(form, cursor, options_);
  for (;;) {
    try {
      const std::optional<io::RawRow> row = reader->next();
      if (!row) return;
      const std::string where = cursor.where(row->line);
      if (!format_)
        format_ = io::detect_format(row->value, where);
      else
        io::check_format(row->value, *format_, where);
      io::RowTokens tokens = encode_located(row->value, *format_, where, tokenizer_, options_);
      take(framed_sample(std::move(tokens), *format_ == RowFormat::Tokens, where, options_), row->line,
           where);
    } catch (const DeviceError&) {
      throw;
    } catch (const io::BrokenFile& error) {
      return add_bad(error, std::current_exception());
    } catch (const Error& error) {
      add_bad(error, std::current_exception());
      if (!format_) return;  // the rows that follow would only be as unknown
    }
  }
}

void Loader::read_text(io::ByteCursor& cursor) {
  const std::size_t wanted = options_.text_length > 0  ? options_.text_length
                             : options_.max_length > 0 ? options_.max_length
                                                       : kTextLength;
  const std::size_t length = options_.max_length > 0 ? std::min(wanted, options_.max_length) : wanted;
  // Room for what stands in front of each piece, and for the EOS behind the last.
  const std::size_t frame = options_.frame.prefix.size() + 1;
  require(length >= frame + 2, "{}: a piece of a text must have at least {} tokens; got {}", cursor.name(),
          frame + 2, length);
  io::TextPieces pieces(cursor, tokenizer_, length - frame);
  bool any = false;
  while (std::optional<io::TextPiece> piece = pieces.next()) {
    io::RowTokens tokens;
    tokens.marked.add(piece->ids, true);
    tokens.ends_with_eos = piece->last;
    const std::string where = cursor.where(piece->line);
    Sample sample = framed_sample(std::move(tokens), false, where, options_);
    format_ = RowFormat::Text;
    // One token that is left over predicts nothing.
    if (!any || sample.ids.size() >= 2) take(std::move(sample), piece->line, where);
    any = true;
  }
}

/// Applies a file's weight to its samples, those from `first` on, and counts them.
void Loader::weigh(std::size_t first, double weight) {
  std::vector<Sample>& samples = result_.samples;
  const std::size_t rows = samples.size() - first;
  const auto whole = static_cast<std::size_t>(weight);
  const auto extra =
      static_cast<std::size_t>(std::llround((weight - std::floor(weight)) * static_cast<double>(rows)));
  require<IoError>(rows == 0 || whole + extra > 0,
                   "{}: the weight {} takes none of its {} rows; raise it, or leave the file out",
                   result_.files.back().string(), weight, rows);
  if (whole != 1 || extra > 0) {
    const std::vector<bool> drawn = drawn_rows(rows, extra, options_.seed);
    std::vector<Sample> taken;
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t copies = whole + (drawn[i] ? 1 : 0);
      for (std::size_t copy = 1; copy < copies; ++copy) taken.push_back(samples[first + i]);
      if (copies > 0) taken.push_back(std::move(samples[first + i]));
    }
    samples.resize(first);
    samples.insert(samples.end(), std::make_move_iterator(taken.begin()),
                   std::make_move_iterator(taken.end()));
  }
  for (std::size_t i = first; i < samples.size(); ++i) count(result_.statistics, samples[i]);
}

void Loader::read(io::ByteSource& source, const std::string& name, double weight) {
  require(weight > 0 && weight <= kMaxWeight, "{}: the weight must be above 0 and at most {}; got {}", name,
          kMaxWeight, weight);
  const std::size_t first = result_.samples.size();
  const std::size_t bad = result_.bad_rows.count;
  result_.files.emplace_back(name);
  format_.reset();
  io::ByteCursor cursor(source, name);
  const io::FileForm form = io::form_of(cursor);
  if (form == io::FileForm::Text)
    read_text(cursor);
  else
    read_rows(form, cursor);
  require<IoError>(format_ || result_.bad_rows.count > bad,
                   "{}: must hold at least one row; the file is empty", name);
  if (format_ && !std::exchange(any_format_, true)) result_.format = *format_;
  weigh(first, weight);
}

Dataset Loader::finish() {
  const BadRows& bad = result_.bad_rows;
  const std::string name = result_.name();
  if (bad.count > 0 && (!options_.keep_going || result_.samples.empty())) {
    if (bad.count == 1) std::rethrow_exception(first_bad_);
    throw IoError(fmt::format(
        "{}: {} rows cannot be read:\n  {}{}", name, bad.count, fmt::join(bad.texts, "\n  "),
        bad.count > bad.texts.size() ? fmt::format("\n  and {} more", bad.count - bad.texts.size())
                                     : std::string()));
  }
  const DatasetStatistics& statistics = result_.statistics;
  require<IoError>(!result_.samples.empty() || statistics.dropped_rows > 0,
                   "{}: must have tokens to train on; none of its {} rows has one", name,
                   statistics.untrained_rows);
  require<IoError>(
      !result_.samples.empty(),
      "{}: must have tokens to train on; the limit of {} tokens cuts off the answer of each of its "
      "{} rows: raise it (--max-length)",
      name, options_.max_length, statistics.dropped_rows);
  return std::move(result_);
}

}  // namespace

std::string Dataset::name() const {
  if (files.empty()) return "dataset";
  if (files.size() == 1) return files[0].string();
  return fmt::format("{} and {} more file{}", files[0].string(), files.size() - 1,
                     files.size() == 2 ? "" : "s");
}

std::string Dataset::where(const Sample& sample) const {
  return fmt::format("{}:{}", sample.source < files.size() ? files[sample.source].string() : "dataset",
                     sample.line);
}

Dataset Dataset::parse(std::string_view text, const std::string& source, const Tokenizer& tokenizer,
                       const DatasetOptions& options) {
  Loader loader(tokenizer, options);
  loader.read(*io::text_source(text), source, 1);
  return loader.finish();
}

Dataset Dataset::load(std::span<const DataFile> files, const Tokenizer& tokenizer,
                      const DatasetOptions& options) {
  require(!files.empty(), "dataset: must have at least one file; got none");
  Loader loader(tokenizer, options);
  for (const DataFile& file : files) loader.read(*io::open_bytes(file.path), file.path.string(), file.weight);
  return loader.finish();
}

Dataset Dataset::load(const std::filesystem::path& file, const Tokenizer& tokenizer,
                      const DatasetOptions& options) {
  const DataFile one{file, 1};
  return load(std::span(&one, 1), tokenizer, options);
}

Dataset Dataset::hold_out(double share, std::uint64_t seed) {
  require(share > 0 && share < 1, "dataset: the share to hold out must be above 0 and below 1; got {}",
          share);
  // A row that its file's weight repeats is one: none of its copies may be trained on where one validates.
  std::vector<std::size_t> row_of(samples.size(), 0);
  for (std::size_t i = 1; i < samples.size(); ++i) {
    const Sample &one = samples[i - 1], &two = samples[i];
    const bool copy = one.source == two.source && one.line == two.line && one.ids == two.ids;
    row_of[i] = row_of[i - 1] + (copy ? 0 : 1);
  }
  const std::size_t rows = samples.empty() ? 0 : row_of.back() + 1;
  require(rows >= 2, "{}: must have at least 2 rows to hold one out; got {}", name(), rows);
  const auto wanted = static_cast<std::size_t>(std::llround(share * static_cast<double>(rows)));
  const std::size_t count_out = std::clamp<std::size_t>(wanted, 1, rows - 1);
  const std::vector<bool> out = drawn_rows(rows, count_out, seed);
  Dataset held{files, format, {}, {}};
  Dataset kept{files, format, {}, {}};
  kept.statistics.truncated_rows = statistics.truncated_rows;
  kept.statistics.dropped_rows = statistics.dropped_rows;
  kept.statistics.untrained_rows = statistics.untrained_rows;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    Dataset& part = out[row_of[i]] ? held : kept;
    count(part.statistics, samples[i]);
    part.samples.push_back(std::move(samples[i]));
  }
  *this = std::move(kept);
  return held;
}

}  // namespace candela
