#include <nlohmann/json.hpp>

#include <candela/io/tokenizer.h>

#include "fuzz/fuzz.h"
#include "io/byte_level.h"
#include "io/utf8.h"

namespace {

/// All 256 bytes, a few merges, and the pattern of Llama 3: no text can be lost in it.
candela::Tokenizer make_tokenizer() {
  using nlohmann::json;
  json vocab;
  for (int byte = 0; byte < 256; ++byte)
    vocab[candela::io::to_byte_level(std::string(1, static_cast<char>(byte)))] = byte;
  json merges = json::array();
  int id = 256;
  for (const auto& [left, right] :
       {std::pair("t", "h"), {"th", "e"}, {"\xC4\xA0", "the"}, {"a", "a"}, {"aa", "aa"}, {"1", "2"}}) {
    merges.push_back({left, right});
    vocab[std::string(left) + right] = id++;
  }
  const std::string pattern =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const json split = {
      {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const json document = {{"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}},
                         {"decoder", {{"type", "ByteLevel"}}},
                         {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
  return candela::Tokenizer::parse(document.dump(), "fuzz");
}

}  // namespace

/// Any text, valid or not, comes back from its ids.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const Tokenizer tokenizer = make_tokenizer();
  const std::string_view text = fuzz::text_of(data, size);
  const auto ids = tokenizer.encode(text);
  const std::string expected = io::lossy_utf8(text);
  fuzz::check(tokenizer.decode(ids) == expected, "decode(encode(text)) is the text");
  StreamDecoder stream(tokenizer);
  std::string streamed;
  for (const TokenId id : ids) {
    const std::string part = stream.add(id);
    fuzz::check(io::is_valid_utf8(part), "streamed text is valid UTF-8");
    streamed += part;
  }
  streamed += stream.finish();
  fuzz::check(streamed == expected, "streamed text is the text");
  return 0;
}
