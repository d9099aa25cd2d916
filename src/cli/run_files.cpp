#include "cli/run_files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <fcntl.h>
#include <fstream>
#include <new>
#include <optional>
#include <string_view>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <candela/core/atomic_file.h>
#include <candela/core/atomic_folder.h>
#include <candela/core/error.h>
#include <candela/core/process.h>

#include "cli/output.h"
#include "cli/resume.h"
#include "core/folders.h"
#include "io/json.h"
#include "io/json_text.h"
#include "lora/adapter_file.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpoint = "checkpoint-";

/// `value` as JSON has it: what is not finite is null.
std::string as_json(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "null";
}

/// Written out: a JSON tree allocates where it is destroyed, which ends the process where memory has run out.
std::string line_of(const StepReport& report) {
  std::string line = fmt::format(
      R"({{"step":{},"loss":{},"learning_rate":{},"grad_norm":{},"tokens":{},"trained_tokens":{},"seconds":{},)"
      R"("tokens_per_s":{},"peak_memory_bytes":{})",
      report.step, as_json(report.loss), as_json(report.learning_rate), as_json(report.grad_norm),
      report.tokens, report.trained_tokens, as_json(report.seconds), as_json(report.tokens_per_s),
      process_memory().peak_resident);
  if (report.validation_loss)
    line += fmt::format(R"(,"validation_loss":{})", as_json(*report.validation_loss));
  if (report.best) line += R"(,"best":true)";
  if (!report.skipped.empty()) line += fmt::format(R"(,"skipped":{})", io::json_quoted(report.skipped));
  return line + "}\n";
}

/// What of a line of metrics a curve is drawn from; nothing where it is none.
std::optional<StepReport> report_of(const std::string& text) {
  io::JsonTree document;
  try {
    document = io::parse_json(text, "metrics");
  } catch (const IoError&) {
    return std::nullopt;
  }
  const io::Json& line = document;
  const auto number = [&](const char* key) { return line.contains(key) && line[key].is_number(); };
  if (!line.is_object() || !number("step")) return std::nullopt;
  StepReport report;
  report.step = line["step"].get<std::int64_t>();
  if (number("loss")) report.loss = line["loss"].get<double>();
  if (number("tokens")) report.tokens = line["tokens"].get<std::int64_t>();
  if (number("seconds")) report.seconds = line["seconds"].get<double>();
  if (number("validation_loss")) report.validation_loss = line["validation_loss"].get<double>();
  report.best = line.contains("best") && line["best"] == true;
  if (line.contains("skipped") && line["skipped"].is_string())
    report.skipped = line["skipped"].get<std::string>();
  return report;
}

/// Whether `name` is checkpoint-STEP.
bool is_checkpoint(std::string_view name) {
  if (!name.starts_with(kCheckpoint)) return false;
  name.remove_prefix(kCheckpoint.size());
  return !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
}

/// Whether `name` is that of a checkpoint that is being written or removed: .checkpoint-STEP.PID-N.tmp, or
/// .checkpoint-STEP of earlier versions.
bool is_unfinished(std::string_view name) {
  if (!name.starts_with('.')) return false;
  name.remove_prefix(1);
  return is_checkpoint(name.substr(0, name.find('.')));
}

/// Whether a run made this checkpoint: its adapter has the mark of ours. An empty folder holds nothing of
/// anybody's.
bool is_own(const fs::path& folder) {
  std::error_code error;
  const bool empty = names_in(folder, error).empty() && !error;
  return empty || is_own_adapter(folder);
}

/// Folders in `output`, not links to some, whose names `test` takes.
template <class Test>
std::vector<fs::path> folders_in(const fs::path& output, const Test& test) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const std::string& name : names_in(output, error)) {
    std::error_code ignored;
    const fs::path path = output / name;
    if (test(name) && fs::is_directory(fs::symlink_status(path, ignored))) folders.push_back(path);
  }
  return folders;
}

/// One that cannot be removed costs its room, not the run: a warning.
void remove_whole(const fs::path& folder) {
  const std::string why = remove_folder_whole(folder);
  if (!why.empty()) warn(why);
}

/// Where a run puts what is not the adapter itself.
constexpr const char* kFiles[] = {
    kAdapterWeightsName, kAdapterConfigName,      "finetune.yaml",       "loss.svg",
    "metrics.jsonl",     "metrics.jsonl.partial", "chat_template.jinja", "candela_chat.json"};

