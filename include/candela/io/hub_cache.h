#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace candela {

/// What a name of the Hugging Face Hub stands for.
enum class HubKind : std::uint8_t { Model, Dataset };

/// ORGANISATION/NAME (or NAME alone, as the oldest models have it), then, where given, @REVISION, and a path
/// inside: `Qwen/Qwen3-0.6B`, `openai/gsm8k@main/socratic`.
struct HubName {
  HubKind kind = HubKind::Model;
  std::string id;
  std::string revision = "main";
  /// empty: the whole
  std::filesystem::path inside;

  /// Nothing for a text that can be no such name.
  static std::optional<HubName> parse(std::string_view text, HubKind kind);
  /// Its folder in a cache: models--Qwen--Qwen3-0.6B.
  std::string folder() const;
};

/// Where huggingface_hub keeps what belongs to it: $HF_HOME, or huggingface in $XDG_CACHE_HOME or ~/.cache.
/// Empty where none of these is set.
std::filesystem::path hub_home();
/// Its cache of models and data sets: $HF_HUB_CACHE, or hub in hub_home(). Empty as hub_home().
std::filesystem::path hub_cache();

/// The path that `name` stands for. A path that is there is itself. A name of the Hub is its snapshot in
/// hub_cache(), found by refs/REVISION as huggingface_hub lays it out; IoError saying where it was looked for
/// and how to fetch it if it is not there. Anything else is itself.
std::filesystem::path local_path(const std::filesystem::path& name, HubKind kind = HubKind::Model);

}  // namespace candela
