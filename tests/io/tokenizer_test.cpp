#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <thread>

#include <candela/core/error.h>
#include <candela/io/tokenizer.h>

#include "io/files.h"
#include "io/tokenizer_from.h"
#include "io/utf8.h"

namespace candela {
namespace {

using nlohmann::json;
using test::error_of;
using test::expect_contains;
using test::from;

std::string stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool skip) {
  StreamDecoder decoder(tokenizer, skip);
  std::string text;
  for (const TokenId id : ids) {
    const std::string part = decoder.add(id);
    EXPECT_TRUE(io::is_valid_utf8(part));
    text += part;
  }
  return text + decoder.finish();
}

/// A byte-level tokenizer with a handful of merges.
json small() {
  json vocab;
  int id = 0;
  for (const char* token : {"a", "b", "c", "Ġ", "ab", "abc", "Ġa", "bc", "é", "Ã", "©"}) vocab[token] = id++;
  return {{"added_tokens", json::array()},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"b c", "a b", "ab c", "Ġ a"}}}}};
}

class TokenizerCases : public testing::Test {
 protected:
  static const json& cases() {
    static const json document = json::parse(test::read_text(test::fixture("tokenizer_cases.json")));
    return document;
  }
  static json document_of(const json& entry) {
    json document = entry["base"] == "stories-7m"
                        ? json::parse(test::read_text(test::bundled_model() / "tokenizer.json"))
                        : cases()["bases"][entry["base"].get<std::string>()];
    for (const auto& [key, value] : entry["patch"].items()) {
      (key.starts_with("model_") ? document["model"][key.substr(6)] : document[key]) = value;
    }
    return document;
  }
};

TEST_F(TokenizerCases, MatchHuggingFaceTokenizers) {
  if (test::bundled_model().empty()) GTEST_SKIP() << "models/stories-7m is not here";
  ASSERT_GT(cases()["cases"].size(), 60U);
  for (const json& entry : cases()["cases"]) {
    SCOPED_TRACE(entry["name"].get<std::string>());
    const Tokenizer tokenizer = from(document_of(entry));
    for (const json& sample : entry["samples"]) {
      const auto expected = sample["ids"].get<std::vector<TokenId>>();
      const auto ids = tokenizer.encode(sample["text"].get<std::string>());
      EXPECT_EQ(ids, expected) << sample["text"];
      EXPECT_EQ(tokenizer.decode(expected), sample["decoded"].get<std::string>());
      EXPECT_EQ(tokenizer.decode(expected, false), sample["decoded_with_special"].get<std::string>());
      EXPECT_EQ(stream(tokenizer, expected, true), sample["decoded"].get<std::string>());
      EXPECT_EQ(stream(tokenizer, expected, false), sample["decoded_with_special"].get<std::string>());
    }
  }
}

/// Calls `check(text, ids)` for each text of a pair of vector files and returns their number.
template <class Check>
int for_each_vector(const std::string& name, Check&& check) {
  const auto folder = test::find_shared("data/tokenizers/vectors");
  const std::string texts = test::read_text(folder / ("ggml-vocab-" + name + ".gguf.inp"));
  std::istringstream lines(test::read_text(folder / ("ggml-vocab-" + name + ".gguf.out")));
  const std::string separator = "\n__ggml_vocab_test__\n";
  int count = 0;
  std::size_t start = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const std::size_t end = std::min(texts.find(separator, start), texts.size());
    std::istringstream numbers(line);
    check(texts.substr(start, end - start),
          std::vector<TokenId>{std::istream_iterator<TokenId>(numbers), std::istream_iterator<TokenId>()});
    start = end + separator.size();
  }
  return count;
}

/// The texts of a pair of vector files, encoded and decoded back.
void check_vectors(const std::filesystem::path& tokenizer_file, const std::string& name) {
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_file);
  const int count = for_each_vector(name, [&](const std::string& text, const std::vector<TokenId>& expected) {
    EXPECT_EQ(tokenizer.encode(text, false), expected) << text;
    EXPECT_EQ(tokenizer.decode(expected), text);
    EXPECT_EQ(stream(tokenizer, expected, true), text);
  });
  EXPECT_EQ(count, 46);
}

/// The same for a tokenizer that does not keep all of a text. Returns the number of texts.
int check_ids(const Tokenizer& tokenizer, const std::string& name) {
  return for_each_vector(name, [&](const std::string& text, const std::vector<TokenId>& expected) {
    EXPECT_EQ(tokenizer.encode(text, false), expected) << text;
  });
}