/// Makes the folder and, where it was not there, takes it back: a run that fails early leaves nothing.
void check_folder_can_be_made(const fs::path& folder) {
  const OutputFolder made(folder);
  if (::access(folder.c_str(), W_OK | X_OK) == 0) return;
  throw IoError(fmt::format("{}: cannot be written: {}; choose another --output", folder.string(),
                            std::generic_category().message(errno)));
}

/// The rows of a run's metrics are its own to replace; anything else of that name is somebody's file.
bool is_metrics(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  return !std::getline(in, line) || line.starts_with("{\"");
}

}  // namespace

void check_output(const fs::path& output, const fs::path& model, bool overwrite, std::int64_t save_every) {
  std::error_code error;
  require(!fs::exists(output, error) || fs::is_directory(output, error),
          "{}: is not a folder; choose another --output", output.string());
  require(!fs::equivalent(output, model, error), "{}: is the model's own folder; choose another --output",
          output.string());
  check_folder_can_be_made(output);
  require(overwrite || !Checkpoints::any_in(output),
          "{}: holds checkpoints of an earlier run; choose another --output, or give --overwrite",
          output.string());
  for (const char* name : kFiles) {
    const fs::path file = output / name;
    const fs::file_status status = fs::symlink_status(file, error);
    if (!fs::exists(status)) continue;
    require(fs::is_regular_file(status),
            "{}: must be a regular file or not exist, and no link; move it away, or choose another --output",
            file.string());
    const bool partial =
        file.extension() == ".partial";  // what a killed run leaves, and the next one replaces
    require(partial ? is_metrics(file) : overwrite, "{}: exists already; choose another --output, or {}",
            file.string(), partial ? "move it away" : "give --overwrite");
  }
  if (save_every == 0) return;
  for (const fs::path& folder : folders_in(output, is_checkpoint)) {
    const std::string digits = folder.filename().string().substr(kCheckpoint.size());
    const bool due = digits.size() < 18 && std::stoll(digits) % save_every == 0;
    require(
        !due || is_own(folder),
        "{}: is no checkpoint of a run, and has the name of one that this run saves; move it away, or choose "
        "another --output",
        folder.string());
  }
}

RunLock::RunLock(const fs::path& output) : path_(output / ".finetune.lock") {
  for (;;) {
    file_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666));
    const auto failed = [&](int error) {
      return IoError(fmt::format("{}: could not be opened: {}; remove it, or choose another --output",
                                 path_.string(), std::generic_category().message(error)));
    };
    struct stat held {};
    if (!file_.open() || ::fstat(file_.value(), &held) != 0) throw failed(errno);
    require<IoError>(S_ISREG(held.st_mode),
                     "{}: must be a regular file; remove it, or choose another --output", path_.string());
    if (::flock(file_.value(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) {
        warn(fmt::format("{}: cannot be locked: {}; make sure that no other run has this --output",
                         path_.string(), std::generic_category().message(errno)));
        break;
      }
      std::array<char, 32> text{};
      const ssize_t length = ::pread(file_.value(), text.data(), text.size() - 1, 0);
      std::string holder(text.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
      holder.resize(std::min(holder.find('\n'), holder.size()));
      throw InvalidArgument(
          fmt::format("{}: another run (process {}) is writing into this folder; choose another "
                      "--output, or wait for it",
                      output.string(), holder.empty() ? "unknown" : holder));
    }
    // Whoever had it removed it in between: a lock on a name that is gone holds nobody off.
    struct stat named {};
    if (::lstat(path_.c_str(), &named) == 0 && named.st_ino == held.st_ino && named.st_dev == held.st_dev)
      break;
  }
  const std::string text = fmt::format("{}\n", ::getpid());
  static_cast<void>(::ftruncate(file_.value(), 0) != 0);
  static_cast<void>(::pwrite(file_.value(), text.data(), text.size(), 0) < 0);  // for the message above only
}

RunLock::~RunLock() {
  if (file_.open()) ::unlink(path_.c_str());  // before the lock goes with the descriptor
}

OutputFolder::OutputFolder(const fs::path& folder) : made_(missing_folders(folder)) {
  std::error_code error;
  try {
    fs::create_directories(folder, error);
  } catch (const std::bad_alloc&) {
    error = std::make_error_code(std::errc::not_enough_memory);
  }
  if (!error) return;
  for (const fs::path& one : made_) ::rmdir(one.c_str());
  if (error == std::errc::not_enough_memory) throw std::bad_alloc();
  throw IoError(
      fmt::format("{}: cannot be made: {}; choose another --output", folder.string(), error.message()));
}

