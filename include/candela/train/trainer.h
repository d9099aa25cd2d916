#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <candela/io/dataset.h>
#include <candela/models/model.h>
#include <candela/ops/optimizer.h>
#include <candela/train/batch.h>
#include <candela/train/schedule.h>

namespace candela {

struct TrainOptions {
  std::int64_t batch_size = 8;    ///< rows of one forward pass
  std::int64_t accumulation = 1;  ///< forward passes per optimizer step
  double epochs = 1;              ///< passes over the data; ignored when max_steps is set
  std::int64_t max_steps = 0;     ///< optimizer steps; 0: as `epochs` says
  Schedule schedule = Schedule::Cosine;
  double warmup = 0.05;             ///< share of the steps; the last step is always after it
  double floor = 0;                 ///< what the learning rate decays to, as a share of the peak
  AdamwOptions adamw;               ///< adamw.lr is the peak learning rate
  double clip_norm = 1;             ///< gradients are scaled down to this global norm; 0: not clipped
  std::int64_t validate_every = 0;  ///< steps between validations; 0: at the end only
  std::uint64_t seed = 0;
  std::int32_t pad_id = 0;
  /// Asked after each step and between the batches of a validation; true ends the run there.
  std::function<bool()> stop{};
};

/// Throws InvalidArgument naming the option that is out of range.
void check_train_options(const TrainOptions& options);

/// What one optimizer step did.
struct StepReport {
  std::int64_t step = 0;  ///< from 1
  std::int64_t total_steps = 0;
  double loss = 0;  ///< mean over the trained tokens of the step
  double learning_rate = 0;
  double grad_norm = 0;             ///< before clipping
  std::int64_t tokens = 0;          ///< of all steps so far, without padding
  std::int64_t trained_tokens = 0;  ///< likewise
  double seconds = 0;               ///< since the first step began, validation included
  double tokens_per_s = 0;          ///< of this step
  double eta_s = 0;
  std::optional<double> validation_loss;
};

/// How long training will be: what is known before the first step. Of a run of very many epochs, padding and
/// the worst batch are those of the first ones.
struct TrainLength {
  std::int64_t steps = 0;
  std::int64_t tokens = 0;  ///< without padding
  std::int64_t trained_tokens = 0;
  double padding = 0;                    ///< share of the computed positions
  std::vector<std::size_t> worst_batch;  ///< rows of the batch that needs the most memory
};

/// Everything in the model that requires a gradient: adapters, in the order of the network.
std::vector<Tensor> trainable_parameters(const Model& model);

/// Mean loss over the trained tokens of `samples`, without gradients, `batch_size` rows at a time. Throws
/// Error, naming the first weight that is no finite number if there is one, when the loss is not finite.
double evaluate_loss(Model& model, std::span<const Sample> samples, std::int64_t batch_size,
                     std::int32_t pad_id);

/// Trains the parameters that require a gradient with AdamW. Loss is summed over tokens and divided once per
/// step, so 8 rows at once and 8 accumulated passes of one row give the same gradient. Same seed, data,
/// options and thread count: the same bits.
class Trainer {
 public:
  Trainer(Model& model, TrainOptions options);

  /// The batches that fit() will run, summed up.
  TrainLength length(std::span<const Sample> samples) const;

  /// Runs all steps; `report` is called after each. False if TrainOptions::stop ended it before the last one.
  /// The batch that needs the most memory is rehearsed first, without a step: if memory is short, the run
  /// ends in its first seconds, and all later batches fit into blocks that are there. Throws InvalidArgument
  /// before the first step for a row of either set that could not be run: of fewer than 2 tokens, without a
  /// token to train on, or with a token that is not in the model's vocabulary. Throws Error when the
  /// loss or the gradient of a step is not finite, the parameters then being those of the step before; and
  /// when the last update left a parameter, the validation loss or, without validation, the loss of its own
  /// rows not finite.
  bool fit(std::span<const Sample> train, std::span<const Sample> valid,
           const std::function<void(const StepReport&)>& report);

  /// One optimizer step on these batches. Returns loss and gradient norm.
  std::pair<double, double> step(std::span<const Batch> batches, double learning_rate);

  /// The forward pass of the longest batch that fit() will validate on; nothing if `valid` is empty. Reads
  /// no result: it also runs on Device::plan(). Throws InvalidArgument as fit() does.
  void rehearse_validation(std::span<const Sample> valid) const;

  const std::vector<Tensor>& parameters() const { return parameters_; }

 private:
  bool stopped() const { return options_.stop && options_.stop(); }
  void check_samples(std::span<const Sample> samples, std::string_view rows) const;
  void rehearse(std::span<const Sample> samples, std::span<const std::size_t> rows);
  std::optional<double> validate(std::span<const Sample> valid, std::int64_t step) const;
  void check_result(std::span<const Batch> last) const;

  Model& model_;
  TrainOptions options_;
  std::vector<Tensor> parameters_;
  std::vector<Tensor> first_moments_;   // f32, AdamW's m
  std::vector<Tensor> second_moments_;  // f32, AdamW's v
  std::int64_t steps_done_ = 0;
  Generator dropout_;
};

}  // namespace candela
