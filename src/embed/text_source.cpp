#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

#include <candela/core/error.h>
#include <candela/core/random.h>
#include <candela/embed/text_source.h>

#include "io/json.h"

namespace candela {

TokenTable tokenize_table(const Embedder& embedder, const TextTable& table, const EmbedOptions& query,
                          const EmbedOptions& passage) {
  TokenTable result;
  result.columns = table.columns;
  result.scores = table.scores;
  const std::size_t count = table.texts.size();
  result.texts.ids.resize(count);
  result.texts.skipped.resize(count);
  for (std::int64_t column = 0; column < table.columns; ++column) {
    Embedder::TokenRows rows = embedder.tokenize(table.column(column), column == 0 ? query : passage);
    result.texts.cut += rows.cut;
    for (std::size_t row = 0; row < rows.ids.size(); ++row) {
      const std::size_t at = row * static_cast<std::size_t>(table.columns) + static_cast<std::size_t>(column);
      result.texts.ids[at] = std::move(rows.ids[row]);
      result.texts.skipped[at] = rows.skipped[row];
    }
  }
  std::unordered_map<std::string_view, std::int32_t> known;
  for (const std::string& text : table.texts)
    result.names.push_back(known.emplace(text, static_cast<std::int32_t>(known.size())).first->second);
  return result;
}

struct TextSource::State {
  const TokenTable& table;
  std::function<std::vector<std::int32_t>(std::span<const std::int64_t>)> positions;
  TrainOptions train;
  TextSourceOptions options;
  std::uint64_t epoch = 0;
  std::size_t cursor = 0;  // steps of the epoch that were given
  std::vector<std::vector<std::size_t>> steps;
  std::string data;                  // a digest
  std::vector<std::int32_t> counts;  // of each name

  State(const TokenTable& given, std::function<std::vector<std::int32_t>(std::span<const std::int64_t>)> at,
        const TrainOptions& train_options, const TextSourceOptions& source_options)
      : table(given), positions(std::move(at)), train(train_options), options(source_options) {
    // FNV-1a over all ids, the number of columns and the scores.
    std::uint64_t hash = 14695981039346656037ULL;
    for (const auto& ids : table.texts.ids) {
      for (const TokenId id : ids) hash = (hash ^ static_cast<std::uint64_t>(id)) * 1099511628211ULL;
      hash = (hash ^ 0xFFFFFFFFULL) * 1099511628211ULL;
    }
    hash = (hash ^ static_cast<std::uint64_t>(table.columns)) * 1099511628211ULL;
    for (const float score : table.scores)
      hash = (hash ^ std::bit_cast<std::uint32_t>(score)) * 1099511628211ULL;
    data = fmt::format("{:016x}", hash);
    for (const std::int32_t name : table.names) {
      counts.resize(std::max(counts.size(), static_cast<std::size_t>(name) + 1));
      ++counts[static_cast<std::size_t>(name)];
    }
    shuffle();
  }

  std::size_t rows() const { return static_cast<std::size_t>(table.rows()); }
  std::size_t batch_size() const { return static_cast<std::size_t>(train.batch_size); }
  std::size_t steps_per_epoch() const { return (rows() + batch_size() - 1) / batch_size(); }

  std::size_t tokens_of(std::size_t row) const {
    const auto columns = static_cast<std::size_t>(table.columns);
    std::size_t tokens = 0;
    for (std::size_t i = row * columns; i < (row + 1) * columns; ++i) tokens += table.texts.ids[i].size();
    return tokens;
  }

  std::span<const std::int32_t> names_of(std::size_t row) const {
    const auto columns = static_cast<std::size_t>(table.columns);
    return std::span(table.names).subspan(row * columns, columns);
  }

  void shuffle() {
    std::vector<std::size_t> order(rows());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (!options.validation) {
      Generator generator(train.seed);
      generator.set_offset(epoch << 40U);
      for (std::size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[static_cast<std::size_t>(generator.next_below(i))]);
    }
    steps = deal(order);
    cursor = 0;
  }

