#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <candela/io/dataset.h>
#include <candela/models/model.h>
#include <candela/train/batch_source.h>
#include <candela/train/objective.h>
#include <candela/train/optimizer.h>
#include <candela/train/schedule.h>

namespace candela {

class PassRecorder;

struct TrainOptions {
  /// rows of one forward pass; with pack_length, packs
  std::int64_t batch_size = 8;
  /// Tokens of a pack: rows stand behind each other in it, without padding and without seeing each other (a
  /// row of L tokens takes L - 1). 0: rows of like length, padded to the longest of their batch. Validation
  /// does not pack, so that its loss is the same either way.
  std::int64_t pack_length = 0;
  /// forward passes per optimizer step
  std::int64_t accumulation = 1;
  /// passes over the data; ignored when max_steps is set
  double epochs = 1;
  /// optimizer steps; 0: as `epochs` says
  std::int64_t max_steps = 0;
  Schedule schedule = Schedule::Cosine;
  /// share of the steps; the last step is always after it
  double warmup = 0.05;
  /// what the learning rate decays to, as a share of the peak
  double floor = 0;
  /// adamw.lr is the peak learning rate
  AdamwOptions adamw;
  /// gradients are scaled down to this global norm; 0: not clipped
  double clip_norm = 1;
  /// steps between validations; 0: at the end only
  std::int64_t validate_every = 0;
  /// validate before step 1 too
  bool validate_first = false;
  /// Ends the run after so many validations in a row without a lower loss than the lowest; 0: never.
  std::int64_t patience = 0;
  /// Steps in a row that may be skipped because their loss or gradient was not finite; one more ends the run.
  std::int64_t max_skipped = 3;
  Checkpointing checkpointing = Checkpointing::None;
  /// At the reports of every so many steps, and of those that validate, parameters and state() are those
  /// after the step; at other reports a device that records may be one step ahead. 0: at validations and the
  /// end only.
  std::int64_t settle_every = 1;
  std::uint64_t seed = 0;
  std::int32_t pad_id = 0;
  /// What is minimised; null: the next-token loss.
  std::shared_ptr<const Objective> objective{};
  /// Asked after each step and between the batches of a validation; true ends the run there.
  std::function<bool()> stop{};
};

/// Throws InvalidArgument naming the option that is out of range.
void check_train_options(const TrainOptions& options);

/// What one optimizer step did.
struct StepReport {
  /// from 1; 0: the validation before the first step
  std::int64_t step = 0;
  /// 0: the data do not tell
  std::int64_t total_steps = 0;
  /// mean over the trained tokens of the step
  double loss = 0;
  double learning_rate = 0;
  /// before clipping
  double grad_norm = 0;
  /// of all steps so far, without padding
  std::int64_t tokens = 0;
  /// likewise
  std::int64_t trained_tokens = 0;
  /// since the first step began, validation included
  double seconds = 0;
  /// of this step
  double tokens_per_s = 0;
  double eta_s = 0;
  std::optional<double> validation_loss;
  /// the validation loss is the lowest so far
  bool best = false;
  /// TrainOptions::patience ends the run here
  bool out_of_patience = false;
  /// why nothing was updated, naming the first bad tensor; empty: it was
  std::string skipped;
};

/// Where a run stands between two steps: with the parameters and the optimizer's moments, all that the steps
/// to come depend on.
struct RunState {
  /// steps done, skipped ones included
  std::int64_t step = 0;
  /// of the optimizer
  std::int64_t updates = 0;
  /// BatchSource::place(); empty: the beginning
  std::string place;
  /// of dropout
  std::uint64_t random_offset = 0;
  std::int64_t tokens = 0;
  std::int64_t trained_tokens = 0;
  std::int64_t skipped_in_a_row = 0;
  double seconds = 0;
  std::optional<double> best_validation;
  std::int64_t best_step = 0;
  std::int64_t validations_without_gain = 0;
};

/// Everything in the model that requires a gradient: adapters, in the order of the network.
std::vector<Tensor> trainable_parameters(const Model& model);

/// Mean loss over the trained tokens of `samples`, without gradients, `batch_size` rows at a time. Throws
/// Error, naming the first weight that is no finite number if there is one, when the loss is not finite.
double evaluate_loss(Model& model, std::span<const Sample> samples, std::int64_t batch_size,
                     std::int32_t pad_id);

/// The same over the batches of a source, from its beginning.
double evaluate_loss(Model& model, BatchSource& source);

/// Trains the parameters that require a gradient with AdamW. Loss is summed over tokens and divided once per
/// step, so 8 rows at once and 8 accumulated passes of one row give the same gradient. Same seed, data,
/// options and thread count: the same bits, also of a run that went on from state() and the optimizer's
/// moments of an earlier one. For one thread at a time, and no other may use the model during a step; other
/// models may be trained, run, loaded and freed on other threads.
class Trainer {
 public:
  Trainer(Model& model, TrainOptions options);
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  ~Trainer();

