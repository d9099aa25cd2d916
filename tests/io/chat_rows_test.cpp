#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <candela/core/error.h>
#include <candela/io/dataset.h>

#include "io/files.h"

namespace candela {
namespace {

using nlohmann::json;
using test::error_of;
using test::expect_contains;

/// One token per byte of printable ASCII, and special tokens of several templates.
const Tokenizer& tokenizer() {
  static const Tokenizer instance = [] {
    json vocab = {{"<eos>", 0}, {"<|im_start|>", 1}, {"<|im_end|>", 2}, {"Ġ", 3},
                  {"Ċ", 4},     {"<bos>", 5},        {"<think>", 6},    {"</think>", 7}};
    for (int c = 0x21; c < 0x7F; ++c) vocab[std::string(1, static_cast<char>(c))] = c;
    json added = json::array();
    for (const char* token : {"<eos>", "<|im_start|>", "<|im_end|>", "<bos>"})
      added.push_back({{"id", vocab[token]}, {"content", token}, {"special", true}, {"normalized", false}});
    for (const char* token : {"<think>", "</think>"})
      added.push_back({{"id", vocab[token]}, {"content", token}, {"special", false}, {"normalized", false}});
    const json document = {{"added_tokens", added},
                           {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                           {"decoder", {{"type", "ByteLevel"}}},
                           {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
    return Tokenizer::parse(document.dump(), "t.json");
  }();
  return instance;
}

DatasetOptions with(const std::string& source) {
  DatasetOptions options;
  options.frame.prefix = {5};
  options.frame.eos = 0;
  options.chat_template = ChatTemplate::parse(source, "template");
  return options;
}

Dataset parse(const std::string& rows, const DatasetOptions& options) {
  return Dataset::parse(rows, "d.jsonl", tokenizer(), options);
}

/// The text of a sample, trained stretches in brackets.
std::string marked(const Sample& sample) {
  std::string text;
  bool open = false;
  for (std::size_t i = 0; i < sample.ids.size(); ++i) {
    const bool trained = sample.trained[i] != 0;
    if (trained != open) text += trained ? '[' : ']';
    open = trained;
    text += tokenizer().decode(std::vector<TokenId>{sample.ids[i]}, false);
  }
  return open ? text + ']' : text;
}

std::string marked(const std::string& row, const DatasetOptions& options) {
  return marked(parse(row, options).samples.at(0));
}

constexpr const char* kChat =
    R"({"messages": [{"role": "user", "content": "u1"}, {"role": "assistant", "content": "a1"},)"
    R"( {"role": "user", "content": "u2"}, {"role": "assistant", "content": "a2"}]})";

constexpr const char* kChatMl =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// As Qwen3's: the answers after the last question are opened by an empty thought, earlier ones lose theirs.
constexpr const char* kThinking =
    "{% set last = namespace(i=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set last.i = "
    "loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > last.i %}<think></think>{% endif %}{{ m.content "
    "}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think></think>{% "
    "endif %}{% endif %}";

TEST(ChatRows, EveryAnswerIsTrainedThroughItsEndToken) {
  EXPECT_EQ(marked(kChat, with(kChatMl)),
            "<|im_start|>user\nu1<|im_end|>\n<|im_start|>assistant\n[a1<|im_end|>]\n<|im_start|>user\nu2<|im_"
            "end|>\n"
            "<|im_start|>assistant\n[a2<|im_end|>]\n");
}

TEST(ChatRows, TrainOnSaysWhichTokensCount) {
  DatasetOptions options = with(kChatMl);
  options.train_on = TrainOn::Last;
  EXPECT_EQ(marked(kChat, options).find("[a1"), std::string::npos);
  EXPECT_NE(marked(kChat, options).find("[a2<|im_end|>]"), std::string::npos);
  options.train_on = TrainOn::All;
  const Sample all = parse(kChat, options).samples.at(0);
  EXPECT_EQ(all.trained_tokens(), all.ids.size() - 1);
}

TEST(ChatRows, WhatTheTemplateAddsToAnAnswerIsTrained) {
  EXPECT_EQ(marked(kChat, with(kThinking)),
            "<|im_start|>user\nu1<|im_end|>\n<|im_start|>assistant\n[a1<|im_end|>]\n<|im_start|>user\nu2<|im_"
            "end|>\n"
            "<|im_start|>assistant\n[<think></think>a2<|im_end|>]\n");
  // Without thoughts, the opening brings them: they are context of the last answer.
  const std::string off =
      R"({"enable_thinking": false, "messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]})";
  EXPECT_EQ(marked(off, with(kThinking)),
            "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n<think></think>[a<|im_end|>]\n");
}

TEST(ChatRows, GenerationBlocksSayWhatIsTrained) {
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ "
      "m.content }}"
      "{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}";
  EXPECT_EQ(marked(kChat, with(source)),
            "<|im_start|>user:u1<|im_end|><|im_start|>assistant:[a1<|im_end|>]<|im_start|>user:u2<|im_end|>"
            "<|im_start|>assistant:[a2<|im_end|>]")
      << "the token that ends a turn is trained though it is outside the block";
  DatasetOptions last = with(source);
  last.train_on = TrainOn::Last;
  EXPECT_EQ(marked(kChat, last).find("[a1"), std::string::npos);
}

/// The same answers, whether the template marks them itself or a macro of it does.
TEST(ChatRows, GenerationBlocksOfMacrosAreExact) {
  const std::string source =
      "{% macro say(m) %}<|im_start|>{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content "
      "}}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>{% endmacro %}"
      // Without this, where an answer begins could be told from the messages before it.
      "{{ messages|length }}{% for m in messages %}{{ say(m) }}{% endfor %}";
  EXPECT_EQ(marked(kChat, with(source)),
            "4<|im_start|>user:u1<|im_end|><|im_start|>assistant:[a1<|im_end|>]<|im_start|>user:u2<|im_end|>"
            "<|im_start|>assistant:[a2<|im_end|>]");
}

TEST(ChatRows, TheEndTokenIsTrainedBehindAnyGenerationBlock) {
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ "
      "m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}";
  DatasetOptions options = with(source);
  options.end_ids = {2};
  const auto answered = [&](const std::string& answer) {
    return marked(R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": ")" +
                      answer + R"("}]})",
                  options);
  };
  EXPECT_EQ(answered("a"), "<|im_start|>user:u<|im_end|><|im_start|>assistant:[a<|im_end|>]");
  EXPECT_EQ(answered("a<bos>"), "<|im_start|>user:u<|im_end|><|im_start|>assistant:[a<bos><|im_end|>]")
      << "an answer may end in another special token";
  EXPECT_EQ(answered(""), "<|im_start|>user:u<|im_end|><|im_start|>assistant:[<|im_end|>]")
      << "an empty answer is one that ends at once";
}