/// Others' data, which the project does not hold.
constexpr const char* kNoVectors =
    "data/tokenizers, third-party vectors, is neither in the project nor in a folder shared/ above it";

TEST(TokenizerVectors, Gpt2) {
  const auto file = test::find_shared("data/tokenizers/gpt2/tokenizer.json");
  if (file.empty()) GTEST_SKIP() << kNoVectors;
  check_vectors(file, "gpt-2");
}

TEST(TokenizerVectors, Qwen2) {
  const auto packed = test::find_shared("data/tokenizers/qwen3/tokenizer.json.xz");
  if (packed.empty()) GTEST_SKIP() << kNoVectors;
  const test::TemporaryFolder folder;
  const std::string command =
      "xz -dkc '" + packed.string() + "' > '" + (folder / "tokenizer.json").string() + "'";
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "xz is not here to unpack " << packed;
  check_vectors(folder.path(), "qwen2");
}

/// bert-base-uncased's file and vectors: ids without special tokens.
TEST(TokenizerVectors, BertBge) {
  const auto file = test::find_shared("data/tokenizers/bert-base-uncased/tokenizer.json");
  if (file.empty()) GTEST_SKIP() << kNoVectors;
  EXPECT_EQ(check_ids(Tokenizer::load(file), "bert-bge"), 46);
}

TEST(TokenizerVectors, MiniLm) {
  const auto file = test::find_shared("data/tokenizers/all-MiniLM-L6-v2/tokenizer.json");
  if (file.empty()) GTEST_SKIP() << kNoVectors;
  const Tokenizer tokenizer = Tokenizer::load(file);
  const std::vector<TokenId> ids = {101, 2023, 2003, 1037, 7953, 6251, 1012, 102};
  EXPECT_EQ(tokenizer.encode("This is a  test sentence.").size(), ids.size());
  EXPECT_EQ(tokenizer.decode(ids), "this is a input sentence.");
  EXPECT_EQ(check_ids(tokenizer, "bert-bge"), 46);
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  const Tokenizer tokenizer = from(small());
  EXPECT_EQ(tokenizer.encode("abc"), (std::vector<TokenId>{0, 7}));  // "b c" comes before "a b"
  EXPECT_EQ(tokenizer.encode("ab a"), (std::vector<TokenId>{4, 6}));
  json longer = small();
  longer["model"]["merges"] = json::parse(R"([["a", "b"], ["ab", "c"]])");
  EXPECT_EQ(from(longer).encode("abcab"), (std::vector<TokenId>{5, 4}));
}

TEST(Tokenizer, ALongWordWithoutBordersIsEncodedInReasonableTime) {
  const Tokenizer tokenizer = from(small());
  const auto ids = tokenizer.encode(std::string(300000, 'b') + "c");
  EXPECT_EQ(ids.size(), 300000U);
  EXPECT_EQ(ids.back(), 7);
}

TEST(Tokenizer, ModelWithoutTypeIsBpe) {
  json document = small();
  document["model"].erase("type");
  EXPECT_EQ(from(document).encode("ab").size(), 1U);
}

TEST(Tokenizer, TruncationAndPaddingAreTold) {
  EXPECT_FALSE(from(small()).truncation());
  EXPECT_FALSE(from(small()).padding());
  json document = small();
  document["truncation"] = {{"max_length", 128}, {"strategy", "LongestFirst"}, {"stride", 0}};
  document["padding"] = {{"strategy", {{"Fixed", 64}}},
                         {"direction", "Left"},
                         {"pad_to_multiple_of", 8},
                         {"pad_id", 3},
                         {"pad_token", "Ġ"}};
  const Tokenizer tokenizer = from(document);
  EXPECT_EQ(tokenizer.truncation()->max_length, 128);
  EXPECT_FALSE(tokenizer.truncation()->left);
  EXPECT_EQ(tokenizer.padding()->length, 64);
  EXPECT_EQ(tokenizer.padding()->multiple, 8);
  EXPECT_EQ(tokenizer.padding()->id, 3);
  EXPECT_TRUE(tokenizer.padding()->left);
  document["padding"]["strategy"] = "BatchLongest";
  EXPECT_FALSE(from(document).padding()->length);
  document["padding"]["strategy"] = "Longest";
  expect_contains(error_of<IoError>([&] { from(document); }), "t.json: padding.strategy must be");
  document["padding"] = nullptr;
  document["truncation"]["direction"] = "Up";
  expect_contains(error_of<IoError>([&] { from(document); }), "t.json: truncation.direction must be Left");
}

