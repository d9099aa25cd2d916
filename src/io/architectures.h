#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

/// Every architecture, once: reading config.json and building the model both go by this table.
namespace candela {

enum class ModelType : std::uint8_t { Llama, Mistral, Qwen2, Qwen3 };

/// When layers attend to the last `sliding_window` positions only.
enum class Windows : std::uint8_t {
  Never,
  Always,  ///< wherever sliding_window is not null
  OptIn,   ///< with use_sliding_window, from layer max_window_layers on
};

struct Architecture {
  ModelType type;
  std::string_view name;  ///< `model_type` in config.json
  Windows windows;
  // What transformers assumes where config.json lacks the field.
  std::int64_t max_positions;
  std::int64_t head_dim;  ///< 0: hidden_size / num_attention_heads
  std::int64_t sliding_window;
  std::int64_t max_window_layers;
};

inline constexpr std::array kArchitectures = {
    Architecture{ModelType::Llama, "llama", Windows::Never, 2048, 0, 0, 0},
    Architecture{ModelType::Mistral, "mistral", Windows::Always, 131072, 0, 4096, 0},
    Architecture{ModelType::Qwen2, "qwen2", Windows::OptIn, 32768, 0, 4096, 28},
    Architecture{ModelType::Qwen3, "qwen3", Windows::OptIn, 32768, 128, 4096, 28},
};

/// "llama, mistral, qwen2, qwen3".
std::string architecture_names();

/// Null if no architecture has this name.
const Architecture* find_architecture(std::string_view name);

}  // namespace candela
