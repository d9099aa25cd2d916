#include <algorithm>
#include <chrono>
#include <cmath>
#include <tuple>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/train/trainer.h>

#include "models/values.h"
#include "train/step_batches.h"

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

void count_row(const Sample& sample, std::int64_t times, TrainLength& length) {
  length.tokens += times * (static_cast<std::int64_t>(sample.ids.size()) - 1);
  length.trained_tokens += times * std::count(sample.trained.begin() + 1, sample.trained.end(), 1);
}

/// The first trainable tensor whose gradient is not finite, for the error.
std::string first_bad_gradient(const Model& model) {
  std::vector<NamedTensor> gradients;
  for (const NamedTensor& parameter : named_trainable(model)) {
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

/// Sum of the losses over the trained tokens of a batch: only their hidden states meet the output layer.
Tensor token_loss(Model& model, const Batch& batch, Generator* dropout) {
  ForwardOptions forward;
  forward.dropout = dropout;
  const Tensor hidden = model.forward_hidden(batch.ids, forward);
  const Tensor rows = embedding(reshape(hidden, {-1, hidden.size(-1)}), batch.positions);
  return model.loss(rows, batch.targets, dropout);
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
  count("max_steps", options.max_steps, 0, kMostSteps);
  count("validate_every", options.validate_every, 0, kMostSteps);
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

Trainer::Trainer(Model& model, TrainOptions options)
    : model_(model), options_(std::move(options)), dropout_(options_.seed ^ 0x9e3779b97f4a7c15U) {
  check_train_options(options_);
  require(options_.pad_id >= 0 && options_.pad_id < model.config().vocab_size,
          "train: pad_id must be in [0, {}) as the model's vocab_size says; got {}",
          model.config().vocab_size, options_.pad_id);
  for (const Tensor& parameter : trainable_parameters(model_)) {
    parameters_.push_back(parameter);
    first_moments_.push_back(zeros(parameter.shape(), DType::F32, parameter.device()));
    second_moments_.push_back(zeros(parameter.shape(), DType::F32, parameter.device()));
  }
  require(!parameters_.empty(), "train: the model has nothing to train; attach an adapter first");
}

/// What would end a run in its middle is found before its start. `rows` is what the errors call them.
void Trainer::check_samples(std::span<const Sample> samples, std::string_view rows) const {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const Sample& sample = samples[i];
    const auto at = [&] { return fmt::format("{} {} (line {})", rows, i, sample.line); };
    require(sample.ids.size() >= 2 && sample.trained.size() == sample.ids.size(),
            "train: {} must have at least 2 tokens, each with its mark; got {} and {}", at(),
            sample.ids.size(), sample.trained.size());
    require(std::find(sample.trained.begin() + 1, sample.trained.end(), 1) != sample.trained.end(),
            "train: {} has no token to train on; leave it out", at());
    for (const TokenId id : sample.ids) {
      require(id >= 0 && id < model_.config().vocab_size,
              "train: {} holds the token {}, and the model's vocab_size is {}; use the model's own tokenizer",
              at(), id, model_.config().vocab_size);
    }
  }
}

TrainLength Trainer::length(std::span<const Sample> samples) const {
  constexpr std::int64_t kPlannedEpochs = 16;
  require(!samples.empty(), "train: there are no rows to train on");
  check_samples(samples, "row");
  const std::int64_t per_epoch = StepBatches::steps_per_epoch(samples.size(), options_);
  TrainLength result;
  result.steps = StepBatches::steps(samples.size(), options_);
  const std::int64_t whole = result.steps / per_epoch;
  Positions positions;
  std::size_t worst = 0;
  const auto add_steps = [&](StepBatches batches, std::int64_t steps, bool count_tokens) {
    for (std::int64_t step = 0; step < steps; ++step) {
      for (auto& batch : batches.next()) {
        positions.add(samples, batch);
        std::size_t longest = 0;
        for (const std::size_t row : batch) {
          longest = std::max(longest, samples[row].ids.size());
          if (count_tokens) count_row(samples[row], 1, result);
        }
        if (longest * batch.size() > worst) {
          worst = longest * batch.size();
          result.worst_batch = std::move(batch);
        }
      }
    }
  };
  add_steps(StepBatches(samples, options_), per_epoch * std::min(whole, kPlannedEpochs), false);
  add_steps(StepBatches(samples, options_, static_cast<std::uint64_t>(whole)), result.steps % per_epoch,
            true);
  for (const Sample& sample : samples) count_row(sample, whole, result);
  result.padding = positions.padding_share();
  return result;
}

std::pair<double, double> Trainer::step(std::span<const Batch> batches, double learning_rate) {
  std::int64_t tokens = 0;
  for (const Batch& batch : batches) tokens += batch.trained_tokens;
  require(tokens > 0, "train: none of the tokens of this step is trained");
  for (const Tensor& parameter : parameters_) parameter.set_grad({});
  const bool planning = parameters_.front().device().type == DeviceType::Plan;
  Tensor total;
  for (const Batch& batch : batches) {
    const Tensor loss = token_loss(model_, batch, &dropout_);
    total = total.defined() ? add(total, loss.detach()) : loss.detach();
    backward(loss, full(loss.shape(), 1.0 / static_cast<double>(tokens), loss.dtype(), loss.device()));
  }
  std::vector<Tensor> grads;
  for (const Tensor& parameter : parameters_) grads.push_back(parameter.grad());
  const double loss = planning ? 0 : total.item() / static_cast<double>(tokens);
  const double norm = global_norm(grads);
  const std::int64_t number = steps_done_ + 1;
  if (!std::isfinite(loss))
    // Which sign a NaN has is chance.
    throw Error(fmt::format("train: the loss became {} at step {}: {}", std::isnan(loss) ? "nan" : "infinite",
                            number, blame(model_)));
  if (!std::isfinite(norm)) {
    const std::string tensor = first_bad_gradient(model_);
    throw Error(fmt::format("train: the gradient{} became {} at step {}{}; lower the learning rate",
                            tensor.empty() ? "'s norm" : "", norm, number,
                            tensor.empty() ? ", the squares of finite gradients being beyond f32"
                                           : ", first in " + tensor));
  }
  // As torch.nn.utils.clip_grad_norm_: the small term keeps a zero norm from dividing.
  const double scale = options_.clip_norm > 0 ? std::min(1.0, options_.clip_norm / (norm + 1e-6)) : 1.0;
  AdamwOptions adamw = options_.adamw;
  adamw.lr = learning_rate;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!grads[i].defined()) continue;
    adamw_step(parameters_[i].detach(), grads[i], first_moments_[i], second_moments_[i], adamw, number,
               scale);
  }
  steps_done_ = number;
  return {loss, norm};
}

