#pragma once

#include <string>
#include <string_view>

/// The byte-level alphabet of GPT-2: each of the 256 bytes is written as one printable character, so that a
/// vocabulary of text can hold any bytes. Bytes that are printable in Latin-1 stand for themselves; the
/// others follow from U+0100.
namespace candela::io {

/// Every byte of `bytes` as its character.
void append_byte_level(std::string& out, std::string_view bytes);
std::string to_byte_level(std::string_view bytes);

/// The bytes that the characters of `token` (valid UTF-8) stand for; the token's own bytes if one stands for
/// none.
void append_from_byte_level(std::string& out, std::string_view token);

/// The pattern by which GPT-2 cuts text into words.
extern const char* const kGpt2Pattern;

}  // namespace candela::io
