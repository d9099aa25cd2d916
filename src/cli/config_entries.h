#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace candela::cli {

/// One key of a config file.
struct ConfigEntry {
  enum class Kind { Null, Scalar, List, Other };

  std::string key;
  /// from 1
  std::size_t line = 0;
  Kind kind = Kind::Other;
  /// one for a scalar
  std::vector<std::string> values;
};

/// The keys of `file` in its order. Throws UsageError naming file and line.
std::vector<ConfigEntry> read_config_entries(const std::string& file);

/// As read_config_entries, from the text of a file: JSON if the name of `file` says so, else YAML.
std::vector<ConfigEntry> parse_config_entries(const std::string& text, const std::string& file);

}  // namespace candela::cli
