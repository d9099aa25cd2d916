#include <fmt/format.h>
#include <functional>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <candela/core/error.h>
#include <candela/io/tokenizer.h>

#include "io/files.h"
#include "io/tokenizer_from.h"

/// What a small tokenizer.json may ask for: memory in proportion to the text, time in proportion to both.
namespace candela {
namespace {

using nlohmann::json;
using test::error_of;
using test::expect_contains;
using test::from;

/// Tokens of one character, without components.
json plain() {
  json vocab;
  for (const char* token : {"a", "b", "c", " ", "<unk>"}) vocab[token] = vocab.size();
  return {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}, {"unk_token", "<unk>"}}}};
}

json with(const char* field, const json& value) {
  json document = plain();
  document[json::json_pointer(field)] = value;
  return document;
}

json sequence(const char* list, const json& parts) {
  return {{"type", "Sequence"}, {list, parts}};
}

json replace(const std::string& pattern, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", {{"Regex", pattern}}}, {"content", content}};
}

void expect_growth_error(const std::function<void()>& action) {
  const std::string error = error_of<InvalidArgument>(action);
  expect_contains(error, "t.json: its components must not let ");
  expect_contains(error, "grow 64-fold");
}

TEST(TokenizerLimits, NestedSequencesShareOneMeasureOfGrowth) {
  const json longer = replace("a", std::string(50, 'a'));
  const auto nested = [&](const char* list) {
    const json inner = sequence(list, json::array({longer}));
    return sequence(list, {longer, inner, replace("a+", "")});
  };
  const std::string text(20000, 'a');
  expect_growth_error([&] { from(with("/normalizer", nested("normalizers"))).encode(text); });
  const std::vector<TokenId> ids(20000, 0);
  expect_growth_error([&] { from(with("/decoder", nested("decoders"))).decode(ids); });
}

/// One measure for a whole text, however many added tokens or pieces cut it.
TEST(TokenizerLimits, GrowthOfManyPartsAddsUp) {
  json document = with("/normalizer", {{"type", "Prepend"}, {"prepend", std::string(512, 'b')}});
  document["added_tokens"] = {{{"id", 9}, {"content", "|"}, {"special", true}}};
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "|a";
  expect_growth_error([&] { from(document).encode(text); });

  const json longer = replace("a", std::string(512, 'a'));
  const std::vector<TokenId> ids(20000, 0);
  expect_growth_error([&] { from(with("/decoder", longer)).decode(ids); });
}

TEST(TokenizerLimits, ByteTokensOfDecoratedCharactersAreBounded) {
  json document = plain();
  document["model"]["byte_fallback"] = true;
  for (int byte = 0; byte < 256; ++byte) {
    document["model"]["vocab"][fmt::format("<0x{:02X}>", byte)] = 100 + byte;
  }
  document["model"]["continuing_subword_prefix"] = std::string(512, '#');
  EXPECT_EQ(from(document).encode("ab").size(), 514U);
  expect_growth_error([&] { from(document).encode(std::string(20000, 'a')); });
}

TEST(TokenizerLimits, StringsOfComponentsAreShort) {
  const std::string most(512, 'x');
  const std::string more(513, 'x');
  const auto check = [&](const char* root, json component, const char* field, const std::string& name) {
    component[json::json_pointer(field)] = most;
    EXPECT_NO_THROW(from(with(root, component)));
    component[json::json_pointer(field)] = more;
    expect_contains(error_of<IoError>([&] { from(with(root, component)); }),
                    "t.json: " + name + " must be at most 512 bytes; got 513");
  };
  const json literal = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "b"}};
  check("/normalizer", {{"type", "Prepend"}}, "/prepend", "normalizer.prepend");
  check("/normalizer", literal, "/content", "normalizer.content");
  check("/normalizer", literal, "/pattern/String", "normalizer.pattern.String");
  check("/decoder", literal, "/content", "decoder.content");
  check("/decoder", {{"type", "BPEDecoder"}}, "/suffix", "decoder.suffix");
  const json model = plain()["model"];
  check("/model", model, "/continuing_subword_prefix", "model.continuing_subword_prefix");
  check("/model", model, "/end_of_word_suffix", "model.end_of_word_suffix");
}

