#include "cli/resume.h"

#include <algorithm>
#include <charconv>
#include <fmt/ranges.h>
#include <map>
#include <set>

#include <candela/train/run_state.h>

#include "cli/config_entries.h"
#include "cli/usage.h"
#include "core/folders.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpoint = "checkpoint-";

bool holds_state(const fs::path& folder) {
  std::error_code error;
  return fs::is_regular_file(folder / kRunStateFileName, error) &&
         fs::is_regular_file(folder / kOptimizerFileName, error) &&
         fs::is_regular_file(folder / kRunConfigName, error);
}

/// Options that change no weight: where files lie, what is printed, and what is kept.
const std::set<std::string>& free_options() {
  static const std::set<std::string> names = {
      "model", "data", "valid", "output", "quiet", "save-every", "adapter", "keep-best", "keep-checkpoints"};
  return names;
}

std::map<std::string, std::string> bound_options(const std::vector<ConfigEntry>& entries) {
  std::map<std::string, std::string> options;
  for (const ConfigEntry& entry : entries) {
    if (free_options().count(entry.key) == 0)
      options[entry.key] = fmt::format("{}", fmt::join(entry.values, ", "));
  }
  return options;
}

}  // namespace

std::vector<ResumePoint> resume_points(const fs::path& run) {
  std::vector<ResumePoint> points;
  std::error_code error;
  for (const std::string& name : names_in(run, error)) {
    if (!name.starts_with(kCheckpoint) || !holds_state(run / name)) continue;
    const char* const end = name.data() + name.size();
    std::int64_t step = 0;
    const auto [stop, code] = std::from_chars(name.data() + kCheckpoint.size(), end, step);
    if (code == std::errc() && stop == end) points.push_back({run / name, step});
  }
  std::sort(points.begin(), points.end(),
            [](const ResumePoint& a, const ResumePoint& b) { return a.step < b.step; });
  return points;
}

ResumePoint resume_point(const fs::path& run) {
  if (holds_state(run)) return {run, read_run_state(run).step};
  std::error_code error;
  require<UsageError>(fs::is_directory(run, error),
                      "--resume: {}: is no folder; give the folder of a run, or one of its checkpoints",
                      run.string());
  const std::vector<ResumePoint> points = resume_points(run);
  require<UsageError>(!points.empty(),
                      "--resume: {}: holds no checkpoint with {}, {} and {}; start the run anew, with "
                      "--save-every to have one next time",
                      run.string(), kRunStateFileName, kOptimizerFileName, kRunConfigName);
  return points.back();
}

fs::path run_of(const ResumePoint& point) {
  const fs::path folder = fs::absolute(point.folder).lexically_normal();
  return (folder.has_filename() ? folder : folder.parent_path()).parent_path();
}

void check_resumable(const ResumePoint& point, const std::string& config) {
  const std::string file = (point.folder / kRunConfigName).string();
  const auto before = bound_options(read_config_entries(file));
  const auto now = bound_options(parse_config_entries(config, "the run's options"));
  const auto value_of = [](const std::map<std::string, std::string>& options, const std::string& key) {
    const auto found = options.find(key);
    return found == options.end() ? std::string("not given") : found->second;
  };
  std::set<std::string> keys;
  for (const auto& [key, value] : before) keys.insert(key);
  for (const auto& [key, value] : now) keys.insert(key);
  for (const std::string& key : keys) {
    require<UsageError>(
        value_of(before, key) == value_of(now, key),
        "--{}: must be {} as in {}, which the run goes on from; got {}; leave it out, or start "
        "a new run with --adapter",
        key, value_of(before, key), file, value_of(now, key));
  }
}

}  // namespace candela::cli
