#include "lora/matcher.h"

#include <cctype>
#include <cmath>

#include <candela/core/error.h>

namespace candela {
namespace {

io::Regex compile(const std::string& pattern, PathPattern::Reach reach, const std::string& where) {
  // Python's syntax is nearer to Rust's than to Ruby's.
  constexpr auto kSyntax = io::PatternSyntax::Rust;
  // First alone, so that an error shows what was written and not what it is wrapped in.
  static_cast<void>(io::Regex(pattern, where, kSyntax));
  const std::string begin = reach == PathPattern::Reach::End ? "\\A(?:.*\\.)?(?:" : "\\A(?:";
  try {
    return io::Regex(begin + pattern + ")\\z", where, kSyntax);
  } catch (const IoError&) {
    // Under (?x), a comment at the end takes in the parenthesis unless its line ends.
    return io::Regex(begin + pattern + "\n)\\z", where, kSyntax);
  }
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
std::vector<std::pair<PathPattern, Value>> compile_all(
    const std::vector<std::pair<std::string, Value>>& patterns, const std::string& where) {
  std::vector<std::pair<PathPattern, Value>> result;
  result.reserve(patterns.size());
  for (const auto& [pattern, value] : patterns)
    result.emplace_back(PathPattern(pattern, PathPattern::Reach::End, where), value);
  return result;
}

template <class Value>
Value first_match(const std::vector<std::pair<PathPattern, Value>>& patterns, const std::string& path,
                  Value otherwise) {
  for (const auto& [pattern, value] : patterns) {
    if (pattern.matches(path)) return value;
  }
  return otherwise;
}

}  // namespace

PathPattern::PathPattern(const std::string& pattern, Reach reach, const std::string& where)
    : regex_(compile(pattern, reach, where)) {
  if (reach == Reach::End) literal_ = pattern;
}

bool PathPattern::matches(const std::string& path) const {
  if (literal_ && (path == *literal_ || path.ends_with("." + *literal_))) return true;
  return !regex_.find_all(path).empty();
}

FilterMatcher::FilterMatcher(const ModuleFilter& filter, const std::string& where)
    : names_(filter.names.begin(), filter.names.end()), all_linear_(filter.pattern == kAllLinear) {
  if (!filter.pattern.empty() && !all_linear_)
    pattern_.emplace(filter.pattern, PathPattern::Reach::Whole, where);
}

bool FilterMatcher::matches(const std::string& path, bool is_head) const {
  if (any_end(path, [&](std::string_view end) { return names_.contains(end); })) return true;
  if (all_linear_) return !is_head;
  return pattern_ && pattern_->matches(path);
}

LoraMatcher::LoraMatcher(const LoraConfig& config, const std::string& where)
    : targets_(config.targets, where + ": target_modules"),
      layers_(config.layers.begin(), config.layers.end()),
      rank_pattern_(compile_all(config.rank_pattern, where + ": rank_pattern")),
      alpha_pattern_(compile_all(config.alpha_pattern, where + ": alpha_pattern")),
      rank_(config.rank),
      alpha_(config.alpha),
      use_rslora_(config.use_rslora) {
  if (!config.excluded.empty()) excluded_.emplace(config.excluded, where + ": exclude_modules");
}

bool LoraMatcher::selects(const std::string& path, bool is_head) const {
  if (excluded_ && excluded_->matches(path, is_head)) return false;
  if (!targets_.matches(path, is_head)) return false;
  if (layers_.empty()) return true;
  const std::optional<std::int64_t> number = layer_number(path);
  return number.has_value() && layers_.contains(*number);
}

std::int64_t LoraMatcher::rank_of(const std::string& path) const {
  return first_match(rank_pattern_, path, rank_);
}

double LoraMatcher::alpha_of(const std::string& path) const {
  return first_match(alpha_pattern_, path, alpha_);
}

double LoraMatcher::scale_of(const std::string& path) const {
  const auto rank = static_cast<double>(rank_of(path));
  return alpha_of(path) / (use_rslora_ ? std::sqrt(rank) : rank);
}

}  // namespace candela
