#include <algorithm>

#include <candela/core/error.h>
#include <candela/train/batch_source.h>
#include <candela/train/trainer.h>

#include "io/json.h"
#include "train/step_batches.h"

namespace candela {
namespace {

/// `samples` must be ones that a run can train or validate on; `rows` is what the errors call them.
/// vocab_size 0: ids are not looked at.
void check_samples(std::span<const Sample> samples, std::string_view rows, std::int64_t vocab_size) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const Sample& sample = samples[i];
    const auto at = [&] { return fmt::format("{} {} (line {})", rows, i, sample.line); };
    require(sample.ids.size() >= 2 && sample.trained.size() == sample.ids.size(),
            "train: {} must have at least 2 tokens, each with its mark; got {} and {}", at(),
            sample.ids.size(), sample.trained.size());
    require(std::find(sample.trained.begin() + 1, sample.trained.end(), 1) != sample.trained.end(),
            "train: {} has no token to train on; leave it out", at());
    if (vocab_size == 0) continue;
    for (const TokenId id : sample.ids) {
      require(id >= 0 && id < vocab_size,
              "train: {} holds the token {}, and the model's vocab_size is {}; use the model's own tokenizer",
              at(), id, vocab_size);
    }
  }
}

void count_row(const Sample& sample, std::int64_t times, TrainLength& length) {
  length.tokens += times * (static_cast<std::int64_t>(sample.ids.size()) - 1);
  length.trained_tokens += times * std::count(sample.trained.begin() + 1, sample.trained.end(), 1);
}

/// Positions that a batch computes, padding included.
std::size_t computed(std::span<const Sample> samples, std::span<const std::size_t> rows) {
  std::size_t longest = 0;
  for (const std::size_t row : rows) longest = std::max(longest, samples[row].ids.size());
  return longest * rows.size();
}

/// Throws InvalidArgument naming a row that no pack has room for.
void check_packable(std::span<const Sample> samples, std::int64_t pack_length) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto inputs = static_cast<std::int64_t>(samples[i].ids.size()) - 1;
    require(inputs <= pack_length,
            "train: row {} (line {}) has {} tokens, and a pack takes rows of at most {}; raise the length of "
            "packs (--pack-length), or cut rows off",
            i, samples[i].line, inputs + 1, pack_length + 1);
  }
}

/// Batches of different lengths that are planned: enough to leave blocks of every size class in the cache.
constexpr std::size_t kPlannedLengths = 12;

/// At most kPlannedLengths of the sorted batches, from long rows to short ones, none beyond `most` positions:
/// a run of few steps does not meet the longest rows.
std::vector<std::vector<std::size_t>> of_all_lengths(std::span<const Sample> samples, std::size_t most,
                                                     std::size_t batch_size) {
  auto sorted = sorted_batches(samples, batch_size);
  std::erase_if(sorted, [&](const auto& rows) { return computed(samples, rows) > most; });
  std::vector<std::vector<std::size_t>> picked;
  const std::size_t count = std::min(sorted.size(), kPlannedLengths);
  for (std::size_t i = 0; i < count; ++i) picked.push_back(sorted[i * sorted.size() / count]);
  return picked;
}

