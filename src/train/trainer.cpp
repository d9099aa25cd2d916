#include <algorithm>
#include <chrono>
#include <cmath>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/train/trainer.h>

namespace candela {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The first parameter whose gradient is not finite, for the error.
std::string first_bad_gradient(std::span<const Tensor> parameters) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!parameters[i].grad().defined()) continue;
    const double norm = global_norm(std::span(&parameters[i].grad(), 1));
    if (!std::isfinite(norm)) return fmt::format("trainable tensor {} {}", i, parameters[i].shape());
  }
  return "none";
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
  for (const NamedTensor& parameter : model.named_parameters()) {
    if (parameter.tensor.requires_grad()) parameters.push_back(parameter.tensor);
  }
  for (const Linear& layer : model.linears()) {
    for (const Tensor& tensor : {layer.adapter.a, layer.adapter.b}) {
      if (tensor.requires_grad()) parameters.push_back(tensor);
    }
  }
  return parameters;
}

Trainer::Trainer(Model& model, TrainOptions options)
    : model_(model), options_(options), dropout_(options.seed ^ 0x9e3779b97f4a7c15U) {
  require(options_.batch_size >= 1, "train: batch size must be at least 1; got {}", options_.batch_size);
  require(options_.accumulation >= 1, "train: accumulation must be at least 1; got {}",
          options_.accumulation);
  require(options_.max_steps > 0 || options_.epochs > 0,
          "train: epochs or max_steps must be positive; got {} and {}", options_.epochs, options_.max_steps);
  require(options_.warmup >= 0 && options_.warmup <= 1,
          "train: warmup is a share of the steps, in [0, 1]; got {}", options_.warmup);
  for (const Tensor& parameter : trainable_parameters(model_)) {
    parameters_.push_back(parameter);
    first_moments_.push_back(zeros(parameter.shape(), DType::F32, parameter.device()));
    second_moments_.push_back(zeros(parameter.shape(), DType::F32, parameter.device()));
  }
  require(!parameters_.empty(), "train: the model has nothing to train; attach an adapter first");
}

std::vector<std::vector<std::size_t>> Trainer::epoch_batches(std::span<const Sample> samples,
                                                             std::uint64_t epoch) const {
  Generator order(options_.seed);
  order.set_offset(epoch << 40U);
  return bucketed_batches(samples, static_cast<std::size_t>(options_.batch_size), order);
}

std::int64_t Trainer::total_steps(std::span<const Sample> samples) const {
  if (options_.max_steps > 0) return options_.max_steps;
  const auto rows = static_cast<double>(samples.size());
  const double passes = std::ceil(rows / static_cast<double>(options_.batch_size));
  return std::max<std::int64_t>(
      1, static_cast<std::int64_t>(
             std::ceil(passes * options_.epochs / static_cast<double>(options_.accumulation) - 1e-9)));
}

TrainLength Trainer::length(std::span<const Sample> samples) const {
  require(!samples.empty(), "train: there are no rows to train on");
  TrainLength result;
  result.steps = total_steps(samples);
  std::int64_t passes = result.steps * options_.accumulation;
  std::vector<std::vector<std::size_t>> all;
  std::size_t worst = 0;
  for (std::uint64_t epoch = 0; passes > 0; ++epoch) {
    for (auto& batch : epoch_batches(samples, epoch)) {
      if (passes-- == 0) break;
      std::size_t longest = 0;
      for (const std::size_t row : batch) {
        const Sample& sample = samples[row];
        longest = std::max(longest, sample.ids.size());
        result.tokens += static_cast<std::int64_t>(sample.ids.size()) - 1;
        result.trained_tokens += std::count(sample.trained.begin() + 1, sample.trained.end(), true);
      }
      if (longest * batch.size() > worst) {
        worst = longest * batch.size();
        result.worst_batch = batch;
      }
      all.push_back(std::move(batch));
    }
  }
  result.padding = padding_share(samples, all);
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
  require<Error>(
      std::isfinite(loss),
      "train: the loss became {} at step {}; lower the learning rate, or check the data of this step", loss,
      number);
  require<Error>(std::isfinite(norm),
                 "train: the gradient became {} at step {} (first in {}); lower the learning rate", norm,
                 number, first_bad_gradient(parameters_));
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

double evaluate_loss(Model& model, std::span<const Sample> samples, std::int64_t batch_size,
                     std::int32_t pad_id) {
  const NoGrad guard;
  double loss = 0;
  std::int64_t tokens = 0;
  for (const auto& rows : sorted_batches(samples, static_cast<std::size_t>(batch_size))) {
    const Batch batch = make_batch(samples, rows, pad_id, model.device());
    if (batch.trained_tokens == 0) continue;
    loss += token_loss(model, batch, nullptr).item();
    tokens += batch.trained_tokens;
  }
  require(tokens > 0, "evaluate: none of the tokens is trained");
  return loss / static_cast<double>(tokens);
}

void Trainer::rehearse(std::span<const Sample> samples, std::span<const std::size_t> rows) {
  const Batch batch = make_batch(samples, rows, options_.pad_id, model_.device());
  Generator dropout;  // the run's own draws stay where they are
  backward(token_loss(model_, batch, &dropout));
  for (const Tensor& parameter : parameters_) parameter.set_grad({});
}

void Trainer::fit(std::span<const Sample> train, std::span<const Sample> valid,
                  const std::function<void(const StepReport&)>& report) {
  require(!train.empty(), "train: there are no rows to train on");
  const std::int64_t steps = total_steps(train);
  rehearse(train, length(train).worst_batch);
  const ScheduleOptions schedule{
      options_.schedule, options_.adamw.lr, options_.floor,
      static_cast<std::int64_t>(std::llround(options_.warmup * static_cast<double>(steps))), steps};
  const auto start = std::chrono::steady_clock::now();
  StepReport now;
  now.total_steps = steps;
  std::uint64_t epoch = 0;
  std::vector<std::vector<std::size_t>> order = epoch_batches(train, epoch);
  std::size_t cursor = 0;
  for (std::int64_t i = 1; i <= steps; ++i) {
    const auto step_start = std::chrono::steady_clock::now();
    std::vector<Batch> batches;
    std::int64_t step_tokens = 0;
    for (std::int64_t k = 0; k < options_.accumulation; ++k) {
      if (cursor == order.size()) {
        order = epoch_batches(train, ++epoch);
        cursor = 0;
      }
      batches.push_back(make_batch(train, order[cursor++], options_.pad_id, model_.device()));
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
    if (due && !valid.empty())
      now.validation_loss = evaluate_loss(model_, valid, options_.batch_size, options_.pad_id);
    now.seconds = seconds_since(start);
    now.eta_s = now.seconds / static_cast<double>(i) * static_cast<double>(steps - i);
    report(now);
  }
}

}  // namespace candela
