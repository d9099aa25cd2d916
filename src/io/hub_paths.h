#pragma once

#include <string_view>

/// What names from the Hub may be, before they become paths.
namespace candela::io {

/// Lower-case hexadecimal digits, 7 to 64: a commit or a blob.
bool is_hub_hash(std::string_view text);

/// A relative path that leads nowhere but down: no part is empty, . or .., and none holds a backslash or a
/// control character.
bool is_plain_relative(std::string_view path);

}  // namespace candela::io
