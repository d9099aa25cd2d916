#include "cli/run_files.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <unistd.h>

#include <candela/core/process.h>

#include "cli/output.h"
#include "io/folders.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpoint = "checkpoint-";

nlohmann::json to_json(const StepReport& report) {
  nlohmann::json line = {{"step", report.step},
                         {"loss", report.loss},
                         {"learning_rate", report.learning_rate},
                         {"grad_norm", report.grad_norm},
                         {"tokens", report.tokens},
                         {"trained_tokens", report.trained_tokens},
                         {"seconds", report.seconds},
                         {"tokens_per_s", report.tokens_per_s},
                         {"peak_memory_bytes", process_memory().peak_resident}};
  if (report.validation_loss) line["validation_loss"] = *report.validation_loss;
  return line;
}

/// Whether a folder of this name is one that save_if_due makes: checkpoint-STEP, or .checkpoint-STEP while it
/// is being written. Others, such as a person's checkpoint-best, are not a run's to remove.
bool is_checkpoint(std::string_view name) {
  if (name.starts_with('.')) name.remove_prefix(1);
  if (!name.starts_with(kCheckpoint)) return false;
  name.remove_prefix(kCheckpoint.size());
  return !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
}

/// The checkpoints in `output`, and what a killed run left of one.
std::vector<fs::path> checkpoint_folders(const fs::path& output) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output, error)) {
    if (entry.is_directory() && is_checkpoint(entry.path().filename().string()))
      folders.push_back(entry.path());
  }
  return folders;
}

/// A name in `output` that nothing has, that is_checkpoint knows and that save_if_due never takes: its steps
/// are written without a 0 in front. What could not be removed may have the first ones.
fs::path name_to_remove_under(const fs::path& output) {
  std::error_code error;
  for (std::int64_t number = 0;; ++number) {
    fs::path name = output / fmt::format(".{}0{}", kCheckpoint, number);
    if (!fs::exists(fs::symlink_status(name, error))) return name;
  }
}

/// Takes a checkpoint away under another name before it goes file by file: one that is there is whole,
/// whenever the run is killed. One that cannot be taken away stays as it is. Either costs its room, not the
/// run: a warning.
void remove_whole(const fs::path& folder) {
  std::error_code error;
  fs::path going = folder;
  if (!folder.filename().string().starts_with('.')) {
    going = name_to_remove_under(folder.parent_path());
    fs::rename(folder, going, error);
    if (error == std::errc::no_such_file_or_directory) return;
    if (error) going = folder;
  }
  if (!error) fs::remove_all(going, error);
  if (error) warn(fmt::format("{}: could not be removed: {}", going.string(), error.message()));
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& folder) : made_(io::missing_folders(folder)) {
  std::error_code error;
  fs::create_directories(folder, error);
  require<IoError>(!error, "{}: cannot be made: {}; choose another --output", folder.string(),
                   error.message());
}

OutputFolder::~OutputFolder() {
  std::error_code error;
  for (const fs::path& one : made_) fs::remove(one, error);  // fails where something is in it
}

MetricsFile::MetricsFile(fs::path path) : path_(std::move(path)), partial_(path_) {
  partial_ += ".partial";
}

MetricsFile::~MetricsFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MetricsFile::open() {
  descriptor_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) give_up(errno);
}

void MetricsFile::give_up(int error) {
  warn(fmt::format("{}: could not be written: {}; the run goes on without it", partial_.string(),
                   std::generic_category().message(error)));
  if (descriptor_ >= 0) ::close(descriptor_);
  if (descriptor_ >= 0 && size_ == 0) ::unlink(partial_.c_str());
  descriptor_ = -1;
  given_up_ = true;
}

void MetricsFile::add(const StepReport& report) {
  if (descriptor_ < 0 && !given_up_) open();
  if (given_up_) return;
  const std::string line = to_json(report).dump() + "\n";
  std::size_t done = 0;
  int error = 0;
  while (done < line.size() && error == 0) {
    const ssize_t written = ::write(descriptor_, line.data() + done, line.size() - done);
    if (written >= 0) done += static_cast<std::size_t>(written);
    if (written < 0 && errno != EINTR) error = errno;
  }
  if (error == 0) {
    size_ += static_cast<long long>(line.size());
    return;
  }
  const int taken_back = ::ftruncate(descriptor_, size_);
  static_cast<void>(taken_back);  // nothing more can be done
  give_up(error);
}

void MetricsFile::put_in_place() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  given_up_ = true;
  std::error_code error;
  if (size_ == 0) {
    fs::remove(path_, error);
    fs::remove(partial_, error);  // a killed run's
    return;
  }
  fs::rename(partial_, path_, error);
  size_ = 0;
  if (error) warn(fmt::format("{}: could not be put in place: {}", path_.string(), error.message()));
}

Checkpoints::Checkpoints(fs::path output, std::int64_t every, std::int64_t keep)
    : output_(std::move(output)), every_(every), keep_(keep) {}

bool Checkpoints::any_in(const fs::path& output) {
  return !checkpoint_folders(output).empty();
}

bool Checkpoints::save_if_due(std::int64_t step, const Lora& lora, const std::string& base_model) {
  if (every_ == 0 || step % every_ != 0) return false;
  const std::string name = std::string(kCheckpoint) + std::to_string(step);
  const fs::path aside = output_ / ("." + name);
  try {
    fs::remove_all(aside);
    lora.save(aside, base_model);
    remove_whole(output_ / name);  // an earlier run's
    fs::rename(aside, output_ / name);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(aside, ignored);
    warn(fmt::format("{}: no checkpoint: {}", (output_ / name).string(), error.what()));
    return false;
  }
  saved_.push_back(output_ / name);
  if (saved_.size() > static_cast<std::size_t>(keep_)) {
    remove_whole(saved_.front());
    saved_.erase(saved_.begin());
  }
  return true;
}

void Checkpoints::remove_others() const {
  for (const fs::path& folder : checkpoint_folders(output_)) {
    if (std::find(saved_.begin(), saved_.end(), folder) == saved_.end()) remove_whole(folder);
  }
}

void CurvePoints::add(double x, double y) {
  constexpr std::size_t kMost = 4096;
  if (seen_++ % stride_ != 0) return;
  auto& points = series_.points;
  points.emplace_back(x, y);
  if (points.size() < kMost) return;
  for (std::size_t i = 0; 2 * i < points.size(); ++i) points[i] = points[2 * i];
  points.resize((points.size() + 1) / 2);
  stride_ *= 2;
}

}  // namespace candela::cli