TEST(ChatRows, WeightsAndTrainFlagsLeaveMessagesOutAndAreNotRendered) {
  const std::string row =
      R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a", "weight": 0},)"
      R"( {"role": "assistant", "content": "b", "weight": 1}, {"role": "assistant", "content": "c", "train": false}]})";
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }}{{ m|length }}\n{{ m.content }}<|im_end|>{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant2\n{% endif %}";
  const std::string text = marked(row, with(source));
  EXPECT_NE(text.find("\na<"), std::string::npos) << text;
  EXPECT_NE(text.find("[b<|im_end|>]"), std::string::npos) << text;
  EXPECT_NE(text.find("\nc<"), std::string::npos) << text;
  expect_contains(error_of<TemplateError>([&] {
                    parse(R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})",
                          with(kChatMl));
                  }),
                  "d.jsonl:1: messages[0].weight must be 0 or 1; got 0.5");
}

TEST(ChatRows, ATemplateDecidesOnBos) {
  EXPECT_EQ(parse(kChat, with(kChatMl)).samples.at(0).ids.front(), 1)
      << "no BOS that the template does not write";
  EXPECT_EQ(parse(kChat, with(std::string("<bos>") + kChatMl)).samples.at(0).ids.front(), 5);
}

TEST(ChatRows, CompletionsGoThroughTheTemplateUnlessRaw) {
  const std::string row = R"({"prompt": "q", "completion": "a"})";
  DatasetOptions options = with(kChatMl);
  EXPECT_EQ(marked(row, options), "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n");
  options.raw = true;
  EXPECT_EQ(marked(row, options), "<bos>q[a<eos>]");
  const std::string chat =
      R"({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],)"
      R"( "completion": [{"role": "assistant", "content": "a"}]})";
  EXPECT_EQ(marked(chat, options),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_"
            "end|>]\n");
}

