#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <candela/io/text_frame.h>
#include <candela/models/config.h>

namespace candela {
namespace {

using nlohmann::json;

/// Tokens <s> 0, </s> 1, <b> 2, a 3; `post` as post_processor.
Tokenizer tokenizer(const json& post) {
  json added = json::array();
  const std::vector<std::string> names = {"<s>", "</s>", "<b>"};
  for (std::size_t i = 0; i < names.size(); ++i)
    added.push_back({{"id", i}, {"content", names[i]}, {"special", true}, {"normalized", false}});
  const json document = {{"added_tokens", added},
                         {"post_processor", post},
                         {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                         {"decoder", {{"type", "ByteLevel"}}},
                         {"model", {{"type", "BPE"}, {"vocab", {{"a", 3}}}, {"merges", json::array()}}}};
  return Tokenizer::parse(document.dump(), "t.json");
}

/// As Llama-3 writes it: the template alone says that BOS comes first.
json with_template(const std::vector<std::string>& front, const std::vector<std::string>& back = {}) {
  json single = json::array();
  json special = json::object();
  const auto add = [&](const std::string& token) {
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    const int id = token == "<s>" ? 0 : token == "</s>" ? 1 : 2;
    special[token] = {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
  };
  for (const std::string& token : front) add(token);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  for (const std::string& token : back) add(token);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", json::array()},
          {"special_tokens", special}};
}

ModelConfig config(const std::vector<std::int64_t>& eos) {
  ModelConfig result;
  result.vocab_size = 10;
  result.eos_token_ids = eos;
  return result;
}

using Ids = std::vector<TokenId>;

TEST(TextFrame, ThePostProcessorSaysWhatStandsInFront) {
  EXPECT_EQ(text_frame(tokenizer(with_template({"<s>"})), config({1})).prefix, Ids{0});
  EXPECT_EQ(text_frame(tokenizer(with_template({"<s>", "<b>"}, {"</s>"})), config({1})).prefix, (Ids{0, 2}));
  EXPECT_TRUE(text_frame(tokenizer(nullptr), config({1})).prefix.empty());
  const json sequence = {{"type", "Sequence"},
                         {"processors",
                          {{{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}},
                           with_template({"<s>"})}}};
  EXPECT_EQ(text_frame(tokenizer(sequence), config({1})).prefix, Ids{0});
  // The prefix is the part of encode() in front of the text.
  EXPECT_EQ(tokenizer(with_template({"<s>"}, {"</s>"})).encode("a"), (Ids{0, 3, 1}));
}

TEST(TextFrame, AddBosTokenHasTheLastWord) {
  ModelConfig asks = config({1});
  asks.add_bos_token = true;
  asks.bos_token = "<b>";
  EXPECT_EQ(text_frame(tokenizer(nullptr), asks).prefix, Ids{2});
  EXPECT_EQ(text_frame(tokenizer(with_template({"<s>"})), asks).prefix, Ids{2});
  asks.bos_token.reset();
  EXPECT_EQ(text_frame(tokenizer(with_template({"<s>"})), asks).prefix, Ids{0});
  asks.bos_token_id = 2;
  EXPECT_EQ(text_frame(tokenizer(nullptr), asks).prefix, Ids{2});
  asks.add_bos_token = false;
  EXPECT_TRUE(text_frame(tokenizer(with_template({"<s>"})), asks).prefix.empty());
}

/// A row must end in a token at which generation stops.
TEST(TextFrame, EosIsTheTokenizersIfItEndsTexts) {
  ModelConfig c = config({0, 1});
  c.eos_token = "</s>";
  EXPECT_EQ(text_frame(tokenizer(nullptr), c).eos, 1);
  c.eos_token = "<b>";
  EXPECT_EQ(text_frame(tokenizer(nullptr), c).eos, 0);
  c.eos_token.reset();
  EXPECT_EQ(text_frame(tokenizer(nullptr), c).eos, 0);
  c.eos_token_ids.clear();
  EXPECT_FALSE(text_frame(tokenizer(nullptr), c).eos.has_value());
  c.eos_token = "</s>";
  EXPECT_EQ(text_frame(tokenizer(nullptr), c).eos, 1);
}

TEST(TextFrame, ATextThatBringsThePrefixKeepsItsOwn) {
  const TextFrame frame{{0, 2}, 1};
  EXPECT_EQ(frame.framed({3}), (Ids{0, 2, 3}));
  EXPECT_EQ(frame.framed({0, 2, 3}), (Ids{0, 2, 3}));
  EXPECT_EQ(frame.framed({0}), (Ids{0, 2, 0}));
  EXPECT_EQ(frame.framed({}), (Ids{0, 2}));
}

}  // namespace
}  // namespace candela