TEST(Tokenizer, ATextIsCutInsideItsSpecialTokens) {
  json document = small();
  document["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"c", 2}}, {"cls", {"b", 1}}};
  const Tokenizer tokenizer = from(document);
  EXPECT_EQ(tokenizer.encode("aaab"), (std::vector<TokenId>{1, 0, 0, 4, 2}));
  EXPECT_EQ(tokenizer.encode("aaab", Truncation{4, false}), (std::vector<TokenId>{1, 0, 0, 2}));
  EXPECT_EQ(tokenizer.encode("aaab", Truncation{4, true}), (std::vector<TokenId>{1, 0, 4, 2}));
  EXPECT_EQ(tokenizer.encode("aaab", Truncation{2, false}), (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(tokenizer.encode("aaab", Truncation{9, false}).size(), 5U);
  expect_contains(error_of<InvalidArgument>([&] {
                    tokenizer.encode("a", Truncation{1, false});
                  }),
                  "max_length must be at least 2");
}

TEST(Tokenizer, IgnoreMergesTakesAWholeWord) {
  json document = small();
  document["model"]["merges"] = json::array();
  EXPECT_EQ(from(document).encode("abc").size(), 3U);
  document["model"]["ignore_merges"] = true;
  EXPECT_EQ(from(document).encode("abc"), std::vector<TokenId>{5});
}

TEST(Tokenizer, InvalidUtf8IsReadAsReplacement) {
  const auto folder = test::bundled_model();
  if (folder.empty()) GTEST_SKIP() << "models/stories-7m is not here";
  const Tokenizer tokenizer = Tokenizer::load(folder);
  EXPECT_EQ(tokenizer.encode("a\xF0\x9F\xFFz"), tokenizer.encode("a\xEF\xBF\xBD\xEF\xBF\xBDz"));
}

TEST(Tokenizer, VocabularyOfTheBundledModel) {
  const auto folder = test::bundled_model();
  if (folder.empty()) GTEST_SKIP() << "models/stories-7m is not here";
  const Tokenizer tokenizer = Tokenizer::load(folder);
  EXPECT_EQ(tokenizer.vocab_size(), 4096U);
  EXPECT_EQ(tokenizer.max_id(), 4095);
  EXPECT_EQ(tokenizer.token_to_id("<|im_end|>"), 2);
  EXPECT_EQ(tokenizer.id_to_token(1), "<|im_start|>");
  EXPECT_EQ(tokenizer.id_to_token(4096), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(-1), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(2));
  EXPECT_FALSE(tokenizer.is_special(100));
  EXPECT_EQ(tokenizer.decode(std::vector<TokenId>{-5, 99999, 1}, false), "<|im_start|>");
}

TEST(Tokenizer, StreamHoldsUnfinishedCharactersBack) {
  const Tokenizer tokenizer = from(small());
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.add(9), "");  // 0xC3
  EXPECT_EQ(decoder.add(10), "\xC3\xA9");
  EXPECT_EQ(decoder.add(9), "");
  EXPECT_EQ(decoder.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.add(0), "a");
  std::string endless;
  for (int i = 0; i < 200; ++i) endless += decoder.add(9);
  EXPECT_GT(endless.size(), 500U) << "bytes that never form a character must not be held for ever";
  endless += decoder.add(10);
  endless += decoder.add(0);
  EXPECT_TRUE(
      endless.ends_with("\xEF\xBF\xBD\xC3\xA9"
                        "a"))
      << "and a character that they end in is still whole";
}

TEST(Tokenizer, EncodesFromSeveralThreads) {
  const Tokenizer tokenizer = from(small());
  const auto expected = tokenizer.encode("abc abcab bcbc a");
  std::vector<std::thread> threads;
  std::vector<int> same(4, 0);
  for (std::size_t t = 0; t < same.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) same[t] += tokenizer.encode("abc abcab bcbc a") == expected ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(4, 200));
}

TEST(Tokenizer, LeavesTruncationAndPaddingToTheCaller) {
  json document = small();
  document["truncation"] = {
      {"direction", "Right"}, {"max_length", 1}, {"strategy", "LongestFirst"}, {"stride", 0}};
  document["padding"] = {
      {"strategy", {{"Fixed", 128}}}, {"direction", "Left"}, {"pad_id", 3}, {"pad_token", "[PAD]"}};
  EXPECT_EQ(from(document).encode("abc ab"), from(small()).encode("abc ab"));
}

TEST(Tokenizer, TakesTheLeftmostAndThereTheLongestAddedToken) {
  json document = small();
  int id = 50;
  for (const char* content : {"<x>", "<x>y", "<x>yz!", "<", "x>\xC3\xA9", "X", "\xC3\xA9"}) {
    document["added_tokens"].push_back({{"id", id++}, {"content", content}, {"special", true}});
  }
  document["added_tokens"][6]["id"] = 8;  // as in the vocabulary
  const auto encode = [&](const char* text) { return from(document).encode(text); };
  EXPECT_EQ(encode("<x>a"), (std::vector<TokenId>{50, 0}));
  EXPECT_EQ(encode("<x>y<x>yz!<x>"), (std::vector<TokenId>{51, 52, 50}));
  EXPECT_EQ(encode("<<x>"), (std::vector<TokenId>{53, 50}));
  EXPECT_EQ(encode("<x>\xC3\xA9"), (std::vector<TokenId>{50, 8}));
  EXPECT_EQ(encode("x>\xC3\xA9<"), (std::vector<TokenId>{54, 53}));
  // Of tokens that are the same text once normalized, the last counts.
  document["normalizer"] = {{"type", "Lowercase"}};
  document["added_tokens"] = json::array();
  for (const char* content : {"QQ", "qq", "Qq"}) {
    document["added_tokens"].push_back({{"id", id++}, {"content", content}, {"normalized", true}});
  }
  EXPECT_EQ(encode("qQ"), (std::vector<TokenId>{59}));
}

TEST(Tokenizer, KeepsIdsFarAboveTheOthers) {
  json document = small();
  document["model"]["vocab"]["z"] = 1 << 26;
  const Tokenizer tokenizer = from(document);
  EXPECT_EQ(tokenizer.max_id(), 1 << 26);
  EXPECT_EQ(tokenizer.encode("z"), std::vector<TokenId>{1 << 26});
  EXPECT_EQ(tokenizer.id_to_token(1 << 26), "z");
  EXPECT_EQ(tokenizer.id_to_token((1 << 26) - 1), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(0), "a");
  EXPECT_EQ(tokenizer.decode(std::vector<TokenId>{0, 1 << 26}), "az");
  document["model"]["vocab"]["y"] = 1 << 26;
  expect_contains(error_of<IoError>([&] { from(document); }), "the id 67108864 must belong to one token");
}

TEST(TokenizerErrors, UnknownComponentsAreUnsupported) {
  const std::vector<std::pair<std::string, json>> patches = {
      {"normalizer", {{"type", "Nmt"}}},
      {"pre_tokenizer", {{"type", "UnicodeScripts"}}},
      {"post_processor", {{"type", "Mystery"}}},
      {"decoder", {{"type", "CTC"}}},
  };
  for (const auto& [field, value] : patches) {
    json document = small();
    document[field] = value;
    const std::string error = error_of<Unsupported>([&] { from(document); });
    expect_contains(
        error, "t.json: " + field + ".type \"" + value["type"].get<std::string>() + "\" is not supported");
  }
  json nested = small();
  nested["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers", {{{"type", "WhitespaceSplit"}}, {{"type", "Nope"}}}}};
  expect_contains(error_of<Unsupported>([&] { from(nested); }),
                  "pre_tokenizer.pretokenizers[1].type \"Nope\"");
}

