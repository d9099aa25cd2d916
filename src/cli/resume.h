#pragma once

#include <filesystem>
#include <string>
#include <vector>

/// Going on with a run that was ended: which checkpoint, and under which options.
namespace candela::cli {

inline constexpr const char* kRunConfigName = "finetune.yaml";

/// A checkpoint that a run can go on from.
struct ResumePoint {
  std::filesystem::path folder;
  std::int64_t step = 0;
};

/// The checkpoints of a run's folder that hold a whole state, in order of their steps.
std::vector<ResumePoint> resume_points(const std::filesystem::path& run);

/// What `--resume RUN` goes on from: the last checkpoint of the folder of a run, or RUN itself where it is a
/// checkpoint. Throws UsageError where there is none.
ResumePoint resume_point(const std::filesystem::path& run);

/// The folder of the run that a checkpoint belongs to.
std::filesystem::path run_of(const ResumePoint& point);

/// Throws UsageError naming an option that `config`, the run's options as YAML, has other than the
/// checkpoint's finetune.yaml, where the run would go on to other weights: all but paths and what is printed
/// and kept.
void check_resumable(const ResumePoint& point, const std::string& config);

}  // namespace candela::cli
