#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace candela {

/// Which modules, by the path transformers gives them ("model.layers.0.self_attn.q_proj"): the union of
/// `names`, each the whole path or its end behind a dot, and of the paths that `pattern` (a regular
/// expression) matches from end to end.
struct ModuleFilter {
  std::vector<std::string> names{};
  std::string pattern{};

  bool empty() const { return names.empty() && pattern.empty(); }
};

/// Every linear layer but the output layer.
inline constexpr const char* kAllLinear = "all-linear";

/// The fields of peft's LoraConfig that Candela supports, under its meanings.
struct LoraConfig {
  /// r
  std::int64_t rank = 8;
  /// lora_alpha; the adapter is scaled by alpha / r
  double alpha = 16;
  /// lora_dropout, in [0, 1)
  double dropout = 0;
  /// scale by alpha / sqrt(r) instead (Kalajdzievski, 2023)
  bool use_rslora = false;
  /// pattern may be kAllLinear.
  ModuleFilter targets{{}, kAllLinear};
  ModuleFilter excluded{};
  /// layers_to_transform: only blocks with these numbers; empty: all.
  std::vector<std::int64_t> layers{};
  /// Rank or alpha of modules whose path, or its end behind a dot, matches the regular expression; the first
  /// that matches counts.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern{};
  std::vector<std::pair<std::string, double>> alpha_pattern{};

  /// Rank, alpha and scale of one module.
  std::int64_t rank_of(const std::string& path) const;
  double alpha_of(const std::string& path) const;
  double scale_of(const std::string& path) const;
  /// Whether `path`, the output layer if `is_head`, gets an adapter.
  bool selects(const std::string& path, bool is_head) const;

  /// The targets in a form that peft's files have: names or one pattern. Like peft, kAllLinear, and names
  /// beside a pattern, become the names of what they pick among `paths`, the linear layers of a model whose
  /// output layer is `head`: the ends of the paths if these pick the same, else whole paths.
  ModuleFilter resolved_targets(const std::vector<std::string>& paths, const std::string& head) const;
  /// What of excluded matches none of `paths`, and of the rank and alpha patterns no layer that gets an
  /// adapter: "rank_pattern: q_porj".
  std::vector<std::string> idle_patterns(const std::vector<std::string>& paths,
                                         const std::string& head) const;
};

/// Throws InvalidArgument naming the field that is out of range or holds more than 1000 patterns, and IoError
/// or Unsupported for a pattern that does not compile.
void check_lora_config(const LoraConfig& config);

}  // namespace candela