namespace {

/// The mean loss over the trained tokens; nothing once `stop` says so.
std::optional<double> mean_loss(Model& model, std::span<const Sample> samples, std::int64_t batch_size,
                                std::int32_t pad_id, const std::function<bool()>& stop) {
  require(batch_size >= 1, "evaluate: batch size must be at least 1; got {}", batch_size);
  const NoGrad guard;
  double loss = 0;
  std::int64_t tokens = 0;
  for (const auto& rows : sorted_batches(samples, static_cast<std::size_t>(batch_size))) {
    if (stop && stop()) return std::nullopt;
    const Batch batch = make_batch(samples, rows, pad_id, model.device());
    if (batch.trained_tokens == 0) continue;
    loss += token_loss(model, batch, nullptr).item();
    tokens += batch.trained_tokens;
  }
  require(tokens > 0, "evaluate: none of the tokens is trained");
  return loss / static_cast<double>(tokens);
}

}  // namespace

double evaluate_loss(Model& model, std::span<const Sample> samples, std::int64_t batch_size,
                     std::int32_t pad_id) {
  const double loss = *mean_loss(model, samples, batch_size, pad_id, {});
  if (std::isfinite(loss)) return loss;
  throw Error(fmt::format("evaluate: the loss is {}: {}", loss, broken_part(model)));
}

