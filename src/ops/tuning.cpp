#include "backend/tuning.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/ops/tuning.h>

/// The file: a line of text per choice, its fields between tabs: device, key, implementation, then
/// name=nanoseconds of each implementation that was measured.
namespace candela {
namespace {

constexpr std::string_view kTitle = "# candela tuning 1: device, key, implementation, measured nanoseconds";

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

TunedChoice parse_choice(const std::vector<std::string_view>& fields, const std::string& where) {
  require<IoError>(fields.size() >= 4 && !fields[0].empty() && !fields[1].empty(),
                   "{}: expected device, key, implementation and measurements between tabs; got {} fields; "
                   "delete the file "
                   "to measure anew",
                   where, fields.size());
  TunedChoice choice{std::string(fields[2]), {}};
  for (std::size_t i = 3; i < fields.size(); ++i) {
    const std::size_t equals = fields[i].find('=');
    std::int64_t nanoseconds = 0;
    bool read = false;
    if (equals != std::string_view::npos) {
      const std::string_view number = fields[i].substr(equals + 1);
      const auto result = std::from_chars(number.data(), number.data() + number.size(), nanoseconds);
      read = result.ec == std::errc() && result.ptr == number.data() + number.size() && nanoseconds >= 0;
    }
    require<IoError>(read, "{}: expected name=nanoseconds; got \"{}\"; delete the file to measure anew",
                     where, fields[i]);
    choice.nanoseconds[std::string(fields[i].substr(0, equals))] = nanoseconds;
  }
  require<IoError>(choice.nanoseconds.contains(choice.implementation),
                   "{}: {} was chosen without a measurement; delete the file to measure anew", where,
                   choice.implementation);
  return choice;
}

/// Some thousand times what a machine has to keep.
constexpr std::uintmax_t kMostBytes = std::uintmax_t{1} << 24U;

/// IoError if there is a file that is none to read lines from: a pipe would be waited for, a device never
/// end.
void check_readable(const std::filesystem::path& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) return;
  require<IoError>(std::filesystem::is_regular_file(status), "{}: must be a regular file", file.string());
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  require<IoError>(error || bytes <= kMostBytes,
                   "{}: must be at most {} bytes; got {}; delete the file to measure anew", file.string(),
                   kMostBytes, bytes);
}

TuningTable read_table(const std::filesystem::path& file) {
  TuningTable table;
  check_readable(file);
  std::ifstream in(file);
  if (!in) {
    std::error_code error;  // of looking for it: its folder may be unreadable
    const bool exists = std::filesystem::exists(file, error);
    require<IoError>(!exists && !error, "{}: cannot be read{}", file.string(),
                     error ? ": " + error.message() : "; check its permissions");
    return table;
  }
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    const std::string where = fmt::format("{}:{}", file.string(), number);
    if (number == 1) {
      require<IoError>(
          line == kTitle,
          "{}: is not a tuning file of this version (its first line must be \"{}\"); delete it to "
          "measure anew",
          where, kTitle);
      continue;
    }
    const std::vector<std::string_view> fields = split(line, '\t');
    TunedChoice choice = parse_choice(fields, where);
    table[std::string(fields[0])][std::string(fields[1])] = std::move(choice);
  }
  require<IoError>(!in.bad(), "{}: could not be read to its end", file.string());
  return table;
}

void write_table(const std::filesystem::path& file, const TuningTable& table) {
  std::string text = fmt::format("{}\n", kTitle);
  for (const auto& [device, choices] : table) {
    for (const auto& [key, choice] : choices) {
      text += fmt::format("{}\t{}\t{}", device, key, choice.implementation);
      for (const auto& [name, nanoseconds] : choice.nanoseconds)
        text += fmt::format("\t{}={}", name, nanoseconds);
      text += '\n';
    }
  }
  write_file_atomically(file, text);
}

/// Writes `table` and what other processes have put into the file since it was read. What one puts there
/// between our reading and our writing is lost, unless it measures something more: it then writes all of its
/// own again. What is lost is measured anew.
void merge_into(const std::filesystem::path& file, const TuningTable& table) {
  TuningTable merged = read_table(file);
  for (const auto& [device, choices] : table) {
    for (const auto& [key, choice] : choices) merged[device][key] = choice;
  }
  write_table(file, merged);
}

/// What a choice is kept by. The op that made it has its result: a file that cannot be read or written any
/// more, for whatever reason, is a warning.
class Keeper {
 public:
  explicit Keeper(std::filesystem::path file) : file_(std::move(file)) {}

  void operator()(const TuningTable& table) {
    try {
      merge_into(file_, table);
    } catch (const std::exception& error) {
      warn(error.what());
    }
  }

  /// Says once that nothing is kept.
  void warn(const char* reason) {
    if (!warned_) fmt::print(stderr, "candela: what tuning measured is not kept: {}\n", reason);
    warned_ = true;
  }

 private:
  std::filesystem::path file_;
  bool warned_ = false;
};

}  // namespace

std::filesystem::path default_tuning_file() {
  const auto folder = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const auto own = folder("CANDELA_CACHE"); !own.empty()) return own / "tuning.tsv";
  if (const auto cache = folder("XDG_CACHE_HOME"); !cache.empty()) return cache / "candela" / "tuning.tsv";
  const auto home = folder("HOME");
  require<IoError>(!home.empty(),
                   "tuning: set CANDELA_CACHE to a folder to keep measurements in: there is no HOME");
  return home / ".cache" / "candela" / "tuning.tsv";
}

void enable_tuning(const std::filesystem::path& file) {
  TuningTable table = read_table(file);
  check_replaceable(file);
  Keeper keeper(file);
  try {
    const AtomicFile probe(file);  // whether it could be written, before anything is measured
  } catch (const IoError& error) {
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored)) throw;
    keeper.warn(error.what());
  }
  Tuning::instance().enable(std::move(table), std::move(keeper));
}

void disable_tuning() {
  Tuning::instance().disable();
}

bool tuning_enabled() {
  return Tuning::instance().enabled();
}

}  // namespace candela
