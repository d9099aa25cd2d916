#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <candela/core/descriptor.h>
#include <candela/lora/lora.h>
#include <candela/train/loss_curve.h>
#include <candela/train/trainer.h>

/// What a run writes beside its adapter. A disk that fills costs these files, not the run.
namespace candela::cli {

/// What a run writes into its folder. InvalidArgument for a folder that cannot be a run's output, naming what
/// is in the way: before any work, and without leaving anything. Every file that the run writes must be a
/// regular file or absent, links included; without `overwrite` it must be absent, as must checkpoints.
/// `save_every`: as Checkpoints.
void check_output(const std::filesystem::path& output, const std::filesystem::path& model, bool overwrite,
                  std::int64_t save_every);

/// One run at a time in a folder: two would replace each other's files. The lock is OUTPUT/.finetune.lock,
/// with the process id in it; the system lets it go with the process, so that a killed run's is taken over.
/// On a file system without locks the run goes on with a warning.
class RunLock {
 public:
  /// InvalidArgument naming the process that has it.
  explicit RunLock(const std::filesystem::path& output);
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

 private:
  std::filesystem::path path_;
  Descriptor file_;
};

/// The folder of a run, made with its parents, and taken back with them if nothing came into it.
class OutputFolder {
 public:
  explicit OutputFolder(const std::filesystem::path& folder);
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  ~OutputFolder();

 private:
  std::vector<std::filesystem::path> made_;  // the innermost first
};

/// Metrics as JSONL, in PATH.partial from the first step on, to be read while the run goes on; an earlier
/// run's PATH stays until put_in_place(). Every line is whole: one that could not be written in full is taken
/// back, a warning is given, and the run goes on without.
class MetricsFile {
 public:
  explicit MetricsFile(std::filesystem::path path);
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;
  ~MetricsFile();

  /// Of a run that goes on: the lines of its steps up to `step` stay, and are what kept() gives.
  void keep_until(std::int64_t step);
  const std::vector<StepReport>& kept() const { return kept_; }
  void add(const StepReport& report);
  /// Makes what was added PATH. An earlier run's file goes even where nothing takes its place.
  void put_in_place();
  /// Where the lines are; empty: there are none.
  std::filesystem::path partial() const { return size_ > 0 ? partial_ : std::filesystem::path(); }

 private:
  void open();
  void give_up(int error);

  std::filesystem::path path_;
  std::filesystem::path partial_;
  bool given_up_ = false;
  Descriptor file_;
  long long size_ = 0;
  std::vector<StepReport> kept_;
};

/// What is saved in the course of a run, OUTPUT/checkpoint-STEP, each whole or not there.
class Checkpoints {
 public:
  /// One every `every` steps (0: never), of which the last `keep` stay.
  Checkpoints(std::filesystem::path output, std::int64_t every, std::int64_t keep);

  /// Takes over those of the run that goes on after `step`; the one of `best_step` is the best.
  void adopt(std::int64_t step, std::int64_t best_step);

  /// Saves what `write` puts into a folder if `step` is one to save at, if it is the best so far or the last
  /// (`now`); true if it did. Beside the last ones, the best stays.
  bool save_if_due(std::int64_t step, const std::function<void(const std::filesystem::path&)>& write,
                   bool best = false, bool now = false);
  /// Removes all checkpoints in the folder but the last ones of this run.
  void remove_others() const;
  /// The folder of the last one; empty: none.
  std::filesystem::path last() const { return saved_.empty() ? std::filesystem::path() : saved_.back(); }
  /// Its step; -1: none.
  std::int64_t last_step() const { return last_step_; }
  /// The folder of the best one; empty: none was told to be.
  const std::filesystem::path& best() const { return best_; }

  /// Whether a folder holds checkpoints of a run. Folders of the same name that others made are none.
  static bool any_in(const std::filesystem::path& output);

 private:
  void drop_oldest();

  std::filesystem::path output_;
  std::int64_t every_;
  std::int64_t keep_;
  std::vector<std::filesystem::path> saved_;
  std::filesystem::path best_;
  std::int64_t last_step_ = -1;
};

/// Points of a curve, thinned out evenly once there are more than a picture can show.
class CurvePoints {
 public:
  explicit CurvePoints(std::string name) : series_{std::move(name), {}} {}
  void add(double x, double y);
  bool empty() const { return series_.points.empty(); }
  const CurveSeries& series() const { return series_; }

 private:
  CurveSeries series_;
  std::size_t stride_ = 1;  // one point in `stride_` is kept
  std::size_t seen_ = 0;
};

}  // namespace candela::cli
