#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

/// JSON written as text, without a tree: nlohmann's trees allocate where they are destroyed, which ends the
/// process where memory has run out.
namespace candela::io {

/// `text` between quotes. A byte that is not UTF-8 becomes U+FFFD.
std::string json_quoted(const std::string& text);

/// The shortest digits that read back to `value`; null for what is not finite.
std::string json_number(double value);

/// A key, and its value as JSON.
using JsonField = std::pair<std::string, std::string>;

/// An object with each field on a line of its own; `depth` is how many objects are around it.
std::string json_object(std::span<const JsonField> fields, int depth = 0);

/// `object`, the text of a JSON object, with `value` in the place of the one that its member `key` has; the
/// member comes last where there is none. All other bytes stay as they are.
std::string with_json_member(const std::string& object, std::string_view key, std::string_view value);

}  // namespace candela::io
