#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <numeric>

#include <candela/core/error.h>
#include <candela/io/dataset.h>
#include <candela/models/config.h>

#include "io/files.h"

namespace candela {
namespace {

using nlohmann::json;
using test::error_of;
using test::expect_contains;

constexpr TokenId kEos = 0;
constexpr TokenId kEnd = 2;

/// One token per byte of printable ASCII, the special tokens of ChatML, and the pair "hi".
const Tokenizer& tokenizer() {
  static const Tokenizer instance = [] {
    json vocab = {
        {"<|endoftext|>", 0}, {"<|im_start|>", 1}, {"<|im_end|>", 2}, {"Ġ", 3}, {"Ċ", 4}, {"hi", 5}};
    for (int c = 0x21; c < 0x7F; ++c) vocab[std::string(1, static_cast<char>(c))] = c;
    json added = json::array();
    for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
      added.push_back({{"id", vocab[token]}, {"content", token}, {"special", true}, {"normalized", false}});
    }
    const json document = {{"added_tokens", added},
                           {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                           {"decoder", {{"type", "ByteLevel"}}},
                           {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h i"}}}}};
    return Tokenizer::parse(document.dump(), "t.json");
  }();
  return instance;
}

DatasetOptions with_eos() {
  DatasetOptions options;
  options.frame.eos = kEos;
  return options;
}

Dataset parse(const std::string& rows, const DatasetOptions& options = with_eos()) {
  return Dataset::parse(rows, "d.jsonl", tokenizer(), options);
}

/// The text of the trained tokens, each run in brackets.
std::string trained_text(const Sample& sample) {
  std::string text;
  bool open = false;
  for (std::size_t i = 0; i < sample.ids.size(); ++i) {
    if (sample.trained[i] && !open) text += '[';
    if (!sample.trained[i] && open) text += ']';
    open = sample.trained[i] != 0;
    if (open) text += tokenizer().decode(std::vector<TokenId>{sample.ids[i]}, false);
  }
  return open ? text + ']' : text;
}

TEST(Dataset, TextIsTrainedInFullAndEndsInEos) {
  const Dataset data = parse("{\"text\": \"abc\"}\n{\"text\": \"de<|endoftext|>\"}\n");
  ASSERT_EQ(data.samples.size(), 2U);
  EXPECT_EQ(data.format, RowFormat::Text);
  EXPECT_EQ(data.samples[0].ids, (std::vector<TokenId>{'a', 'b', 'c', kEos}));
  EXPECT_EQ(data.samples[0].trained, (std::vector<std::uint8_t>{0, 1, 1, 1}));
  EXPECT_EQ(data.samples[1].ids, (std::vector<TokenId>{'d', 'e', kEos})) << "EOS is not doubled";
  EXPECT_EQ(data.samples[1].line, 2U);
}

TEST(Dataset, WithoutEosNothingIsAppended) {
  EXPECT_EQ(parse("{\"text\": \"abc\"}", {}).samples[0].ids.size(), 3U);
}

TEST(Dataset, CompletionsTrainOnTheCompletionOnly) {
  const Dataset data = parse(R"({"prompt": "Q: h", "completion": "i", "text": "ignored"})");
  EXPECT_EQ(data.format, RowFormat::Completions);
  EXPECT_EQ(trained_text(data.samples[0]), "[i<|endoftext|>]");
  EXPECT_EQ(data.samples[0].ids.size(), 6U)
      << "prompt and completion are encoded on their own: no token reaches over the border";
  DatasetOptions all = with_eos();
  all.train_on = TrainOn::All;
  EXPECT_EQ(parse(R"({"prompt": "ab", "completion": "c"})", all).statistics.trained_tokens, 3U);
}

TEST(Dataset, ChatsTrainEveryAssistantTurnWithItsEnd) {
  const Dataset data =
      parse(R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u1"},)"
            R"( {"role": "assistant", "content": "a1"}, {"role": "user", "content": "u2"},)"
            R"( {"role": "assistant", "content": "a2"}]})");
  EXPECT_EQ(data.format, RowFormat::Chat);
  const Sample& sample = data.samples[0];
  EXPECT_EQ(trained_text(sample), "[a1<|im_end|>][a2<|im_end|>]");
  const std::vector<ChatMessage> messages = {
      {"system", "s"}, {"user", "u1"}, {"assistant", "a1"}, {"user", "u2"}, {"assistant", "a2"}};
  EXPECT_EQ(tokenizer().decode(sample.ids, false), render_chatml(messages, false));
  EXPECT_EQ(sample.ids, tokenizer().encode(render_chatml(messages, false)));
  EXPECT_EQ(std::count(sample.ids.begin(), sample.ids.end(), kEnd), 5);
}

TEST(Dataset, AnswersAreMarkedWhateverIsTrained) {
  for (const char* rows :
       {R"({"prompt": "Q: h", "completion": "i"})", R"({"text": "abc"})",
        R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]})"}) {
    DatasetOptions options = with_eos();
    options.frame.prefix = {1};
    options.max_length = 21;  // cuts the chat off within its answer
    options.truncate = true;
    const Sample answers = parse(rows, options).samples.at(0);
    EXPECT_EQ(answers.answer, answers.trained) << rows;
    options.train_on = TrainOn::All;
    const Sample all = parse(rows, options).samples.at(0);
    EXPECT_EQ(all.answer, answers.answer) << rows;
    EXPECT_EQ(all.trained_tokens(), all.ids.size() - 1) << rows;
  }
}

TEST(Dataset, ChatMlIsWrittenAsTheTemplateOfTheBundledModelDoes) {
  EXPECT_EQ(render_chatml({{"user", "Hi"}}, true), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render_chatml({{"user", "Hi"}, {"assistant", "Yo"}}, false),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n");
}

TEST(Dataset, BosGoesFirstUnlessTheTextBringsIt) {
  DatasetOptions options = with_eos();
  options.frame.prefix = {1};
  EXPECT_EQ(parse("{\"text\": \"ab\"}", options).samples[0].ids, (std::vector<TokenId>{1, 'a', 'b', kEos}));
  EXPECT_EQ(parse("{\"text\": \"<|im_start|>ab\"}", options).samples[0].ids,
            (std::vector<TokenId>{1, 'a', 'b', kEos}));
  EXPECT_EQ(parse("{\"text\": \"ab\"}", options).samples[0].trained, (std::vector<std::uint8_t>{0, 1, 1, 1}));
}

TEST(Dataset, StatisticsCountRowsTokensAndLengths) {
  const Dataset data = parse("{\"text\": \"abc\"}\n{\"text\": \"abcdefg\"}\n{\"text\": \"a\"}\n");
  const DatasetStatistics& s = data.statistics;
  EXPECT_EQ(s.rows, 3U);
  EXPECT_EQ(s.tokens, 4U + 8U + 2U);
  EXPECT_EQ(s.trained_tokens, s.tokens - 3);
  EXPECT_EQ(s.shortest, 2U);
  EXPECT_EQ(s.longest, 8U);
  EXPECT_EQ(s.length_histogram, (std::vector<std::size_t>{0, 1, 1, 1}));
  EXPECT_DOUBLE_EQ(s.trained_share(), 11.0 / 14.0);
}

TEST(Dataset, LongRowsAreAnErrorOrCutAndCounted) {
  DatasetOptions options = with_eos();
  options.max_length = 4;
  const std::string rows = "{\"text\": \"abc\"}\n{\"text\": \"abcdef\"}\n";
  expect_contains(error_of<IoError>([&] { parse(rows, options); }),
                  "d.jsonl:2: must have at most 4 tokens; got 7: raise the limit (--max-length), cut rows "
                  "off (--truncate)");
  options.truncate = true;
  const Dataset data = parse(rows, options);
  EXPECT_EQ(data.statistics.truncated_rows, 1U);
  EXPECT_EQ(data.samples[1].ids, (std::vector<TokenId>{'a', 'b', 'c', 'd'}));
  EXPECT_EQ(data.samples[1].trained.size(), 4U);
}

/// A row whose answer lies beyond the limit teaches nothing, and would end a run that draws only such rows.
TEST(Dataset, RowsWhoseAnswerIsCutOffAreLeftOutAndCounted) {
  DatasetOptions options = with_eos();
  options.max_length = 5;
  options.truncate = true;
  const Dataset data = parse(
      "{\"prompt\": \"abcdefgh\", \"completion\": \"x\"}\n"
      "{\"prompt\": \"ab\", \"completion\": \"xy\"}\n"
      "{\"prompt\": \"abc\", \"completion\": \"vwxyz\"}\n",
      options);
  EXPECT_EQ(data.statistics.rows, 2U);
  EXPECT_EQ(data.statistics.dropped_rows, 1U);
  EXPECT_EQ(data.statistics.truncated_rows, 1U);
  EXPECT_EQ(data.samples[0].line, 2U);
  EXPECT_EQ(data.samples[1].line, 3U);
  EXPECT_EQ(data.statistics.tokens, 10U);
}

TEST(Dataset, OptionsForAModelHoldItsContextAndItsFrame) {
  const ModelConfig config = ModelConfig::parse(
      R"({"model_type": "llama", "vocab_size": 200, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
          "num_attention_heads": 1, "max_position_embeddings": 64, "eos_token_id": [2, 0]})",
      "c");
  const DatasetOptions options = DatasetOptions::for_model(tokenizer(), config);
  EXPECT_EQ(options.max_length, 64U);
  EXPECT_EQ(options.frame.eos, 2);
  EXPECT_TRUE(options.frame.prefix.empty());
}

TEST(Dataset, NothingToTrainOnIsAnError) {
  DatasetOptions options = with_eos();
  options.max_length = 4;
  options.truncate = true;
  expect_contains(
      error_of<IoError>([&] { parse(R"({"prompt": "abcdefgh", "completion": "x"})", options); }),
      "d.jsonl: must have tokens to train on; the limit of 4 tokens cuts off the answer of each of "
      "its 1 rows");
}

TEST(DatasetErrors, NameFileLineAndField) {
  const std::string good = "{\"text\": \"abc\"}\n";
  const auto error = [](const std::string& rows) { return error_of<IoError>([&] { parse(rows); }); };
  expect_contains(error(good + "nonsense\n"), "d.jsonl:2: must be valid JSON");
  expect_contains(error(good + "[1]\n"), "d.jsonl:2: must be a JSON object; got [1]");
  expect_contains(error(good + "{\"txet\": \"abc\"}\n"),
                  "d.jsonl:2: text must be a string; got nothing (the field is missing)");
  expect_contains(error(good + "{\"text\": 5}\n"), "d.jsonl:2: text must be a string; got 5");
  expect_contains(error(good + "{\"text\": \"\"}\n"), "d.jsonl:2: text must be a non-empty string");
  EXPECT_EQ(parse(good + "\n \n" + good).samples.at(1).line, 4U) << "blank lines are skipped";
  expect_contains(error(good + "{\"text\": \"\xFF\"}\n"), "d.jsonl:2: must be valid JSON");
  expect_contains(
      error("{\"a\": 1, \"b\": 2}\n"),
      "d.jsonl:1: must hold \"text\", or \"prompt\" and \"completion\", or \"messages\", \"conversations\", "
      "\"instruction\" and \"output\", or \"input_ids\" (--map NAME=FIELD renames others); got a, b");
  expect_contains(error("{}\n"), "got no field");
  expect_contains(error("{\"text\": null}\n"), "renames others); got text (null)");
  expect_contains(error(""), "d.jsonl: must hold at least one row");
  expect_contains(error("\n\n"), "d.jsonl: must hold at least one row");
}

TEST(DatasetErrors, CompletionsAndChats) {
  const auto error = [](const std::string& rows) { return error_of<IoError>([&] { parse(rows); }); };
  expect_contains(error("{\"prompt\": \"a\", \"completion\": \"\"}"),
                  "d.jsonl:1: completion must be a non-empty string");
  expect_contains(error("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}"),
                  "d.jsonl:2: completion must be a string");
  expect_contains(error(R"({"messages": []})"), "d.jsonl:1: messages must be a list of at least one message");
  expect_contains(error(R"({"messages": "hi"})"), "d.jsonl:1: messages must be an array of objects");
  expect_contains(error(R"({"messages": [{"role": "user"}]})"),
                  "d.jsonl:1: messages[0].content must be a string");
  expect_contains(error(R"({"messages": [{"content": "x"}]})"),
                  "d.jsonl:1: messages[0].role must be a string");
  expect_contains(error(R"({"messages": [{"role": "user", "content": "x"}]})"),
                  "a message of the role assistant");
  expect_contains(
      error(R"({"messages": [{"role": "user", "content": "x"}, {"role": "bot", "content": "y"}]})"),
      "d.jsonl:1: messages[1].role must be system, user, assistant or tool; got \"bot\"");
  expect_contains(error("{\"text\": null}\n"), "d.jsonl:1: must hold");
  expect_contains(error("{\"text\": \"abc\"}\n{\"text\": null}\n"),
                  "d.jsonl:2: text must be a string; got null");
}

/// The first row decides; a later one of another kind is told so, not that it lacks a field.
TEST(DatasetErrors, RowsOfAnotherFormatThanTheFirst) {
  const std::string text = "{\"text\": \"abc\"}\n";
  const std::string completion = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
  const auto error = [](const std::string& rows) { return error_of<IoError>([&] { parse(rows); }); };
  expect_contains(
      error(completion + text),
      "d.jsonl:2: must hold prompt/completion, which row 1 made the format of the file; got a row "
      "with text: use one format in a file");
  expect_contains(error(text + text + completion), "d.jsonl:3: must hold text, which row 1 made the format");
  expect_contains(error(completion + R"({"messages": []})"), "got a row with messages");
}

TEST(DatasetErrors, ATextThatTheTokenizerCannotWriteIsNamedByItsRow) {
  const std::string error =
      error_of<Unsupported>([] { parse("{\"text\": \"abc\"}\n{\"text\": \"caf\u00e9\"}\n"); });
  expect_contains(error, "d.jsonl:2: t.json: model.vocab must have a token for each byte");
  expect_contains(error, "the byte 0xC3");
}

TEST(DatasetErrors, ATextThatThePatternTakesTooLongForIsNamedByItsRow) {
  const Tokenizer slow = Tokenizer::parse(
      R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(?:a|aa)+[bc]"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
          "decoder": {"type": "ByteLevel"},
          "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})",
      "t.json");
  const std::string rows = "{\"text\": \"ab\"}\n{\"text\": \"" + std::string(100, 'a') + "\"}\n";
  const std::string error =
      error_of<InvalidArgument>([&] { Dataset::parse(rows, "d.jsonl", slow, DatasetOptions{}); });
  expect_contains(error, "d.jsonl:2: t.json: ");
  expect_contains(error, "the pattern must match within its limits; on 100 bytes");
}

TEST(DatasetErrors, OfARowNameOneLine) {
  const std::string error = error_of<IoError>([] { parse("{\"text\": \"abc\"}\nnot json\n"); });
  expect_contains(error, "d.jsonl:2: must be valid JSON; at column 2: ");
  EXPECT_EQ(error.find("line 1"), std::string::npos) << error;
}

/// Without tokens of its own for it, a tokenizer would cut ChatML into pieces that mean nothing to the model.
TEST(DatasetErrors, ChatsNeedATokenizerWithChatMl) {
  const Tokenizer plain = Tokenizer::parse(
      R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"},
          "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "|": 2, "<": 3}, "merges": []}})",
      "plain");
  const std::string error = error_of<Unsupported>([&] {
    Dataset::parse(R"({"messages": [{"role": "assistant", "content": "x"}]})", "d.jsonl", plain, {});
  });
  expect_contains(
      error, "d.jsonl:1: chats are written in the ChatML template, whose <|im_start|> must be one token");
  EXPECT_NO_THROW(require_chatml(tokenizer(), "here"));
}

TEST(DatasetErrors, TrailingEmptyLinesAreFine) {
  EXPECT_EQ(parse("{\"text\": \"abc\"}\r\n\n  \n").samples.size(), 1U);
}

TEST(DatasetErrors, ATokenBeyondTheModelsVocabularyIsNamedByItsRow) {
  DatasetOptions options;
  options.vocab_size = 3;
  expect_contains(
      error_of<IoError>([&] { parse("{\"text\": \"abc\"}\n", options); }),
      "d.jsonl:1: holds the token 97, and the model's vocab_size is 3; use the model's own tokenizer");
  options.vocab_size = 1 << 20;
  EXPECT_EQ(parse("{\"text\": \"abc\"}\n", options).samples.size(), 1U);
}

/// Larger than memory, with nothing in it.
TEST(DatasetErrors, AFileWithoutLineBreaksIsNotReadToItsEnd) {
  const test::TemporaryFolder folder;
  std::ofstream(folder / "d.jsonl") << "{";
  std::filesystem::resize_file(folder / "d.jsonl", std::uintmax_t{1} << 36U);
  expect_contains(error_of<IoError>([&] { Dataset::load(folder / "d.jsonl", tokenizer(), {}); }),
                  "d.jsonl:1: must be at most 67108864 bytes");
}

TEST(DatasetFiles, FolderOrFile) {
  const test::TemporaryFolder folder;
  expect_contains(error_of<IoError>([&] { DatasetFiles::find(folder.path()); }), "must hold train.jsonl");
  expect_contains(error_of<IoError>([&] { DatasetFiles::find(folder / "none"); }), "no such file or folder");
  test::write_text(folder / "train.jsonl", "{\"text\": \"abc\"}\n");
  test::write_text(folder / "valid.jsonl", "{\"text\": \"abc\"}\n");
  const DatasetFiles files = DatasetFiles::find(folder.path());
  ASSERT_EQ(files.train.size(), 1U);
  EXPECT_EQ(files.train[0].path, folder / "train.jsonl");
  EXPECT_EQ(files.valid.size(), 1U);
  EXPECT_TRUE(files.test.empty());
  EXPECT_EQ(DatasetFiles::find(files.train[0].path).train.at(0).path, files.train[0].path);
  EXPECT_EQ(Dataset::load(files.train, tokenizer(), with_eos()).samples.size(), 1U);
}

TEST(Dataset, HeldOutRowsLeaveTheOthersAndRepeatWithTheirSeed) {
  std::string text;
  for (int i = 0; i < 20; ++i)
    text += "{\"text\": \"" + std::string(static_cast<std::size_t>(i + 1), 'a') + "\"}\n";
  const auto lines = [](const Dataset& data) {
    std::vector<std::size_t> result;
    for (const Sample& sample : data.samples) result.push_back(sample.line);
    return result;
  };
  Dataset one = parse(text);
  const std::size_t tokens = one.statistics.tokens;
  const Dataset held = one.hold_out(0.25, 3);
  EXPECT_EQ(held.samples.size(), 5U);
  EXPECT_EQ(one.samples.size(), 15U);
  EXPECT_EQ(held.statistics.rows, 5U);
  EXPECT_EQ(held.statistics.tokens + one.statistics.tokens, tokens);
  std::vector<std::size_t> all = lines(held);
  for (const std::size_t line : lines(one)) all.push_back(line);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.begin() + 5));
  EXPECT_TRUE(std::is_sorted(all.begin() + 5, all.end()));
  std::sort(all.begin(), all.end());
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], i + 1);
  Dataset two = parse(text);
  EXPECT_EQ(lines(two.hold_out(0.25, 3)), lines(held));
  Dataset three = parse(text);
  EXPECT_NE(lines(three.hold_out(0.25, 4)), lines(held));
  Dataset tiny = parse("{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  EXPECT_EQ(tiny.hold_out(0.01, 0).samples.size(), 1U);
  EXPECT_THROW(tiny.hold_out(0.5, 0), InvalidArgument);
  EXPECT_THROW(one.hold_out(1, 0), InvalidArgument);
}

TEST(Dataset, WikiSqlLoads) {
  const auto folder = test::find_shared("data/wikisql-lora");
  if (folder.empty() || test::bundled_model().empty()) GTEST_SKIP() << "shared/data is not here";
  const Tokenizer stories = Tokenizer::load(test::bundled_model());
  const Dataset data = Dataset::load(DatasetFiles::find(folder).train, stories, with_eos());
  EXPECT_EQ(data.samples.size(), 1000U);
  for (const Sample& sample : data.samples) EXPECT_EQ(sample.ids.back(), kEos);
}

}  // namespace
}  // namespace candela
