#include <algorithm>
#include <cmath>
#include <limits>

#include <candela/core/error.h>
#include <candela/lora/config.h>

#include "lora/matcher.h"

namespace candela {
namespace {

/// In each of rank_pattern and alpha_pattern: every layer is matched with all of them.
constexpr std::size_t kMostPatterns = 1000;

}  // namespace

std::int64_t LoraConfig::rank_of(const std::string& path) const {
  return LoraMatcher(*this).rank_of(path);
}

double LoraConfig::alpha_of(const std::string& path) const {
  return LoraMatcher(*this).alpha_of(path);
}

double LoraConfig::scale_of(const std::string& path) const {
  return LoraMatcher(*this).scale_of(path);
}

bool LoraConfig::selects(const std::string& path, bool is_head) const {
  return LoraMatcher(*this).selects(path, is_head);
}

ModuleFilter LoraConfig::resolved_targets(const std::vector<std::string>& paths,
                                          const std::string& head) const {
  const bool one_form = targets.names.empty() || targets.pattern.empty();
  const bool plain_pattern = targets.pattern != kAllLinear && layers.empty();
  if (targets.pattern.empty() || (one_form && plain_pattern)) return targets;
  const auto picked = [&](const ModuleFilter& filter) {
    const FilterMatcher matcher(filter, "lora: target_modules");
    std::vector<std::string> result;
    for (const std::string& path : paths) {
      if (matcher.matches(path, path == head)) result.push_back(path);
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
  const LoraMatcher matcher(*this);
  for (const std::string& path : paths) {
    if (matcher.selects(path, path == head)) selected.push_back(path);
  }
  std::vector<std::string> idle;
  const auto check = [&](const ModuleFilter& filter, const std::string& shown) {
    const FilterMatcher one(filter, "lora: exclude_modules");
    const bool unused = std::none_of(
        paths.begin(), paths.end(), [&](const std::string& path) { return one.matches(path, path == head); });
    if (unused) idle.push_back("exclude_modules: " + shown);
  };
  for (const std::string& name : excluded.names) check({{name}, ""}, name);
  if (!excluded.pattern.empty()) check({{}, excluded.pattern}, excluded.pattern);
  const auto check_patterns = [&](const auto& patterns, const std::string& field) {
    for (const auto& entry : patterns) {
      const PathPattern pattern(entry.first, PathPattern::Reach::End, "lora: " + field);
      const bool unused = std::none_of(selected.begin(), selected.end(),
                                       [&](const std::string& path) { return pattern.matches(path); });
      if (unused) idle.push_back(fmt::format("{}: {}", field, entry.first));
    }
  };
  check_patterns(rank_pattern, "rank_pattern");
  check_patterns(alpha_pattern, "alpha_pattern");
  return idle;
}

void check_lora_config(const LoraConfig& config) {
  const auto check_rank = [](std::int64_t rank, const std::string& field) {
    require(rank > 0 && rank <= 65536, "lora: {} must be in [1, 65536]; got {}", field, rank);
  };
  // As ranks are at least 1, a scale is no larger.
  const auto check_alpha = [](double alpha, const std::string& field) {
    require(std::abs(alpha) <= std::numeric_limits<float>::max(),
            "lora: {} must be a finite number in f32; got {}", field, alpha);
  };
  const auto check_count = [](std::size_t count, const char* field) {
    require(count <= kMostPatterns, "lora: {} must hold at most {} patterns; got {}", field, kMostPatterns,
            count);
  };
  check_rank(config.rank, "r");
  check_alpha(config.alpha, "lora_alpha");
  require(config.dropout >= 0 && config.dropout < 1, "lora: lora_dropout must be in [0, 1); got {}",
          config.dropout);
  require(!config.targets.empty(),
          "lora: target_modules names no module; give names, a regular expression or {}", kAllLinear);
  check_count(config.rank_pattern.size(), "rank_pattern");
  check_count(config.alpha_pattern.size(), "alpha_pattern");
  for (const auto& [pattern, rank] : config.rank_pattern) check_rank(rank, "rank_pattern[" + pattern + "]");
  for (const auto& [pattern, alpha] : config.alpha_pattern)
    check_alpha(alpha, "alpha_pattern[" + pattern + "]");
  static_cast<void>(LoraMatcher(config));  // compiles the patterns
}

}  // namespace candela