  /// Rows in steps of batch_size, the last one smaller. With `distinct`, rows whose texts occur again come
  /// first, each into the next step that has none of them; where there is none, into the next with room.
  std::vector<std::vector<std::size_t>> deal(const std::vector<std::size_t>& order) const {
    std::vector<std::vector<std::size_t>> result(steps_per_epoch());
    const auto has_room = [&](std::size_t step) {
      return result[step].size() < std::min(batch_size(), rows() - step * batch_size());
    };
    std::vector<std::size_t> others;
    std::vector<std::unordered_set<std::int32_t>> taken(result.size());
    std::vector<std::size_t> held(counts.size());  // steps that have the name
    std::size_t next = 0;
    for (const std::size_t row : order) {
      const auto names = names_of(row);
      const auto occurs_again = [&](std::int32_t name) { return counts[static_cast<std::size_t>(name)] > 1; };
      if (!options.distinct || std::none_of(names.begin(), names.end(), occurs_again)) {
        others.push_back(row);
        continue;
      }
      // A text that every step has leaves none to look for.
      const bool everywhere = std::any_of(names.begin(), names.end(), [&](std::int32_t name) {
        return held[static_cast<std::size_t>(name)] == result.size();
      });
      std::size_t chosen = result.size();
      for (std::size_t tried = 0; tried < result.size(); ++tried) {
        const std::size_t step = (next + tried) % result.size();
        if (!has_room(step)) continue;
        const bool free = std::none_of(names.begin(), names.end(),
                                       [&](std::int32_t name) { return taken[step].count(name) > 0; });
        if (free || chosen == result.size()) chosen = step;
        if (free || everywhere) break;
      }
      for (const std::int32_t name : names) {
        if (taken[chosen].insert(name).second) ++held[static_cast<std::size_t>(name)];
      }
      result[chosen].push_back(row);
      next = chosen + 1;
    }
    std::size_t step = 0;
    for (const std::size_t row : others) {
      while (!has_room(step)) ++step;
      result[step].push_back(row);
    }
    return result;
  }

  HostBatch batch_of(std::span<const std::size_t> batch_rows) const {
    HostBatch batch;
    auto texts = std::make_shared<TextRows>();
    texts->columns = table.columns;
    batch.rows = 1;
    batch.cu_seqlens = {0};
    for (const std::size_t row : batch_rows) {
      for (std::int64_t column = 0; column < table.columns; ++column) {
        const auto at = row * static_cast<std::size_t>(table.columns) + static_cast<std::size_t>(column);
        const std::vector<TokenId>& ids = table.texts.ids[at];
        const auto length = static_cast<std::int64_t>(ids.size());
        batch.longest = std::max(batch.longest, length);
        const auto begin = static_cast<std::int32_t>(batch.ids.size());
        texts->first.push_back(begin +
                               static_cast<std::int32_t>(std::min(table.texts.skipped[at], length - 1)));
        texts->end.push_back(begin + static_cast<std::int32_t>(length));
        batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
        const std::vector<std::int64_t> wide(ids.begin(), ids.end());
        const std::vector<std::int32_t> places = positions(wide);
        batch.sequence_positions.insert(batch.sequence_positions.end(), places.begin(), places.end());
        batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.ids.size()));
      }
      if (!table.scores.empty()) texts->scores.push_back(table.scores[row]);
    }
    batch.length = static_cast<std::int64_t>(batch.ids.size());
    batch.tokens = batch.length;
    batch.texts = std::move(texts);
    return batch;
  }

  /// The rows of a step, in batches of at most batch_tokens.
  std::vector<HostBatch> batches_of(std::span<const std::size_t> step) const {
    std::vector<HostBatch> batches;
    for (std::size_t first = 0; first < step.size();) {
      const std::size_t last = fitting(step, first);
      batches.push_back(batch_of(step.subspan(first, last - first)));
      first = last;
    }
    return batches;
  }

  std::size_t fitting(std::span<const std::size_t> step, std::size_t first) const {
    std::size_t tokens = tokens_of(step[first]);
    std::size_t last = first + 1;
    for (; last < step.size(); ++last) {
      tokens += tokens_of(step[last]);
      if (tokens > static_cast<std::size_t>(options.batch_tokens)) break;
    }
    return last;
  }

  /// All rows, the longest first.
  std::vector<std::size_t> by_length() const {
    std::vector<std::size_t> order(rows());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return tokens_of(a) > tokens_of(b); });
    return order;
  }

  /// The longest rows of a step's number: no step of any epoch has more tokens.
  std::vector<std::size_t> longest_step() const {
    std::vector<std::size_t> order = by_length();
    order.resize(std::min(order.size(), batch_size()));
    return order;
  }

  std::int64_t steps_of_run() const {
    if (options.validation) return static_cast<std::int64_t>(steps_per_epoch());
    if (train.max_steps > 0) return train.max_steps;
    const double whole = static_cast<double>(steps_per_epoch());
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(whole * train.epochs - 1e-9)));
  }
};

