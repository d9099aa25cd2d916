#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>

#include <candela/core/error.h>
#include <candela/lora/config.h>

#include "io/regex.h"

namespace candela {
namespace {

/// Whether `pattern` matches `text` from end to end.
bool full_match(const std::string& pattern, const std::string& text, const char* field) {
  const io::Regex regex("\\A(?:" + pattern + ")\\z", std::string("lora: ") + field);
  return !regex.find_all(text).empty();
}

/// Whether `key` is the whole of `path` or its end behind a dot.
bool is_suffix(const std::string& path, const std::string& key) {
  return path == key || path.ends_with("." + key);
}

bool matches(const ModuleFilter& filter, const std::string& path, bool is_head, const char* field) {
  if (std::any_of(filter.names.begin(), filter.names.end(),
                  [&](const std::string& name) { return is_suffix(path, name); })) {
    return true;
  }
  if (filter.pattern == kAllLinear) return !is_head;
  return !filter.pattern.empty() && full_match(filter.pattern, path, field);
}

/// Whether the whole of `path`, or its end behind a dot, is `pattern` or matches it.
bool end_matches(const std::string& pattern, const std::string& path, const char* field) {
  return is_suffix(path, pattern) || full_match("(?:.*\\.)?(?:" + pattern + ")", path, field);
}

/// The number N of the block in a path like "model.layers.N.mlp.up_proj".
std::optional<std::int64_t> layer_number(const std::string& path) {
  constexpr std::string_view kMark = "layers.";
  const std::size_t at = path.find(kMark);
  if (at == std::string::npos) return std::nullopt;
  std::int64_t number = 0;
  std::size_t digits = 0;
  for (std::size_t i = at + kMark.size();
       i < path.size() && std::isdigit(static_cast<unsigned char>(path[i])) && digits < 9; ++i) {
    number = 10 * number + (path[i] - '0');
    ++digits;
  }
  return digits > 0 ? std::optional(number) : std::nullopt;
}

template <class Value>
Value pattern_value(const std::vector<std::pair<std::string, Value>>& patterns, const std::string& path,
                    Value otherwise, const char* field) {
  for (const auto& [pattern, value] : patterns) {
    if (end_matches(pattern, path, field)) return value;
  }
  return otherwise;
}

}  // namespace

std::int64_t LoraConfig::rank_of(const std::string& path) const {
  return pattern_value(rank_pattern, path, rank, "rank_pattern");
}

double LoraConfig::alpha_of(const std::string& path) const {
  return pattern_value(alpha_pattern, path, alpha, "alpha_pattern");
}

double LoraConfig::scale_of(const std::string& path) const {
  const auto r = static_cast<double>(rank_of(path));
  return alpha_of(path) / (use_rslora ? std::sqrt(r) : r);
}

ModuleFilter LoraConfig::resolved_targets(const std::vector<std::string>& paths,
                                          const std::string& head) const {
  const bool one_form = targets.names.empty() || targets.pattern.empty();
  const bool plain_pattern = targets.pattern != kAllLinear && layers.empty();
  if (targets.pattern.empty() || (one_form && plain_pattern)) return targets;
  const auto picked = [&](const ModuleFilter& filter) {
    std::vector<std::string> result;
    for (const std::string& path : paths) {
      if (matches(filter, path, path == head, "target_modules")) result.push_back(path);
    }
    return result;
  };
  const std::vector<std::string> whole = picked(targets);
  ModuleFilter ends;
  for (const std::string& path : whole) {
    const std::string end = path.substr(path.rfind('.') + 1);
    if (std::find(ends.names.begin(), ends.names.end(), end) == ends.names.end()) ends.names.push_back(end);
  }
  return picked(ends) == whole ? ends : ModuleFilter{whole, ""};
}

std::vector<std::string> LoraConfig::idle_patterns(const std::vector<std::string>& paths,
                                                   const std::string& head) const {
  std::vector<std::string> selected;
  for (const std::string& path : paths) {
    if (selects(path, path == head)) selected.push_back(path);
  }
  const auto none = [](const std::vector<std::string>& where, const auto& test) {
    return std::none_of(where.begin(), where.end(), test);
  };
  std::vector<std::string> idle;
  const auto check = [&](const ModuleFilter& filter, const std::string& shown) {
    const bool unused = none(paths, [&](const std::string& path) {
      return matches(filter, path, path == head, "exclude_modules");
    });
    if (unused) idle.push_back("exclude_modules: " + shown);
  };
  for (const std::string& name : excluded.names) check({{name}, ""}, name);
  if (!excluded.pattern.empty()) check({{}, excluded.pattern}, excluded.pattern);
  const auto check_patterns = [&](const auto& patterns, const char* field) {
    for (const auto& entry : patterns) {
      const bool unused =
          none(selected, [&](const std::string& path) { return end_matches(entry.first, path, field); });
      if (unused) idle.push_back(fmt::format("{}: {}", field, entry.first));
    }
  };
  check_patterns(rank_pattern, "rank_pattern");
  check_patterns(alpha_pattern, "alpha_pattern");
  return idle;
}

bool LoraConfig::selects(const std::string& path, bool is_head) const {
  if (!excluded.empty() && matches(excluded, path, is_head, "exclude_modules")) return false;
  if (!matches(targets, path, is_head, "target_modules")) return false;
  if (layers.empty()) return true;
  const std::optional<std::int64_t> number = layer_number(path);
  return number.has_value() && std::find(layers.begin(), layers.end(), *number) != layers.end();
}

namespace {

/// Compiles the pattern alone, so that an error shows what was written and not what it is wrapped in.
void check_pattern(const std::string& pattern, const std::string& field) {
  if (pattern.empty() || pattern == kAllLinear) return;
  static_cast<void>(io::Regex(pattern, "lora: " + field));
}

}  // namespace

void check_lora_config(const LoraConfig& config) {
  const auto check_rank = [](std::int64_t rank, const std::string& field) {
    require(rank > 0 && rank <= 65536, "lora: {} must be in [1, 65536]; got {}", field, rank);
  };
  const auto check_alpha = [](double alpha, const std::string& field) {
    require(std::isfinite(alpha), "lora: {} must be a finite number; got {}", field, alpha);
  };
  check_rank(config.rank, "r");
  check_alpha(config.alpha, "lora_alpha");
  require(config.dropout >= 0 && config.dropout < 1, "lora: lora_dropout must be in [0, 1); got {}",
          config.dropout);
  require(!config.targets.empty(),
          "lora: target_modules names no module; give names, a regular expression or {}", kAllLinear);
  check_pattern(config.targets.pattern, "target_modules");
  check_pattern(config.excluded.pattern, "exclude_modules");
  for (const auto& [pattern, rank] : config.rank_pattern) {
    check_pattern(pattern, "rank_pattern");
    check_rank(rank, "rank_pattern[" + pattern + "]");
  }
  for (const auto& [pattern, alpha] : config.alpha_pattern) {
    check_pattern(pattern, "alpha_pattern");
    check_alpha(alpha, "alpha_pattern[" + pattern + "]");
  }
}

}  // namespace candela
