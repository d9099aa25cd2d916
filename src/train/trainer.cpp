#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/train/trainer.h>

#include "models/values.h"
#include "train/pass_recorder.h"

namespace candela {
namespace {

constexpr std::int64_t kMostSteps = std::int64_t{1} << 40U;
constexpr double kMostEpochs = 1e6;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Everything that requires a gradient, in the order of the network.
std::vector<NamedTensor> named_trainable(const Model& model) {
  std::vector<NamedTensor> parameters;
  for (const NamedTensor& parameter : model.named_parameters()) {
    if (parameter.tensor.requires_grad()) parameters.push_back(parameter);
  }
  for (const Linear& layer : model.linears()) {
    if (layer.adapter.a.requires_grad())
      parameters.push_back({layer.path + ".lora_A.weight", layer.adapter.a});
    if (layer.adapter.b.requires_grad())
      parameters.push_back({layer.path + ".lora_B.weight", layer.adapter.b});
  }
  return parameters;
}

/// The first trainable tensor whose gradient is not finite, for the error.
std::string first_bad_gradient(const Optimizer& optimizer) {
  std::vector<NamedTensor> gradients;
  for (const NamedTensor& parameter : optimizer.parameters()) {
    if (parameter.tensor.grad().defined()) gradients.push_back({parameter.name, parameter.tensor.grad()});
  }
  return first_non_finite(gradients);
}

/// Why a loss is not finite, and what to do.
std::string blame(const Model& model) {
  const std::string weight = first_non_finite(model);
  return weight.empty() ? "lower the learning rate, or check the data of this step"
                        : weight + " is no finite number; if training made it so, lower the learning rate";
}

std::int64_t trained_tokens_of(const Batch& batch) {
  return batch.trained_tokens;
}
std::int64_t trained_tokens_of(const HostBatch& batch) {
  return batch.trained_tokens();
}

/// Sum of the losses over the trained tokens of a batch: only their hidden states meet the output layer.
Tensor token_loss(Model& model, const Batch& batch, Generator* dropout,
                  Checkpointing checkpointing = Checkpointing::None) {
  ForwardOptions forward;
  forward.dropout = dropout;
  forward.positions = batch.sequence_positions;
  forward.cu_seqlens = batch.cu_seqlens;
  forward.longest = batch.longest;
  forward.checkpointing = checkpointing;
  const Tensor hidden = model.forward_hidden(batch.ids, forward);
  const Tensor rows = embedding(reshape(hidden, {-1, hidden.size(-1)}), batch.positions);
  return model.loss(rows, batch.targets, dropout);
}

std::vector<Batch> on_device(std::span<const HostBatch> batches, Device device) {
  std::vector<Batch> uploaded;
  for (const HostBatch& batch : batches) uploaded.push_back(batch.upload(device));
  return uploaded;
}
std::span<const Batch> on_device(std::span<const Batch> batches, Device) {
  return batches;
}

/// The loss of the batches of a step, without gradients.
double loss_of(Model& model, const Objective* objective, std::span<const HostBatch> batches) {
  const NoGrad guard;
  if (objective != nullptr) return objective->loss(model, on_device(batches, model.device())).item();
  double loss = 0;
  for (const HostBatch& batch : batches)
    loss += token_loss(model, batch.upload(model.device()), nullptr).item();
  return loss;
}

}  // namespace

std::vector<Tensor> trainable_parameters(const Model& model) {
  std::vector<Tensor> parameters;
  for (const NamedTensor& parameter : named_trainable(model)) parameters.push_back(parameter.tensor);
  return parameters;
}

void check_train_options(const TrainOptions& options) {
  constexpr std::int64_t kMostRows = 1 << 20;
  const auto count = [](const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
    require(value >= low && value <= high, "train: {} must be in [{}, {}]; got {}", name, low, high, value);
  };
  // Written so that NaN is outside every range.
  const auto share = [](const char* name, double value, bool one) {
    require(value >= 0 && (one ? value <= 1 : value < 1), "train: {} must be in [0, 1{}; got {}", name,
            one ? "]" : ")", value);
  };
  const auto positive = [](const char* name, double value) {
    require(value > 0 && std::isfinite(value), "train: {} must be a finite number above 0; got {}", name,
            value);
  };
  const auto not_negative = [](const char* name, double value) {
    require(value >= 0 && std::isfinite(value), "train: {} must be a finite number of at least 0; got {}",
            name, value);
  };
  count("batch_size", options.batch_size, 1, kMostRows);
  count("accumulation", options.accumulation, 1, kMostRows);
  count("pack_length", options.pack_length, 0, std::numeric_limits<std::int32_t>::max());
  count("max_steps", options.max_steps, 0, kMostSteps);
  count("validate_every", options.validate_every, 0, kMostSteps);
  count("patience", options.patience, 0, kMostSteps);
  count("max_skipped", options.max_skipped, 0, kMostSteps);
  if (options.max_steps == 0) {
    require(options.epochs > 0 && options.epochs <= kMostEpochs,
            "train: epochs must be above 0 and at most {} where max_steps is 0; got {}", kMostEpochs,
            options.epochs);
  }
  share("warmup", options.warmup, true);
  share("floor", options.floor, true);
  positive("adamw.lr", options.adamw.lr);
  share("adamw.beta1", options.adamw.beta1, false);
  share("adamw.beta2", options.adamw.beta2, false);
  positive("adamw.eps", options.adamw.eps);
  not_negative("adamw.weight_decay", options.adamw.weight_decay);
  not_negative("clip_norm", options.clip_norm);
}

namespace {

std::vector<NamedTensor> checked_trainable(const Model& model, const TrainOptions& options) {
  check_train_options(options);
  require(options.pad_id >= 0 && options.pad_id < model.config().vocab_size,
          "train: pad_id must be in [0, {}) as the model's vocab_size says; got {}",
          model.config().vocab_size, options.pad_id);
  std::vector<NamedTensor> parameters = named_trainable(model);
  require(!parameters.empty(), "train: the model has nothing to train; attach an adapter first");
  return parameters;
}

}  // namespace

Trainer::StepState::StepState(Device device)
    : learning_rate(zeros({1}, DType::F32, device)),
      share(zeros({1}, DType::F32, device)),
      random(zeros({1}, DType::I64, device)),
      loss(zeros({1}, DType::F32, device)) {}

namespace {

template <class T>
void upload(T value, const Tensor& to) {
  device_interface(to.device())
      .copy_in(*to.storage(), static_cast<std::size_t>(to.layout().offset) * sizeof(T),
               std::as_bytes(std::span(&value, 1)));
}

}  // namespace

void Trainer::StepState::set(double rate, double loss_share) {
  upload(static_cast<float>(rate), learning_rate);
  upload(static_cast<float>(loss_share), share);
}

void Trainer::StepState::set_random(std::uint64_t first) {
  upload(static_cast<std::int64_t>(first), random);
}

Trainer::Trainer(Model& model, TrainOptions options)
    : model_(model),
      options_(std::move(options)),
      optimizer_(checked_trainable(model, options_), options_.adamw, options_.clip_norm),
      dropout_(options_.seed ^ 0x9e3779b97f4a7c15U),
      step_state_(model.device()),
      passes_(std::make_unique<PassRecorder>(
          model, [this](const Batch& batch) { run_pass(batch); }, dropout_, options_.pad_id)) {
  dropout_.set_base(step_state_.random);
}

Trainer::~Trainer() = default;

std::int64_t Trainer::recorded() const {
  return passes_->recorded();
}

std::vector<Tensor> Trainer::parameters() const {
  std::vector<Tensor> parameters;
  for (const NamedTensor& parameter : optimizer_.parameters()) parameters.push_back(parameter.tensor);
  return parameters;
}

TrainLength Trainer::length(std::span<const Sample> samples) const {
  const SampleSource source(samples, options_);
  source.check(model_.config().vocab_size);
  return source.length();
}

void Trainer::restore(const RunState& state) {
  require(state.step >= 0 && state.step >= state.updates && state.updates >= 0,
          "train: a state must have done at least as many steps as updates; got {} and {}", state.step,
          state.updates);
  state_ = state;
  random_offset_ = state.random_offset;
}

void Trainer::run_pass(const Batch& batch) {
  const Tensor loss = token_loss(model_, batch, &dropout_, options_.checkpointing);
  add_(step_state_.loss, loss.detach());
  backward(loss, cast(step_state_.share, loss.dtype()));
}

/// All passes of a step, for which `random` is the first position of what they draw; returns the one behind.
/// An objective's passes are not recorded: it reads on the host which texts make a row.
template <class B>
std::uint64_t Trainer::run_passes(std::span<const B> batches, std::uint64_t random, double share) {
  if (options_.objective) {
    step_state_.set_random(random);
    dropout_.set_offset(0);
    const auto uploaded = on_device(batches, model_.device());
    add_(step_state_.loss,
         options_.objective->accumulate(model_, uploaded, share, dropout_, options_.checkpointing));
    return random + dropout_.offset();
  }
  for (const B& batch : batches) {
    step_state_.set_random(random);
    random += passes_->run(batch);
  }
  return random;
}

template <class B>
Trainer::InFlight& Trainer::enqueue_passes(std::span<const B> batches, double learning_rate) {
  InFlight step;
  step.random_begin = random_offset_;
  for (const B& batch : batches) step.trained_tokens += trained_tokens_of(batch);
  require(step.trained_tokens > 0, "train: none of the tokens of this step is trained");
  optimizer_.clear_gradients();
  fill_(step_state_.loss, 0);
  const double share = 1.0 / static_cast<double>(step.trained_tokens);
  step_state_.set(learning_rate, share);
  random_offset_ = run_passes(batches, random_offset_, share);
  step.random_end = random_offset_;
  optimizer_.step(step_state_.loss, step_state_.learning_rate);
  return in_flight_.emplace_back(std::move(step));
}

void Trainer::enqueue(std::span<const HostBatch> batches, double learning_rate) {
  enqueue_passes(batches, learning_rate).batches.assign(batches.begin(), batches.end());
}

/// Why a step changed nothing. Where a later one has overwritten its gradients, they are made again.
std::string Trainer::explain_skip(const InFlight& step, const StepOutcome& outcome) {
  if (!std::isfinite(outcome.loss)) {
    // Which sign a NaN has is chance.
    return fmt::format("train: the loss became {} at step {}: {}",
                       std::isnan(outcome.loss) ? "nan" : "infinite", state_.step, blame(model_));
  }
  if (!in_flight_.empty()) {
    optimizer_.clear_gradients();
    upload(static_cast<float>(1.0 / static_cast<double>(step.trained_tokens)), step_state_.share);
    run_passes(std::span<const Batch>(on_device(std::span<const HostBatch>(step.batches), model_.device())),
               step.random_begin, 1.0 / static_cast<double>(step.trained_tokens));
  }
  const std::string tensor = first_bad_gradient(optimizer_);
  return fmt::format(
      "train: the gradient{} became {} at step {}{}; lower the learning rate",
      tensor.empty() ? "'s norm" : "", outcome.norm, state_.step,
      tensor.empty() ? ", the squares of finite gradients being beyond f32" : ", first in " + tensor);
}

Trainer::StepOutcome Trainer::finish() {
  const Optimizer::Result result = optimizer_.finish();
  const InFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  state_.updates = optimizer_.updates();
  state_.random_offset = step.random_end;
  ++state_.step;
  StepOutcome outcome{result.loss / static_cast<double>(step.trained_tokens), result.norm, {}};
  if (result.applied) {
    state_.skipped_in_a_row = 0;
    return outcome;
  }
  outcome.skipped = explain_skip(step, outcome);
  ++state_.skipped_in_a_row;
  // No later step can mend a weight.
  if (state_.skipped_in_a_row > options_.max_skipped || !first_non_finite(model_).empty())
    throw Error(outcome.skipped);
  return outcome;
}

Trainer::StepOutcome Trainer::step(std::span<const Batch> batches, double learning_rate) {
  enqueue_passes(batches, learning_rate);
  return finish();
}

namespace {

/// The mean loss over the trained tokens; nothing once `stop` says so.
std::optional<double> mean_loss(Model& model, const Objective* objective, BatchSource& source,
                                const std::function<bool()>& stop) {
  source.restore("");
  double loss = 0;
  std::int64_t tokens = 0;
  for (auto batches = source.next(); !batches.empty(); batches = source.next()) {
    if (stop && stop()) return std::nullopt;
    loss += loss_of(model, objective, batches);
    for (const HostBatch& batch : batches) tokens += batch.trained_tokens();
  }
  require(tokens > 0, "evaluate: none of the tokens is trained");
  return loss / static_cast<double>(tokens);
}

}  // namespace

double evaluate_loss(Model& model, BatchSource& source) {
  const double loss = *mean_loss(model, nullptr, source, {});
  if (std::isfinite(loss)) return loss;
  throw Error(fmt::format("evaluate: the loss is {}: {}", loss, broken_part(model)));
}

double evaluate_loss(Model& model, std::span<const Sample> samples, std::int64_t batch_size,
                     std::int32_t pad_id) {
  ValidationSource source(samples, batch_size, pad_id);
  return evaluate_loss(model, source);
}

void Trainer::rehearse(BatchSource& source) {
  const std::vector<HostBatch> planned = source.planned();
  if (planned.empty()) return;
  const bool records = device_interface(model_.device()).records() && !options_.objective;
  const Batch batch =
      (records ? bucketed(planned.front(), options_.pad_id) : planned.front()).upload(model_.device());
  Generator dropout;  // the run's own draws stay where they are
  const std::size_t passes = source.planned_passes();
  optimizer_.clear_gradients();
  if (options_.objective) {
    const std::vector<Batch> step(passes, batch);
    options_.objective->accumulate(model_, step, 1, dropout, options_.checkpointing);
    return;
  }
  for (std::size_t pass = 0; pass < passes; ++pass)
    backward(token_loss(model_, batch, &dropout, options_.checkpointing));
}

void Trainer::rehearse_validation(const BatchSource& valid) const {
  valid.check(model_.config().vocab_size);
  const NoGrad guard;
  const std::vector<HostBatch> planned = valid.planned();
  if (planned.empty()) return;
  const Batch batch = planned.front().upload(model_.device());
  if (options_.objective) {
    options_.objective->loss(model_, std::vector<Batch>(valid.planned_passes(), batch));
  } else {
    token_loss(model_, batch, nullptr);
  }
}

void Trainer::rehearse_validation(std::span<const Sample> valid) const {
  if (valid.empty()) return;
  ValidationSource source(valid, options_.batch_size, options_.pad_id);
  rehearse_validation(source);
}

/// Nothing is noted once the run is to stop.
void Trainer::validate(BatchSource& valid, StepReport& now) {
  const std::optional<double> loss = mean_loss(model_, options_.objective.get(), valid, options_.stop);
  if (!loss) return;
  if (!std::isfinite(*loss)) {
    throw Error(fmt::format("train: the validation loss became {} after step {}: {}", *loss, now.step,
                            blame(model_)));
  }
  now.validation_loss = loss;
  now.best = !state_.best_validation || *loss < *state_.best_validation;
  if (now.best) {
    state_.best_validation = loss;
    state_.best_step = now.step;
    state_.validations_without_gain = 0;
  } else {
    ++state_.validations_without_gain;
  }
  now.out_of_patience = options_.patience > 0 && state_.validations_without_gain >= options_.patience;
}

/// The loss of a step is that before its update: what the last update did shows in no step.
void Trainer::check_result(std::span<const HostBatch> last) const {
  const std::string weight = first_non_finite(named_trainable(model_));
  require<Error>(weight.empty(), "train: the last update made {} no finite number; lower the learning rate",
                 weight);
  if (last.empty()) return;
  const double loss = loss_of(model_, options_.objective.get(), last);
  require<Error>(std::isfinite(loss), "train: the last update made the loss {}; lower the learning rate",
                 loss);
}

bool Trainer::fit(std::span<const Sample> train, std::span<const Sample> valid,
                  const std::function<void(const StepReport&)>& report) {
  SampleSource train_source(train, options_);
  if (valid.empty()) return fit(train_source, nullptr, report);
  ValidationSource valid_source(valid, options_.batch_size, options_.pad_id);
  return fit(train_source, &valid_source, report);
}

struct Trainer::Begun {
  StepReport report;
  std::vector<HostBatch> batches;
  std::string place;
};

/// Enqueues the step.
Trainer::Begun Trainer::begin(std::vector<HostBatch> batches, StepReport report) {
  for (const HostBatch& batch : batches) {
    report.tokens += batch.tokens;
    report.trained_tokens += batch.trained_tokens();
  }
  enqueue(batches, report.learning_rate);
  return {std::move(report), std::move(batches), {}};
}

/// Reads the step's result and moves state() behind it. The report's tokens, so far those of the step, become
/// those of the run.
void Trainer::settle(Begun& step) {
  StepOutcome outcome = finish();
  StepReport& now = step.report;
  now.loss = outcome.loss;
  now.grad_norm = outcome.norm;
  now.skipped = std::move(outcome.skipped);
  state_.place = step.place;
  now.tokens = state_.tokens += now.tokens;
  now.trained_tokens = state_.trained_tokens += now.trained_tokens;
}

bool Trainer::must_settle(std::int64_t step, std::int64_t steps) const {
  const auto due = [&](std::int64_t every) { return every > 0 && step % every == 0; };
  return step == steps || due(options_.validate_every) || due(options_.settle_every) ||
         !device_interface(model_.device()).records();
}

bool Trainer::fit(BatchSource& train, BatchSource* valid,
                  const std::function<void(const StepReport&)>& report) {
  train.check(model_.config().vocab_size);
  if (valid != nullptr) valid->check(model_.config().vocab_size);
  const std::int64_t known = train.length().steps;
  const std::int64_t steps = known > 0 ? known : options_.max_steps;
  require(steps > 0, "train: the data do not tell how long the run will be; set max_steps");
  rehearse(train);
  if (!state_.place.empty()) train.restore(state_.place);
  const auto warmup = static_cast<std::int64_t>(std::llround(options_.warmup * static_cast<double>(steps)));
  const ScheduleOptions schedule{options_.schedule, options_.adamw.lr, options_.floor,
                                 std::min(warmup, steps - 1), steps};
  const auto start = std::chrono::steady_clock::now();
  const double seconds_before = state_.seconds;
  const std::int64_t first = state_.step;
  StepReport blank;
  blank.step = first;
  blank.total_steps = steps;
  if (stopped()) return false;
  // The run that was gone on from had ended here.
  if (options_.patience > 0 && state_.validations_without_gain >= options_.patience) return true;
  if (first == 0 && options_.validate_first && valid != nullptr) {
    StepReport now = blank;
    validate(*valid, now);
    if (!now.validation_loss) return false;
    if (report) report(now);
  }
  auto last_read = std::chrono::steady_clock::now();
  // Reads a step and reports it.
  const auto conclude = [&](Begun& step) {
    StepReport& now = step.report;
    const auto step_tokens = static_cast<double>(now.tokens);
    settle(step);
    now.tokens_per_s = step_tokens / std::max(seconds_since(last_read), 1e-9);
    const std::int64_t i = now.step;
    const bool due = i == steps || (options_.validate_every > 0 && i % options_.validate_every == 0);
    if (due && valid != nullptr && !stopped()) validate(*valid, now);
    state_.seconds = seconds_before + seconds_since(start);
    now.seconds = state_.seconds;
    now.eta_s = now.seconds / static_cast<double>(i) * static_cast<double>(steps - i);
    if (report) report(now);
    last_read = std::chrono::steady_clock::now();
  };
  std::vector<HostBatch> batches = train.next();
  std::optional<Begun> ahead;  // enqueued before the step at hand, and not read
  for (std::int64_t i = first + 1; i <= steps; ++i) {
    require(!batches.empty(), "train: the data ended after {} of {} steps; lower max_steps", i - 1, steps);
    StepReport now = blank;
    now.step = i;
    now.learning_rate = learning_rate(schedule, i);
    Begun step = begin(std::move(batches), std::move(now));
    step.place = train.place();
    batches = i < steps ? train.next() : std::vector<HostBatch>();
    if (ahead) conclude(*ahead);
    ahead.reset();
    if (!must_settle(i, steps) && !stopped()) {
      ahead = std::move(step);
      continue;
    }
    conclude(step);
    const bool last = i == steps || step.report.out_of_patience;
    if (!last && !stopped()) continue;
    check_result(step.report.validation_loss ? std::span<const HostBatch>()
                                             : std::span<const HostBatch>(step.batches));
    return last;
  }
  return true;
}

}  // namespace candela