  /// SampleSource(samples, options).length(), the rows checked against the model's vocabulary.
  TrainLength length(std::span<const Sample> samples) const;

  /// Runs all steps that state() has not done; `report`, unless empty, is called after each. `valid` may be
  /// null. False if TrainOptions::stop ended it before the last one. The batch that needs the most memory is
  /// rehearsed first, without a step: if memory is short, the run ends in its first seconds, and all later
  /// batches fit into blocks that are there. A step is upload, enqueue, read: the batches of the next one are
  /// made while the device works, and where TrainOptions::settle_every allows it, a device that records is
  /// given step n + 1 before step n is read. Throws InvalidArgument before the first step for a row of either
  /// source that could not be run: of fewer than 2 tokens, without a token to train on, or with a token that
  /// is not in the model's vocabulary. A step whose loss or gradient is not finite changes nothing and is
  /// reported as skipped; throws Error when a weight is not finite, after more than max_skipped of them in a
  /// row, and when the last update left a parameter, the validation loss or, without validation, the loss of
  /// its own rows not finite.
  bool fit(BatchSource& train, BatchSource* valid, const std::function<void(const StepReport&)>& report);
  /// The same over samples in memory: SampleSource and ValidationSource. `valid` may be empty.
  bool fit(std::span<const Sample> train, std::span<const Sample> valid,
           const std::function<void(const StepReport&)>& report);

  struct StepOutcome {
    /// mean over the trained tokens
    double loss = 0;
    /// of the gradient, before clipping
    double norm = 0;
    /// as StepReport::skipped
    std::string skipped;
  };
  /// One optimizer step on these batches. Throws Error naming a weight that is not finite.
  StepOutcome step(std::span<const Batch> batches, double learning_rate);
  /// The first half of a step: waits for nothing, and replays a recording where the device records. To be
  /// followed by finish(), possibly after the next enqueue().
  void enqueue(std::span<const HostBatch> batches, double learning_rate);
  /// The second half: reads what the oldest step that was enqueued gave. Throws as step().
  StepOutcome finish();
  /// Steps that were enqueued and not finished.
  std::size_t in_flight() const { return in_flight_.size(); }
  /// Passes that were recorded.
  std::int64_t recorded() const;

  /// The forward pass of the largest batch that fit() will validate on. Reads no result: it also runs on
  /// Device::plan(). Throws InvalidArgument as fit() does.
  void rehearse_validation(const BatchSource& valid) const;
  void rehearse_validation(std::span<const Sample> valid) const;

  /// Where the run stands: after the last reported step.
  const RunState& state() const { return state_; }
  /// Goes on from a state() of a run with the same options and data. The parameters and optimizer().restore()
  /// are the caller's.
  void restore(const RunState& state);

  const Model& model() const { return model_; }
  const Optimizer& optimizer() const { return optimizer_; }
  Optimizer& optimizer() { return optimizer_; }
  /// Everything that is trained, in the order of the network.
  std::vector<Tensor> parameters() const;

 private:
  /// What changes from step to step, on the device: recorded work reads it there.
  struct StepState {
    explicit StepState(Device device);
    /// Enqueues an upload.
    void set(double rate, double loss_share);
    void set_random(std::uint64_t first);

    Tensor learning_rate, share;  // f32 [1]: share = 1 / trained tokens of the step
    Tensor random;                // i64 [1]: the first position that the next pass draws from
    Tensor loss;                  // f32 [1]: the sum over the passes of the step
  };
  /// A step that is enqueued.
  struct InFlight {
    std::vector<HostBatch> batches;  // empty where the caller has them on the device
    std::int64_t trained_tokens = 0;
    std::uint64_t random_begin = 0, random_end = 0;
  };
  /// A step of fit() that is enqueued: its report, as far as it is known, and where the data stood behind it.
  struct Begun;

  bool stopped() const { return options_.stop && options_.stop(); }
  void rehearse(BatchSource& source);
  /// One pass of a step: forward, backward, and the loss added to the step's.
  void run_pass(const Batch& batch);
  template <class B>
  std::uint64_t run_passes(std::span<const B> batches, std::uint64_t random, double share);
  template <class B>
  InFlight& enqueue_passes(std::span<const B> batches, double learning_rate);
  std::string explain_skip(const InFlight& step, const StepOutcome& outcome);
  Begun begin(std::vector<HostBatch> batches, StepReport report);
  void settle(Begun& step);
  bool must_settle(std::int64_t step, std::int64_t steps) const;
  void validate(BatchSource& valid, StepReport& now);
  void check_result(std::span<const HostBatch> last) const;

  Model& model_;
  TrainOptions options_;
  Optimizer optimizer_;
  RunState state_;
  Generator dropout_;
  StepState step_state_;
  std::unique_ptr<PassRecorder> passes_;
  std::uint64_t random_offset_ = 0;  // behind the steps that are enqueued
  std::deque<InFlight> in_flight_;
};

}  // namespace candela