TEST(TokenizerErrors, OtherModelsAndRandomEncodingAreUnsupported) {
  json document = small();
  document["model"]["type"] = "WordLevel";
  expect_contains(error_of<Unsupported>([&] { from(document); }),
                  "t.json: model.type must be BPE, WordPiece or Unigram; got WordLevel");
  document = small();
  document["model"]["dropout"] = 0.1;
  expect_contains(error_of<Unsupported>([&] { from(document); }), "model.dropout");
}

TEST(TokenizerErrors, WordPieceAndUnigramNeedTheirVocabularies) {
  json document = small();
  document["model"] = {{"type", "WordPiece"}, {"vocab", {{"a", 0}}}};
  expect_contains(error_of<IoError>([&] { from(document); }), "model.unk_token must be in model.vocab");
  document["model"] = {{"type", "WordPiece"}, {"vocab", {{"[UNK]", 0}}}, {"max_input_chars_per_word", 1e9}};
  expect_contains(error_of<IoError>([&] { from(document); }), "model.max_input_chars_per_word must be");
  document["model"] = {{"type", "Unigram"}, {"vocab", {{"a", 0}}}};
  expect_contains(error_of<IoError>([&] { from(document); }), "model.vocab must be a list of [token, score]");
  document["model"] = {{"type", "Unigram"}, {"vocab", json::array()}};
  expect_contains(error_of<IoError>([&] { from(document); }), "model.vocab must hold tokens");
  document["model"] = {{"type", "Unigram"}, {"vocab", json::parse(R"([["a", -1.5]])")}, {"unk_id", 1}};
  expect_contains(error_of<IoError>([&] { from(document); }), "model.unk_id must be in [0, 1)");
  for (const json& entry : {json::array({"a"}), json::array({-1.0, "a"}), json::array({"a", "b"}),
                            json::array({"a", -1.0, 2}), json("a")}) {
    document["model"] = {{"type", "Unigram"}, {"vocab", json::array({json::array({"x", 0}), entry})}};
    expect_contains(error_of<IoError>([&] { from(document); }), "model.vocab[1] must be [token, score]");
  }
}

