#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <candela/lora/config.h>

#include "io/regex.h"

/// A LoraConfig made ready for many modules: names in a set, patterns compiled once.
namespace candela {

/// Whether `test` holds for the whole of `path` or one of its ends behind a dot.
template <class Test>
bool any_end(std::string_view path, const Test& test) {
  for (;;) {
    if (test(path)) return true;
    const std::size_t dot = path.find('.');
    if (dot == std::string_view::npos) return false;
    path.remove_prefix(dot + 1);
  }
}

/// A regular expression for paths.
class PathPattern {
 public:
  /// What it must match: the path from end to end, or the whole of the path or its end behind a dot.
  enum class Reach { Whole, End };

  /// `where` opens every error, which shows the pattern as written.
  PathPattern(const std::string& pattern, Reach reach, const std::string& where);

  /// InvalidArgument if the pattern takes too many steps.
  bool matches(const std::string& path) const;

 private:
  std::optional<std::string> literal_;  // with Reach::End, the pattern as the plain end of a path
  io::Regex regex_;
};

/// A ModuleFilter.
class FilterMatcher {
 public:
  FilterMatcher(const ModuleFilter& filter, const std::string& where);

  bool matches(const std::string& path, bool is_head) const;

 private:
  std::set<std::string, std::less<>> names_;
  bool all_linear_ = false;
  std::optional<PathPattern> pattern_;
};

/// A LoraConfig; its functions are those of the config.
class LoraMatcher {
 public:
  /// Errors, here and while matching, open with `where` and the name of the field. Throws what io::Regex does
  /// for a pattern that does not compile.
  explicit LoraMatcher(const LoraConfig& config, const std::string& where = "lora");

  bool selects(const std::string& path, bool is_head) const;
  std::int64_t rank_of(const std::string& path) const;
  double alpha_of(const std::string& path) const;
  double scale_of(const std::string& path) const;

 private:
  template <class Value>
  using Patterns = std::vector<std::pair<PathPattern, Value>>;

  FilterMatcher targets_;
  std::optional<FilterMatcher> excluded_;
  std::set<std::int64_t> layers_;
  Patterns<std::int64_t> rank_pattern_;
  Patterns<double> alpha_pattern_;
  std::int64_t rank_;
  double alpha_;
  bool use_rslora_;
};

}  // namespace candela