void Trainer::rehearse(std::span<const Sample> samples, std::span<const std::size_t> rows) {
  const Batch batch = make_batch(samples, rows, options_.pad_id, model_.device());
  Generator dropout;  // the run's own draws stay where they are
  // The gradients of the first pass of a step are there while the next one runs.
  const int passes = StepBatches::accumulates(samples.size(), options_) ? 2 : 1;
  for (int pass = 0; pass < passes; ++pass) backward(token_loss(model_, batch, &dropout));
  for (const Tensor& parameter : parameters_) parameter.set_grad({});
}

void Trainer::rehearse_validation(std::span<const Sample> valid) const {
  if (valid.empty()) return;
  check_samples(valid, "validation row");
  const NoGrad guard;
  const auto batches = sorted_batches(valid, static_cast<std::size_t>(options_.batch_size));
  token_loss(model_, make_batch(valid, batches.front(), options_.pad_id, model_.device()), nullptr);
}

std::optional<double> Trainer::validate(std::span<const Sample> valid, std::int64_t step) const {
  const std::optional<double> loss =
      mean_loss(model_, valid, options_.batch_size, options_.pad_id, options_.stop);
  if (loss && !std::isfinite(*loss)) {
    throw Error(
        fmt::format("train: the validation loss became {} after step {}: {}", *loss, step, blame(model_)));
  }
  return loss;
}

/// The loss of a step is that before its update: what the last update did shows in no step.
void Trainer::check_result(std::span<const Batch> last) const {
  const std::string weight = first_non_finite(named_trainable(model_));
  require<Error>(weight.empty(), "train: the last update made {} no finite number; lower the learning rate",
                 weight);
  const NoGrad guard;
  for (const Batch& batch : last) {
    const double loss = token_loss(model_, batch, nullptr).item();
    require<Error>(std::isfinite(loss), "train: the last update made the loss {}; lower the learning rate",
                   loss);
  }
}

bool Trainer::fit(std::span<const Sample> train, std::span<const Sample> valid,
                  const std::function<void(const StepReport&)>& report) {
  const TrainLength run = length(train);
  const std::int64_t steps = run.steps;
  check_samples(valid, "validation row");
  rehearse(train, run.worst_batch);
  const auto warmup = static_cast<std::int64_t>(std::llround(options_.warmup * static_cast<double>(steps)));
  const ScheduleOptions schedule{options_.schedule, options_.adamw.lr, options_.floor,
                                 std::min(warmup, steps - 1), steps};
  const auto start = std::chrono::steady_clock::now();
  StepReport now;
  now.total_steps = steps;
  StepBatches order(train, options_);
  if (stopped()) return false;
  for (std::int64_t i = 1; i <= steps; ++i) {
    const auto step_start = std::chrono::steady_clock::now();
    std::vector<Batch> batches;
    std::int64_t step_tokens = 0;
    for (const auto& rows : order.next()) {
      batches.push_back(make_batch(train, rows, options_.pad_id, model_.device()));
      step_tokens += batches.back().tokens;
      now.trained_tokens += batches.back().trained_tokens;
    }
    now.step = i;
    now.learning_rate = learning_rate(schedule, i);
    std::tie(now.loss, now.grad_norm) = step(batches, now.learning_rate);
    now.tokens += step_tokens;
    now.tokens_per_s = static_cast<double>(step_tokens) / std::max(seconds_since(step_start), 1e-9);
    now.validation_loss.reset();
    const bool due = i == steps || (options_.validate_every > 0 && i % options_.validate_every == 0);
    if (due && !valid.empty() && !stopped()) now.validation_loss = validate(valid, i);
    now.seconds = seconds_since(start);
    now.eta_s = now.seconds / static_cast<double>(i) * static_cast<double>(steps - i);
    report(now);
    if (i < steps && !stopped()) continue;
    check_result(now.validation_loss ? std::span<const Batch>() : std::span<const Batch>(batches));
    return i == steps;
  }
  return true;
}

}  // namespace candela
