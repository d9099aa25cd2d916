#include "io/byte_level.h"

#include <array>
#include <cstdint>

#include "io/utf8.h"

namespace candela::io {
namespace {

struct Alphabet {
  std::array<std::string, 256> text;          // byte -> its character
  std::array<std::int16_t, 0x144> byte_of{};  // code point -> byte, or -1
};

Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte_of.fill(-1);
  std::int32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const std::int32_t code_point = printable ? byte : next++;
    append_utf8(alphabet.text[static_cast<std::size_t>(byte)], code_point);
    alphabet.byte_of[static_cast<std::size_t>(code_point)] = static_cast<std::int16_t>(byte);
  }
  return alphabet;
}

const Alphabet& alphabet() {
  static const Alphabet instance = make_alphabet();
  return instance;
}

}  // namespace

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void append_byte_level(std::string& out, std::string_view bytes) {
  const Alphabet& table = alphabet();
  for (const char byte : bytes) out += table.text[static_cast<unsigned char>(byte)];
}

std::string to_byte_level(std::string_view bytes) {
  std::string result;
  result.reserve(bytes.size() * 2);
  append_byte_level(result, bytes);
  return result;
}

void append_from_byte_level(std::string& out, std::string_view token) {
  const Alphabet& table = alphabet();
  const std::size_t start = out.size();
  for (std::size_t i = 0; i < token.size();) {
    const CodePoint c = code_point_at(token, i);
    i += c.bytes;
    const auto index = static_cast<std::size_t>(c.value);
    if (index >= table.byte_of.size() || table.byte_of[index] < 0) {
      out.resize(start);
      out.append(token);
      return;
    }
    out += static_cast<char>(table.byte_of[index]);
  }
}

}  // namespace candela::io