TEST(ChatRows, ShareGptAlpacaTokensAndMappedFields) {
  EXPECT_EQ(marked(R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})",
                   with(kChatMl)),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n");
  EXPECT_EQ(marked(R"({"instruction": "i", "input": "x", "output": "o"})", with(kChatMl)),
            "<|im_start|>user\ni\n\nx<|im_end|>\n<|im_start|>assistant\n[o<|im_end|>]\n");
  DatasetOptions raw = with(kChatMl);
  raw.raw = true;
  EXPECT_EQ(marked(R"({"instruction": "i", "input": "", "output": "o"})", raw), "<bos>i\n[o<eos>]");
  EXPECT_EQ(marked(R"({"input_ids": [97, 98, 99], "labels": [-100, 98, -100]})", with(kChatMl)), "a[b]c");
  EXPECT_EQ(marked(R"({"input_ids": [97, 98, 99]})", with(kChatMl)), "a[bc]");
  DatasetOptions mapped = raw;
  mapped.map = {{"prompt", "question"}, {"completion", "answer"}};
  EXPECT_EQ(marked(R"({"question": "q", "answer": "a"})", mapped), "<bos>q[a<eos>]");
  expect_contains(error_of<IoError>([&] { parse(R"({"question": "q"})", mapped); }),
                  "d.jsonl:1: must have \"answer\", which --map takes for \"completion\"");
  expect_contains(error_of<IoError>([&] { parse(R"({"input_ids": [97, 98], "labels": [1, 98]})", raw); }),
                  "labels[0] must be 97 as in input_ids, or -100; got 1");
}

TEST(ChatRows, AnAnswerWhosePlaceCannotBeToldIsAnError) {
  // Says how many messages there are in front of them.
  const std::string counted = std::string("{{ messages|length }}") + kChatMl;
  expect_contains(error_of<TemplateError>([&] { parse(kChat, with(counted)); }),
                  "d.jsonl:1: messages[1]: where this answer begins cannot be told");
  DatasetOptions all = with(counted);
  all.train_on = TrainOn::All;
  EXPECT_NO_THROW(parse(kChat, all));
}

TEST(ChatRows, EveryBadRowIsReportedByItsLine) {
  const std::string rows =
      std::string(kChat) + "\n\n{\"messages\": []}\n{\"text\": \"x\"}\n" + kChat + "\n{\n";
  const std::string text = error_of<IoError>([&] { parse(rows, with(kChatMl)); });
  for (const char* part :
       {"d.jsonl: 3 rows cannot be read:", "d.jsonl:3: messages must be a list of at least one message",
        "d.jsonl:4: must hold messages", "d.jsonl:6: must be valid JSON"})
    expect_contains(text, part);
  std::string many;
  for (int i = 0; i < 30; ++i) many += "{\"text\": 1}\n";
  expect_contains(error_of<IoError>([&] { parse("{\"text\": \"abc\"}\n" + many, with(kChatMl)); }),
                  "and 10 more");
}

TEST(ChatRows, ARowWithoutTrainedTokensIsAnErrorOrCounted) {
  const std::string empty =
      R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a", "weight": 0}]})";
  expect_contains(error_of<IoError>([&] { parse(empty, with(kChatMl)); }), "must have a token to train on");
  DatasetOptions skip = with(kChatMl);
  skip.skip_untrained = true;
  const Dataset data = parse(empty + "\n" + kChat, skip);
  EXPECT_EQ(data.samples.size(), 1u);
  EXPECT_EQ(data.statistics.untrained_rows, 1u);
  expect_contains(error_of<IoError>([&] { parse(empty, skip); }), "none of its 1 rows has one");
}

}  // namespace
}  // namespace candela