TEST(TokenizerErrors, ACharacterThatNoUnigramCoversNeedsAnUnknownToken) {
  json document = small();
  document["pre_tokenizer"] = nullptr;
  document["decoder"] = nullptr;
  document["model"] = {{"type", "Unigram"}, {"vocab", json::parse(R"([["a", -1.5], ["ab", -2.0]])")}};
  EXPECT_EQ(from(document).encode("aba"), (std::vector<TokenId>{1, 0}));
  expect_contains(error_of<InvalidArgument>([&] { from(document).encode("ac"); }),
                  "model.vocab has no token for \"c\"");
}

TEST(TokenizerErrors, ABrokenCharsmapIsRefused) {
  for (const char* map : {"?", "AAAA", "AAAAAA==", "BAAAAAAA", "CAAAAAAAAAA="}) {
    json document = small();
    document["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", map}};
    expect_contains(error_of<IoError>([&] { from(document); }),
                    "t.json: normalizer.precompiled_charsmap must");
  }
  // A trie of one unit that points outside finds nothing.
  json document = small();
  document["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "BAAAAP////8="}};
  EXPECT_EQ(from(document).encode("ab"), from(small()).encode("ab"));
}

TEST(TokenizerErrors, PatternsThatWouldMeanSomethingElse) {
  for (const char* pattern : {"[a&&b]", "[a[b]]", "\\h", "(*ACCEPT)", "(?C1)", "\\Qa\\E"}) {
    json document = small();
    document["pre_tokenizer"] = {
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
    expect_contains(error_of<Unsupported>([&] { from(document); }), "t.json: pre_tokenizer.pattern.Regex");
  }
  json document = small();
  document["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}};
  expect_contains(error_of<IoError>([&] { from(document); }), "must compile");
}

TEST(TokenizerErrors, APatternThatExplodesIsReportedNotRun) {
  json document = small();
  document["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a|aa)+[xy]"}}}, {"behavior", "Isolated"}};
  const Tokenizer tokenizer = from(document);
  EXPECT_THROW(tokenizer.encode(std::string(80, 'a') + "b"), InvalidArgument);
}

/// Text must not be lost without a word: a byte-level vocabulary is to hold all of it.
TEST(TokenizerErrors, AByteWithoutATokenIsNamed) {
  const Tokenizer tokenizer = from(small());
  EXPECT_EQ(tokenizer.encode("abc").size(), 2U);
  expect_contains(error_of<Unsupported>([&] { tokenizer.encode("abd"); }), "the byte 0x64 (\"d\") has none");
  expect_contains(error_of<Unsupported>([&] { tokenizer.encode("a\n"); }), "t.json: model.vocab must have");
  expect_contains(error_of<Unsupported>([&] { tokenizer.encode("a\n"); }), "the byte 0x0A");
  json document = small();
  document["model"]["unk_token"] = "c";
  EXPECT_EQ(from(document).encode("d"), from(document).encode("c"));
}

TEST(TokenizerErrors, AnEmptyVocabularyIsRefused) {
  json document = small();
  document["model"]["vocab"] = json::object();
  document["model"]["merges"] = json::array();
  expect_contains(error_of<IoError>([&] { from(document); }), "t.json: model.vocab must hold tokens");
}