TextSource::TextSource(const TokenTable& table,
                       std::function<std::vector<std::int32_t>(std::span<const std::int64_t>)> positions,
                       const TrainOptions& train, const TextSourceOptions& options) {
  check_train_options(train);
  require(table.rows() > 0, "train: there are no rows to train on");
  require(train.accumulation == 1,
          "train: accumulation must be 1 for embeddings: the loss sees all texts of a step; got {}",
          train.accumulation);
  require(options.batch_tokens > 0, "train: batch_tokens must be positive; got {}", options.batch_tokens);
  state_ = std::make_unique<State>(table, std::move(positions), train, options);
}

TextSource::~TextSource() = default;

std::vector<HostBatch> TextSource::next() {
  if (state_->cursor == state_->steps.size()) {
    if (state_->options.validation) return {};
    ++state_->epoch;
    state_->shuffle();
  }
  return state_->batches_of(state_->steps[state_->cursor++]);
}

std::string TextSource::place() const {
  const nlohmann::json place = {
      {"epoch", state_->epoch}, {"step", state_->cursor}, {"rows", state_->rows()}, {"data", state_->data}};
  return place.dump();
}

void TextSource::restore(std::string_view place) {
  if (place.empty()) {
    state_->epoch = 0;
    return state_->shuffle();
  }
  const io::JsonTree document = io::parse_json(place, "train: the place in the data");
  const io::JsonObject object(document, "train: the place in the data");
  const auto number = [&](const char* key) {
    const io::Json* const value = object.find(key);
    require<IoError>(value != nullptr && value->is_number_unsigned(),
                     "train: the place in the data must have a number \"{}\"; got {}", key, place);
    return value->get<std::uint64_t>();
  };
  const std::uint64_t epoch = number("epoch");
  const std::uint64_t step = number("step");
  const std::uint64_t rows = number("rows");
  const std::string data = object.string("data", "");
  require<IoError>(
      rows == state_->rows() && data == state_->data,
      "train: the data must be those of the run, {} rows ({}); got {} ({}); give the data set it "
      "began with",
      rows, data, state_->rows(), state_->data);
  require<IoError>(epoch < (std::uint64_t{1} << 24U) && step <= state_->steps_per_epoch(),
                   "train: step must be in [0, {}] of an epoch below 2^24; got {} of {}; give the batch size "
                   "of the run",
                   state_->steps_per_epoch(), step, epoch);
  state_->epoch = epoch;
  state_->shuffle();
  state_->cursor = static_cast<std::size_t>(step);
}

TrainLength TextSource::length() const {
  TrainLength length;
  length.steps = state_->steps_of_run();
  std::size_t tokens = 0;
  for (std::size_t row = 0; row < state_->rows(); ++row) tokens += state_->tokens_of(row);
  const double epochs = static_cast<double>(length.steps) / static_cast<double>(state_->steps_per_epoch());
  length.tokens = static_cast<std::int64_t>(static_cast<double>(tokens) * epochs);
  length.trained_tokens = static_cast<std::int64_t>(static_cast<double>(state_->rows()) * epochs);
  return length;
}

std::vector<HostBatch> TextSource::planned() const {
  // The longest rows that fit beside each other: the longest alone may leave more room than the next one
  // takes.
  const auto most = static_cast<std::size_t>(state_->options.batch_tokens);
  std::vector<std::size_t> rows;
  std::size_t tokens = 0;
  for (const std::size_t row : state_->by_length()) {
    if (rows.size() == state_->batch_size()) break;
    if (!rows.empty() && tokens + state_->tokens_of(row) > most) continue;
    tokens += state_->tokens_of(row);
    rows.push_back(row);
  }
  std::vector<HostBatch> batches;
  batches.push_back(state_->batch_of(rows));
  return batches;
}

std::size_t TextSource::planned_passes() const {
  const std::vector<std::size_t> step = state_->longest_step();
  const std::size_t rows = state_->fitting(step, 0);
  return (step.size() + rows - 1) / rows;
}

void TextSource::check(std::int64_t vocab_size) const {
  for (std::size_t i = 0; i < state_->table.texts.ids.size(); ++i) {
    for (const TokenId id : state_->table.texts.ids[i])
      require(id >= 0 && id < vocab_size,
              "train: text {} of row {} has token {}; the model's vocabulary has {}",
              i % static_cast<std::size_t>(state_->table.columns) + 1,
              i / static_cast<std::size_t>(state_->table.columns) + 1, id, vocab_size);
  }
}

}  // namespace candela