OutputFolder::~OutputFolder() {
  for (const fs::path& one : made_) ::rmdir(one.c_str());  // fails where something is in it
}

MetricsFile::MetricsFile(fs::path path) : path_(std::move(path)), partial_(path_) {
  partial_ += ".partial";
}

MetricsFile::~MetricsFile() = default;

void MetricsFile::open() {
  // A file of its own, so that no link is followed and no pipe waited for. check_output() looked at what
  // goes.
  ::unlink(partial_.c_str());
  file_.reset(::open(partial_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file_.open()) give_up(errno);
}

void MetricsFile::give_up(int error) {
  warn(fmt::format("{}: could not be written: {}; the run goes on without it", partial_.string(),
                   std::generic_category().message(error)));
  if (file_.open() && size_ == 0) ::unlink(partial_.c_str());
  file_.reset();
  given_up_ = true;
}

void MetricsFile::keep_until(std::int64_t step) {
  std::error_code error;
  std::ifstream in(fs::exists(partial_, error) ? partial_ : path_);
  std::string lines;
  for (std::string line; std::getline(in, line);) {
    const std::optional<StepReport> report = report_of(line);
    if (!report || report->step > step) continue;
    kept_.push_back(*report);
    lines += line + "\n";
  }
  if (lines.empty()) return;
  try {
    write_file_atomically(partial_, lines);
  } catch (const IoError& failure) {
    warn(fmt::format("{}; the run goes on without it", failure.what()));
    given_up_ = true;
    return;
  }
  file_.reset(::open(partial_.c_str(), O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC));
  if (!file_.open()) return give_up(errno);
  size_ = static_cast<long long>(lines.size());
}

void MetricsFile::add(const StepReport& report) {
  if (!file_.open() && !given_up_) open();
  if (given_up_) return;
  const std::string line = line_of(report);
  std::size_t done = 0;
  int error = 0;
  while (done < line.size() && error == 0) {
    const ssize_t written = ::write(file_.value(), line.data() + done, line.size() - done);
    if (written >= 0) done += static_cast<std::size_t>(written);
    if (written < 0 && errno != EINTR) error = errno;
  }
  if (error == 0) {
    size_ += static_cast<long long>(line.size());
    return;
  }
  const int taken_back = ::ftruncate(file_.value(), size_);
  static_cast<void>(taken_back);  // nothing more can be done
  give_up(error);
}

void MetricsFile::put_in_place() {
  file_.reset();
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
  const std::vector<fs::path> folders = folders_in(output, is_checkpoint);
  return std::any_of(folders.begin(), folders.end(), is_own);
}

void Checkpoints::adopt(std::int64_t step, std::int64_t best_step) {
  for (const ResumePoint& point : resume_points(output_)) {
    if (point.step > step) continue;
    saved_.push_back(point.folder);
    last_step_ = point.step;
    if (point.step == best_step) best_ = point.folder;
  }
}

void Checkpoints::drop_oldest() {
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < saved_.size();) {
    if (saved_[i] == best_) {
      ++i;
      continue;
    }
    remove_whole(saved_[i]);
    saved_.erase(saved_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

bool Checkpoints::save_if_due(std::int64_t step, const std::function<void(const fs::path&)>& write, bool best,
                              bool now) {
  const bool due = step > 0 && every_ > 0 && step % every_ == 0;
  if (!due && !best && !now) return false;
  const fs::path target = output_ / (std::string(kCheckpoint) + std::to_string(step));
  const auto give_up = [&](std::string_view why) {
    warn(fmt::format("{}: no checkpoint: {}", target.string(), why));
    return false;
  };
  try {
    AtomicFolder folder(target);
    write(folder.path());
    folder.replace();  // an earlier run's
  } catch (const std::bad_alloc&) {
    return give_up("out of memory");
  } catch (const std::exception& error) {
    return give_up(error.what());
  }
  saved_.push_back(target);
  last_step_ = step;
  if (best) best_ = target;
  drop_oldest();
  return true;
}

void Checkpoints::remove_others() const {
  for (const fs::path& folder : folders_in(output_, is_unfinished)) {
    const std::error_code error = remove_tree(folder);
    if (error) warn(fmt::format("{}: could not be removed: {}", folder.string(), error.message()));
  }
  for (const fs::path& folder : folders_in(output_, is_checkpoint)) {
    if (std::find(saved_.begin(), saved_.end(), folder) != saved_.end()) continue;
    if (is_own(folder)) {
      remove_whole(folder);
    } else {
      warn(fmt::format("{}: is no checkpoint of a run; it stays", folder.string()));
    }
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