/// FNV-1a over ids and marks: whether a run goes on with the data it began with.
std::string fingerprint(std::span<const Sample> samples) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3U; };
  for (const Sample& sample : samples) {
    add(sample.ids.size());
    for (const TokenId id : sample.ids) add(static_cast<std::uint64_t>(id));
    for (const std::uint8_t mark : sample.trained) add(mark);
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace

struct SampleSource::State {
  std::span<const Sample> samples;
  TrainOptions options;
  StepBatches batches;
  std::string data;  // fingerprint()
  TrainLength length;
  /// Rows of the batch that computes the most positions.
  std::vector<std::size_t> worst;
  /// Packed batches differ little in their positions: rows of the one that trains the most tokens, and of the
  /// shortest.
  std::vector<std::size_t> most_trained, shortest;

  State(std::span<const Sample> of, const TrainOptions& with)
      : samples(of), options(with), batches(of, with), data(fingerprint(of)) {
    measure();
  }

  HostBatch make(std::span<const std::size_t> rows) const {
    return options.pack_length > 0 ? make_packed_batch(samples, rows, options.pad_id)
                                   : make_host_batch(samples, rows, options.pad_id);
  }

  /// What the run's plan needs to know of a batch.
  void note(const std::vector<std::size_t>& batch) {
    if (options.pack_length == 0) {
      if (computed(samples, batch) > computed(samples, worst)) worst = batch;
      return;
    }
    const auto tokens = [this](const std::vector<std::size_t>& rows) {
      TrainLength sum;
      for (const std::size_t row : rows) count_row(samples[row], 1, sum);
      return sum;
    };
    const TrainLength here = tokens(batch);
    const TrainLength before = tokens(worst);
    if (here.tokens > before.tokens ||
        (here.tokens == before.tokens && here.trained_tokens > before.trained_tokens))
      worst = batch;
    if (here.trained_tokens > tokens(most_trained).trained_tokens) most_trained = batch;
    if (shortest.empty() || here.tokens < tokens(shortest).tokens) shortest = batch;
  }

  void measure() {
    constexpr std::int64_t kMeasuredEpochs = 16;
    const std::int64_t per_epoch = batches.steps_per_epoch();
    length.steps = batches.steps();
    const std::int64_t whole = length.steps / per_epoch;
    Positions positions;
    const auto add_steps = [&](StepBatches order, std::int64_t steps, bool count_tokens) {
      for (std::int64_t step = 0; step < steps; ++step) {
        for (const auto& batch : order.next()) {
          if (options.pack_length > 0)
            positions.add_packed(samples, batch);
          else
            positions.add(samples, batch);
          for (const std::size_t row : batch) {
            if (count_tokens) count_row(samples[row], 1, length);
          }
          note(batch);
        }
      }
    };
    add_steps(StepBatches(samples, options), per_epoch * std::min(whole, kMeasuredEpochs), false);
    add_steps(StepBatches(samples, options, static_cast<std::uint64_t>(whole)), length.steps % per_epoch,
              true);
    for (const Sample& sample : samples) count_row(sample, whole, length);
    length.padding = positions.padding_share();
  }
};

SampleSource::SampleSource(std::span<const Sample> samples, const TrainOptions& options) {
  check_train_options(options);
  require(!samples.empty(), "train: there are no rows to train on");
  check_samples(samples, "row", 0);
  if (options.pack_length > 0) check_packable(samples, options.pack_length);
  state_ = std::make_unique<State>(samples, options);
}

SampleSource::~SampleSource() = default;

std::vector<HostBatch> SampleSource::next() {
  std::vector<HostBatch> batches;
  for (const auto& rows : state_->batches.next()) batches.push_back(state_->make(rows));
  return batches;
}

std::string SampleSource::place() const {
  return fmt::format(R"({{"batch":{},"data":"{}","epoch":{},"pack_length":{},"rows":{}}})",
                     state_->batches.cursor(), state_->data, state_->batches.epoch(),
                     state_->options.pack_length, state_->samples.size());
}

void SampleSource::restore(std::string_view place) {
  const io::JsonTree document = io::parse_json(place, "train: the place in the data");
  const io::JsonObject object(document, "train: the place in the data");
  const auto number = [&](const char* key) {
    const io::Json* const value = object.find(key);
    require<IoError>(value != nullptr && value->is_number_unsigned(),
                     "train: the place in the data must have a number \"{}\"; got {}", key, place);
    return value->get<std::uint64_t>();
  };
  const std::uint64_t epoch = number("epoch");
  const std::uint64_t batch = number("batch");
  const std::uint64_t rows = number("rows");
  const std::string data = object.string("data", "");
  require<IoError>(rows == state_->samples.size() && data == state_->data,
                   "train: the data are not those of the run: it had {} rows ({}), now there are {} ({}); "
                   "give the data set it began with",
                   rows, data, state_->samples.size(), state_->data);
  const std::int64_t pack_length = static_cast<std::int64_t>(number("pack_length"));
  require<IoError>(pack_length == state_->options.pack_length,
                   "train: the rows of the run were packed to {} tokens (0: not at all), now they are to {}; "
                   "give the pack length of the run",
                   pack_length, state_->options.pack_length);
  require<IoError>(epoch < (std::uint64_t{1} << 24U) && state_->batches.seek(epoch, batch),
                   "train: no step of epoch {} ends after batch {}; give the batch size and accumulation of "
                   "the run",
                   epoch, batch);
}

TrainLength SampleSource::length() const {
  return state_->length;
}

std::vector<HostBatch> SampleSource::planned() const {
  std::vector<HostBatch> batches = {state_->make(state_->worst)};
  if (state_->options.pack_length > 0) {
    for (const auto& rows : {state_->most_trained, state_->shortest}) batches.push_back(state_->make(rows));
    return batches;
  }
  for (const auto& rows : of_all_lengths(state_->samples, computed(state_->samples, state_->worst),
                                         static_cast<std::size_t>(state_->options.batch_size)))
    batches.push_back(state_->make(rows));
  return batches;
}

bool SampleSource::accumulates() const {
  return state_->batches.accumulates();
}

void SampleSource::check(std::int64_t vocab_size) const {
  check_samples(state_->samples, "row", vocab_size);
}

ValidationSource::ValidationSource(std::span<const Sample> samples, std::int64_t batch_size,
                                   std::int32_t pad_id)
    : samples_(samples), pad_id_(pad_id) {
  require(batch_size >= 1, "evaluate: batch size must be at least 1; got {}", batch_size);
  batches_ = sorted_batches(samples, static_cast<std::size_t>(batch_size));
}

std::vector<HostBatch> ValidationSource::next() {
  while (cursor_ < batches_.size()) {
    HostBatch batch = make_host_batch(samples_, batches_[cursor_++], pad_id_);
    if (batch.trained_tokens() == 0) continue;
    std::vector<HostBatch> one;
    one.push_back(std::move(batch));
    return one;
  }
  return {};
}

std::string ValidationSource::place() const {
  return std::to_string(cursor_);
}

void ValidationSource::restore(std::string_view place) {
  std::size_t cursor = 0;
  for (const char digit : place) {
    require<IoError>(digit >= '0' && digit <= '9' && cursor <= batches_.size(),
                     "evaluate: the place must be at most {}; got {}", batches_.size(), place);
    cursor = 10 * cursor + static_cast<std::size_t>(digit - '0');
  }
  require<IoError>(cursor <= batches_.size(), "evaluate: the place must be at most {}; got {}",
                   batches_.size(), place);
  cursor_ = cursor;
}

TrainLength ValidationSource::length() const {
  TrainLength length;
  Positions positions;
  length.steps = static_cast<std::int64_t>(batches_.size());
  for (const Sample& sample : samples_) count_row(sample, 1, length);
  for (const auto& rows : batches_) positions.add(samples_, rows);
  length.padding = positions.padding_share();
  return length;
}

std::vector<HostBatch> ValidationSource::planned() const {
  std::vector<HostBatch> batches;
  if (!batches_.empty()) batches.push_back(make_host_batch(samples_, batches_.front(), pad_id_));
  return batches;
}

void ValidationSource::check(std::int64_t vocab_size) const {
  check_samples(samples_, "validation row", vocab_size);
}

}  // namespace candela
