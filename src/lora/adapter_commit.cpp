#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/io/safetensors.h>

#include "core/folders.h"
#include "io/json.h"
#include "lora/adapter_file.h"
#include "lora/matcher.h"

/// The two files of an adapter as one. No system renames two files at once, so each state that a loss of
/// power can leave must tell what it is:
///
///     weights   configuration   aside              read as
///     old       old             -                  old
///     old       -               both               old
///     new       -               both               new
///     new       new             -                  new
///
/// The weights hold a digest of their configuration, so whatever is read is checked to belong together.
/// Readers that know nothing of it (peft) find one adapter, or no configuration and an error; never the
/// weights of one with the rank and scale of the other. Over weights without a digest, others' files, the
/// configuration stays until the weights are renamed: new weights beside an old configuration are read as new
/// by the digest.
namespace candela {
namespace {

namespace fs = std::filesystem;

/// FNV-1a, 64 bits: nobody is kept out by it, it tells one configuration from another.
std::uint64_t fnv(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

/// The path of the layer whose A the tensor `name` is; nothing for others.
std::optional<std::string> adapted_path(std::string_view name) {
  constexpr std::string_view kPrefix = "base_model.model.";
  constexpr std::string_view kEnd = ".lora_A.weight";
  if (!name.ends_with(kEnd)) return std::nullopt;
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return std::string(name.substr(0, name.size() - kEnd.size()));
}

bool is_there(const fs::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

/// What ties the weights in `folder` to their configuration.
struct Mark {
  std::string digest;
  std::vector<std::string> names;
};

/// Nothing where there are no weights, none that can be read, or others' without the mark.
std::optional<Mark> mark_of(const fs::path& folder) {
  if (!is_there(folder / kAdapterWeightsName)) return std::nullopt;
  try {
    const SafetensorsReader reader = SafetensorsReader::open(folder / kAdapterWeightsName);
    const auto found = reader.metadata().find(kAdapterMark);
    if (found == reader.metadata().end()) return std::nullopt;
    return Mark{found->second, reader.names()};
  } catch (const Error&) {
    return std::nullopt;  // whoever reads the weights says what is wrong with them
  }
}

/// The configuration in `text` if it is that of the weights with this mark.
std::optional<LoraConfig> belonging(const std::string& text, const Mark& mark, const std::string& source) {
  try {
    LoraConfig config = parse_adapter_config(text, source);
    if (adapter_digest(mark.names, config) == mark.digest) return config;
  } catch (const Error&) {  // whoever needs it reads it again, and says so
  }
  return std::nullopt;
}

/// The configuration of these weights that an interrupted write_adapter() left aside.
std::optional<fs::path> aside_config(const fs::path& folder, const Mark& mark) {
  const std::string prefix = std::string(".") + kAdapterConfigName + ".";
  std::error_code error;
  for (const std::string& name : names_in(folder, error)) {
    if (!name.starts_with(prefix) || !name.ends_with(".tmp")) continue;
    const fs::path path = folder / name;
    if (fs::is_symlink(fs::symlink_status(path, error))) continue;
    try {
      if (belonging(io::read_file(path, kMostAdapterConfigBytes), mark, path.string())) return path;
    } catch (const Error&) {
      continue;
    }
  }
  return std::nullopt;
}

/// Finishes what an earlier save was cut short in: its configuration would go with what is left over.
void finish_earlier_save(const fs::path& folder) {
  const std::optional<Mark> mark = mark_of(folder);
  if (!mark) return;
  const fs::path config = folder / kAdapterConfigName;
  if (is_there(config) && belonging(io::read_file(config, kMostAdapterConfigBytes), *mark, config.string()))
    return;
  const std::optional<fs::path> aside = aside_config(folder, *mark);
  if (aside) write_file_atomically(config, io::read_file(*aside, kMostAdapterConfigBytes));
}

/// The configuration that a save replaces, kept aside until it is over. Whatever ends the save before its
/// weights are in place, an allocation that fails included, the name is put back.
class EarlierConfig {
 public:
  /// Holds nothing unless both files are there.
  EarlierConfig(const fs::path& weights, const fs::path& config)
      : config_(config), folder_(config.parent_path()) {
    if (!is_there(weights) || !is_there(config)) return;
    text_ = io::read_file(config, kMostAdapterConfigBytes);
    aside_.emplace(config);
    aside_->write(text_);
    aside_->flush();
  }
  EarlierConfig(const EarlierConfig&) = delete;
  EarlierConfig& operator=(const EarlierConfig&) = delete;
  ~EarlierConfig() {
    if (!gone_) return;
    try {
      aside_->rename();
    } catch (...) {
      aside_->leave_aside();  // where readers find it
    }
  }

  bool differs_from(const std::string& text) const { return aside_ && text_ != text; }
  /// Takes the name away, for good before anything that follows.
  void take_away() {
    require<IoError>(::unlink(config_.c_str()) == 0,
                     "{}: could not be removed: {} (what was there before is unchanged)", config_.string(),
                     std::generic_category().message(errno));
    gone_ = true;
    flush_folder(folder_);
  }
  /// The new weights are in place: the name is the new configuration's.
  void give_up() noexcept { gone_ = false; }

 private:
  fs::path config_, folder_;
  std::string text_;
  std::optional<AtomicFile> aside_;
  bool gone_ = false;
};

}  // namespace

std::string adapter_digest(const std::vector<std::string>& names, const LoraConfig& config) {
  const LoraMatcher matcher(config);
  std::vector<std::string> lines;
  for (const std::string& name : names) {
    const std::optional<std::string> path = adapted_path(name);
    if (path)
      lines.push_back(fmt::format("{} {} {:a}\n", *path, matcher.rank_of(*path), matcher.scale_of(*path)));
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line;
  return fmt::format("{:016x}", fnv(text));
}

bool is_own_adapter(const fs::path& folder) {
  return mark_of(folder).has_value();
}

AdapterConfigText find_adapter_config(const fs::path& folder) {
  const fs::path config = folder / kAdapterConfigName;
  const std::optional<Mark> mark = mark_of(folder);
  AdapterConfigText result;
  if (!mark || is_there(config)) result.text = io::read_file(config, kMostAdapterConfigBytes);
  if (mark && !result.text.empty()) result.config = belonging(result.text, *mark, config.string());
  if (!mark || result.config) return result;
  if (const std::optional<fs::path> aside = aside_config(folder, *mark)) {
    result.text = io::read_file(*aside, kMostAdapterConfigBytes);
    result.note = fmt::format("{}: its save was cut short; the configuration of its weights is read from {}",
                              config.string(), aside->filename().string());
    return result;
  }
  if (result.text.empty()) result.text = io::read_file(config, kMostAdapterConfigBytes);
  result.mismatched = true;
  return result;
}

void write_adapter(const fs::path& folder, const LoraConfig& config,
                   const std::vector<NamedTensor>& parameters, const std::string& base_model) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::vector<std::string> names;
  for (const NamedTensor& parameter : parameters) {
    names.push_back(parameter.name);
    tensors.emplace_back(parameter.name, parameter.tensor.detach());
  }
  const fs::path weights_path = folder / kAdapterWeightsName;
  const fs::path config_path = folder / kAdapterConfigName;
  finish_earlier_save(folder);
  AtomicFile weights_file(weights_path);
  AtomicFile config_file(config_path);
  write_safetensors(weights_file, weights_path, tensors,
                    {{"format", "pt"}, {kAdapterMark, adapter_digest(names, config)}});
  const std::string config_text = format_adapter_config(config, base_model);
  config_file.write(config_text);
  weights_file.flush();
  config_file.flush();
  // Until both renames last, the earlier configuration is there for the earlier weights.
  EarlierConfig earlier(weights_path, config_path);
  flush_folder(folder);
  if (earlier.differs_from(config_text) && mark_of(folder)) earlier.take_away();
  weights_file.rename();
  earlier.give_up();
  // Else a loss of power could keep the second rename alone.
  flush_folder(folder);
  try {
    config_file.rename();
  } catch (const IoError& error) {
    // Left where the new weights find it.
    const fs::path aside = config_file.leave_aside();
    throw IoError(fmt::format("{}; the weights are saved already: rename {} to {}", error.what(),
                              aside.string(), kAdapterConfigName));
  } catch (...) {
    config_file.leave_aside();
    throw;
  }
  flush_folder(folder);
}

}  // namespace candela