TEST(TokenizerLimits, CharactersOfComponentsAreCharacters) {
  const auto check = [&](const char* root, json component, const char* key, const std::string& name) {
    component[key] = "\xE2\x96\x81";
    EXPECT_NO_THROW(from(with(root, component)));
    for (const char* text : {"", "ab", "\xE2\x96\x81\xE2\x96\x81"}) {
      component[key] = text;
      expect_contains(error_of<IoError>([&] { from(with(root, component)); }),
                      "t.json: " + name + " must be one character; got");
    }
  };
  check("/pre_tokenizer", {{"type", "Metaspace"}}, "replacement", "pre_tokenizer.replacement");
  check("/pre_tokenizer", {{"type", "CharDelimiterSplit"}}, "delimiter", "pre_tokenizer.delimiter");
  check("/decoder", {{"type", "Metaspace"}}, "replacement", "decoder.replacement");
  check("/decoder", {{"type", "Strip"}, {"start", 0}, {"stop", 0}}, "content", "decoder.content");
}

TEST(TokenizerLimits, ComponentsAreFew) {
  const auto check = [&](const char* field, const char* list, const json& component) {
    const std::string root = std::string("/") + field;
    json parts(256, component);
    EXPECT_NO_THROW(from(with(root.c_str(), sequence(list, parts))));
    parts[0] = sequence(list, {component, component});
    expect_contains(error_of<IoError>([&] { from(with(root.c_str(), sequence(list, parts))); }),
                    std::string("t.json: ") + field + " must have at most 256 components; got more");
  };
  check("normalizer", "normalizers", {{"type", "Lowercase"}});
  check("pre_tokenizer", "pretokenizers", {{"type", "WhitespaceSplit"}});
  check("decoder", "decoders", {{"type", "Fuse"}});
}

/// Pairs of ids whose products with 2^64 / golden ratio agree in the bits 24 to 42, of which a table of 2^19
/// slots may take its slot: with such a table this takes many seconds.
TEST(TokenizerLimits, MergesOfCraftedIdsLoadInReasonableTime) {
  const std::vector<int> rights = {66809853, 11526323, 23052646, 34578969};
  std::string vocab;
  std::string merges;
  for (std::size_t r = 0; r < rights.size(); ++r) vocab += fmt::format("\"x{}\":{},", r, rights[r]);
  int free_id = 1;
  for (int left = 1; left < 1 << 15; ++left) {
    vocab += fmt::format("\"a{}\":{},", left, left << 11);
    for (std::size_t r = 0; r < rights.size(); ++r) {
      if (free_id % (1 << 11) == 0) ++free_id;
      vocab += fmt::format("\"a{}x{}\":{},", left, r, free_id++);
      merges += fmt::format("\"a{} x{}\",", left, r);
    }
  }
  vocab.pop_back();
  merges.pop_back();
  const Tokenizer tokenizer = Tokenizer::parse(
      fmt::format(R"({{"model": {{"type": "BPE", "vocab": {{{}}}, "merges": [{}]}}}})", vocab, merges),
      "t.json");
  EXPECT_EQ(tokenizer.id_to_token(rights[0]), "x0");
}

/// Whatever its seed, MurmurHash64A, which libstdc++ has for strings, gives one value to all texts made of
/// these two halves: with it this takes many seconds.
TEST(TokenizerLimits, CraftedTokensLoadAndEncodeInReasonableTime) {
  const std::string one = "}\tE\x06}\x1dqv";
  const std::string other = "}\t\x02 \x18\x03\x19\x05";
  constexpr int kHalves = 15;
  constexpr int kTokens = 1 << kHalves;
  json document = plain();
  json& vocab = document["model"]["vocab"];
  for (int i = 0; i < kTokens; ++i) {
    std::string token;
    for (int half = 0; half < kHalves; ++half) {
      const std::string& block = (i >> half & 1) == 0 ? one : other;
      token += block + block;
    }
    vocab[token] = 100 + i;
  }
  const Tokenizer tokenizer = from(document);
  EXPECT_EQ(tokenizer.max_id(), 99 + kTokens);
}

TEST(TokenizerLimits, TokensAreShort) {
  json document = plain();
  document["model"]["vocab"][std::string(4096, 'x')] = 9;
  EXPECT_EQ(from(document).max_id(), 9);
  document["model"]["vocab"][std::string(4097, 'x')] = 10;
  expect_contains(error_of<IoError>([&] { from(document); }),
                  "t.json: model.vocab must hold tokens of at most 4096 bytes; got one of 4097");
}

/// Ids that give no text must not pile up in what the decoder holds.
TEST(TokenizerLimits, AStreamOfSkippedTokensTakesReasonableTime) {
  json document = plain();
  document["added_tokens"] = {{{"id", 9}, {"content", "|"}, {"special", true}}};
  StreamDecoder decoder(from(document));
  EXPECT_EQ(decoder.add(0), "a");
  for (int i = 0; i < 100000; ++i) {
    EXPECT_EQ(decoder.add(9), "");
    EXPECT_EQ(decoder.add(1000), "");
  }
  EXPECT_EQ(decoder.add(1), " b");
}

}  // namespace
}  // namespace candela
