#pragma once

#include <candela/io/text_config.h>

#include "io/json.h"

namespace candela::io {

/// Bytes of each file of a model's configuration: far above any that there is.
inline constexpr std::size_t kMaxConfigBytes = std::size_t{1} << 26U;

/// BOS, padding and EOS of config.json or generation_config.json; an absent field leaves what was there.
void read_special_ids(const JsonObject& top, TextConfig& config);

}  // namespace candela::io