TEST(TokenizerErrors, LyingFilesNameTheField) {
  const auto broken = [](const char* pointer, const json& value) {
    json document = small();
    document[json::json_pointer(pointer)] = value;
    return error_of<IoError>([&] { from(document); });
  };
  expect_contains(broken("/model/vocab/a", -1), "the id of \"a\" must be in [0");
  expect_contains(broken("/model/vocab/a", 4000000000LL), "model.vocab must map tokens to ids");
  expect_contains(broken("/model/vocab/a", "x"), "model.vocab must map tokens to ids");
  expect_contains(broken("/model/vocab/a", 1), "the id 1 must belong to one token");
  expect_contains(broken("/model/merges/0", "a"), "model.merges[0] must be");
  expect_contains(broken("/model/merges/0", "a b c"), "model.merges[0] must be");
  expect_contains(broken("/model/merges/0", json::array({"a"})), "model.merges[0] must be");
  expect_contains(broken("/model/merges/0", "c b"), "\"cb\" is not there");
  expect_contains(broken("/model/unk_token", "zz"), "model.unk_token must be in model.vocab");
  expect_contains(broken("/model", json::array()), "model must be a JSON object");
  expect_contains(broken("/added_tokens", {{{"id", 0}, {"content", "b"}}}), "added_tokens[0].id must be 1");
  expect_contains(broken("/added_tokens", {{{"id", 0}, {"content", "new"}}}),
                  "added_tokens[0].id must be free");
  expect_contains(broken("/added_tokens", {{{"id", -3}, {"content", "new"}}}),
                  "added_tokens[0].id must be an integer");
  expect_contains(broken("/post_processor", {{"type", "TemplateProcessing"},
                                             {"single", {{{"SpecialToken", {{"id", "x"}}}}}},
                                             {"special_tokens", json::object()}}),
                  "post_processor.single[0].SpecialToken must be one that special_tokens lists");
  const json twice = json::parse(R"([{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}])");
  expect_contains(
      broken("/post_processor",
             {{"type", "TemplateProcessing"}, {"single", twice}, {"special_tokens", json::object()}}),
      "post_processor.single must be a template with the sequence A in one place");
  expect_contains(
      broken("/post_processor", {{"type", "BertProcessing"}, {"cls", {"a", 0}}, {"sep", {"z", 79}}}),
      "t.json: post_processor adds the id 79, which must be one of model.vocab or added_tokens");
}

TEST(TokenizerErrors, TextThatComponentsLetGrowWithoutEndIsRefused) {
  json parts = json::array();
  for (int i = 0; i < 40; ++i) {
    parts.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}});
  }
  json document = small();
  document["normalizer"] = {{"type", "Sequence"}, {"normalizers", parts}};
  expect_contains(error_of<InvalidArgument>([&] { from(document).encode("a"); }), "grow 64-fold");
  document = small();
  document["decoder"] = {{"type", "Sequence"}, {"decoders", parts}};
  expect_contains(error_of<InvalidArgument>([&] { from(document).decode(std::vector<TokenId>{0}); }),
                  "grow 64-fold");
}

TEST(TokenizerErrors, TemplatesThatOutgrowTheFileAreRefused) {
  json document = small();
  json& post = document["post_processor"];
  post["type"] = "TemplateProcessing";
  post["special_tokens"]["x"]["ids"] = std::vector<int>(1000, 0);
  post["single"] = json::parse(R"([{"Sequence": {"id": "A"}}])");
  for (int i = 0; i < 4; ++i) post["single"].push_back({{"SpecialToken", {{"id", "x"}}}});
  EXPECT_EQ(from(document).encode("a").size(), 4001U);
  post["single"].push_back({{"SpecialToken", {{"id", "x"}}}});
  expect_contains(error_of<IoError>([&] { from(document); }),
                  "t.json: post_processor.single must be a template of at most 4096 ids");
  post["single"].erase(2);
  document["post_processor"] = {{"type", "Sequence"}, {"processors", std::vector<json>(17, post)}};
  expect_contains(error_of<IoError>([&] { from(document); }),
                  "post_processor must have at most 16 templates");
}

TEST(TokenizerErrors, AnAddedTokenIsShort) {
  json document = small();
  document["added_tokens"] = {{{"id", 50}, {"content", std::string(512, 'x')}}};
  EXPECT_EQ(from(document).encode(std::string(512, 'x')), std::vector<TokenId>{50});
  document["added_tokens"][0]["content"] = std::string(513, 'x');
  expect_contains(error_of<IoError>([&] { from(document); }),
                  "t.json: added_tokens[0].content must be at most 512 bytes");
}

TEST(TokenizerErrors, MissingFile) {
  const test::TemporaryFolder folder;
  expect_contains(error_of<IoError>([&] { Tokenizer::load(folder.path()); }), "tokenizer.json: no such file");
}

}  // namespace
}  // namespace candela
