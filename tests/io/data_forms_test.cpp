#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <candela/core/error.h>
#include <candela/io/dataset.h>

#include "io/files.h"

/// Rows in every form of file.
namespace candela {
namespace {

using nlohmann::json;
using test::error_of;
using test::expect_contains;

constexpr TokenId kEos = 0;

/// One token per byte of printable ASCII.
const Tokenizer& tokenizer() {
  static const Tokenizer instance = [] {
    json vocab = {{"<eos>", 0}, {"<|im_start|>", 1}, {"<|im_end|>", 2}, {"Ġ", 3}, {"Ċ", 4}, {"č", 5}};
    for (int c = 0x21; c < 0x7F; ++c) vocab[std::string(1, static_cast<char>(c))] = c;
    json added = json::array();
    for (const char* token : {"<eos>", "<|im_start|>", "<|im_end|>"})
      added.push_back({{"id", vocab[token]}, {"content", token}, {"special", true}, {"normalized", false}});
    const json document = {{"added_tokens", added},
                           {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                           {"decoder", {{"type", "ByteLevel"}}},
                           {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
    return Tokenizer::parse(document.dump(), "t.json");
  }();
  return instance;
}

DatasetOptions with_eos() {
  DatasetOptions options;
  options.frame.eos = kEos;
  return options;
}

Dataset parse(std::string_view text, const std::string& name, const DatasetOptions& options = with_eos()) {
  return Dataset::parse(text, name, tokenizer(), options);
}

std::vector<std::string> texts(const Dataset& data) {
  std::vector<std::string> result;
  for (const Sample& sample : data.samples) result.push_back(tokenizer().decode(sample.ids, true));
  return result;
}

std::vector<std::size_t> lines(const Dataset& data) {
  std::vector<std::size_t> result;
  for (const Sample& sample : data.samples) result.push_back(sample.line);
  return result;
}

std::string error(std::string_view text, const std::string& name) {
  return error_of<IoError>([&] { parse(text, name); });
}

using Texts = std::vector<std::string>;
using Lines = std::vector<std::size_t>;

TEST(JsonArray, HoldsTheRowsOfJsonl) {
  const std::string array =
      "\xef\xbb\xbf\n[\n  {\"text\": \"a]},\\\"\\\\\"},\n  {\n    \"text\": \"b\"\n  }\n, "
      "{\"text\":\"c\"}]\n";
  const Dataset data = parse(array, "d.json");
  EXPECT_EQ(texts(data), (Texts{"a]},\"\\", "b", "c"}));
  EXPECT_EQ(lines(data), (Lines{3, 4, 7}));
  EXPECT_EQ(texts(parse(array, "data")), texts(data)) << "a name that says nothing";
  EXPECT_EQ(texts(parse("{\"text\": \"a\"}\n", "d.json")), Texts{"a"}) << "JSONL that is named .json";
}

TEST(JsonArray, ErrorsNameTheLineAndGoOnWhereTheyCan) {
  expect_contains(error("[]", "d.json"), "d.json: must hold at least one row");
  expect_contains(
      error("[{\"text\": \"a\"},\n{\"text\": 1},\n{\"text\": \"b\"},\n7]", "d.json"),
      "d.json: 2 rows cannot be read:\n  d.json:2: text must be a string; got 1\n  d.json:4: must "
      "be a JSON object; got 7");
  expect_contains(error("[{\"text\": \"a\"}\n", "d.json"),
                  "d.json:2: must have , or ] behind a row; got the end of the file: is it cut short?");
  expect_contains(error("[{\"text\": \"a\"},\n{\"text\": ", "d.json"),
                  "d.json:2: must close its array; got the end");
  expect_contains(error("[{\"text\": \"a\"} {", "d.json"), "must have , or ] behind a row; got \"{\"");
  expect_contains(error("[{\"text\": \"a\"},]", "d.json"), "must have a row behind the last comma");
  expect_contains(error("[{\"text\": \"a\"}] x", "d.json"), "must end behind its array; got \"x\"");
  expect_contains(error("[{\"text\": ]", "d.json"), "must be valid JSON");
}

TEST(Csv, FollowsRfc4180) {
  const Dataset data = parse(
      "\xef\xbb\xbfprompt,completion,\"no, te\"\r\n"
      "a,\"b, \"\"c\"\"\",x\r\n"
      "\r\n"
      "\"two\r\nlines\",d,\n"
      "e,f,\"\"",
      "d.csv");
  EXPECT_EQ(data.format, RowFormat::Completions);
  EXPECT_EQ(texts(data), (Texts{"ab, \"c\"", "two\r\nlinesd", "ef"}));
  EXPECT_EQ(lines(data), (Lines{2, 4, 6}));
}

TEST(Csv, TabsPartTheCellsOfTsv) {
  EXPECT_EQ(texts(parse("text\tn\na, b\t1\n", "d.tsv")), Texts{"a, b"});
}

TEST(Csv, CellsOfChatsAndTokensAreJson) {
  const Dataset data = parse("input_ids,labels\n\"[65, 66, 67]\",\"[-100, 66, -100]\"\n", "d.csv");
  EXPECT_EQ(data.format, RowFormat::Tokens);
  EXPECT_EQ(data.samples.at(0).trained, (std::vector<std::uint8_t>{0, 1, 0}));
  EXPECT_EQ(parse("messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"u\"\"}, {\"\"role\"\": "
                  "\"\"assistant\"\", \"\"content\"\": \"\"a\"\"}]\"\n",
                  "d.csv")
                .format,
            RowFormat::Chat);
  expect_contains(error("messages\n[x\n", "d.csv"), "d.csv:2: messages: must be valid JSON");
}

TEST(Csv, MapsColumnsAndLeavesNamelessOnesOut) {
  DatasetOptions options = with_eos();
  options.map = {{"prompt", "question"}, {"completion", "answer"}};
  EXPECT_EQ(texts(parse(",question,answer\n0,a,b\n1,c,d\n", "d.csv", options)), (Texts{"ab", "cd"}));
}

TEST(Csv, ErrorsNameEveryBadRow) {
  expect_contains(error("", "d.csv"), "d.csv: must hold at least one row");
  expect_contains(error("text\n", "d.csv"), "d.csv: must hold at least one row");
  expect_contains(error("text,text\na,b\n", "d.csv"), "d.csv:1: column \"text\" must occur once");
  const std::string text = error("text,n\nab,1\nonly\na\"b,2\n\"a\"b,3\n\xff,4\n,5\ncd,6\n", "d.csv");
  expect_contains(text, "d.csv: 5 rows cannot be read:");
  expect_contains(text, "d.csv:3: must have 2 cells, as the columns of the first row (text, n); got 1");
  expect_contains(text, "d.csv:4: cell 1 must be in quotes as a whole");
  expect_contains(text, "d.csv:5: cell 1 must end behind its closing quote");
  expect_contains(text, "d.csv:6: text must be UTF-8");
  expect_contains(text, "d.csv:7: text must be a string; got null");
  expect_contains(error("text\nab\n\"cd\nef\n", "d.csv"),
                  "d.csv:3: a quote that opens in this row must be closed; the file ends before");
}

TEST(PlainText, IsCutBetweenParagraphsAndWholeAgain) {
  const std::string text = "One one.\nOne.\n\n\nTwo.\r\n\r\nA third that is long.";
  DatasetOptions options = with_eos();
  options.text_length = 20;
  const Dataset data = parse(text, "d.txt", options);
  EXPECT_EQ(data.format, RowFormat::Text);
  EXPECT_EQ(texts(data), (Texts{"One one.\nOne.\n\n\n", "Two.\r\n\r\n", "A third that is lon", "g."}));
  EXPECT_EQ(lines(data), (Lines{1, 5, 7, 7}));
  std::string joined;
  for (const std::string& piece : texts(data)) joined += piece;
  EXPECT_EQ(joined, text);
  for (const Sample& sample : data.samples) {
    EXPECT_LE(sample.ids.size(), 20U);
    EXPECT_EQ(sample.trained_tokens(), sample.ids.size() - 1);
    EXPECT_EQ(sample.ids.back() == kEos, &sample == &data.samples.back()) << "EOS ends the text alone";
  }
  EXPECT_EQ(parse(text, "d.md", with_eos()).samples.size(), 1U);
}

TEST(PlainText, OfAnyLengthLosesNoToken) {
  for (std::size_t length = 3; length < 12; ++length) {
    std::string text;
    for (std::size_t i = 0; i < 40; ++i) text += static_cast<char>('a' + i % 26);
    text.insert(7, "\n\n");
    text.insert(30, "\n\n");
    DatasetOptions options = with_eos();
    options.text_length = length;
    const Dataset data = parse(text, "d.txt", options);
    std::string joined;
    for (const std::string& piece : texts(data)) joined += piece;
    EXPECT_EQ(joined, text) << length;
  }
}

TEST(PlainText, Errors) {
  expect_contains(error("", "d.txt"), "d.txt: must hold at least one row");
  expect_contains(error("ab\n\xff\n", "d.txt"), "d.txt:2: must be UTF-8");
  DatasetOptions options = with_eos();
  options.text_length = 2;
  expect_contains(error_of<InvalidArgument>([&] { parse("abc", "d.txt", options); }),
                  "d.txt: a piece of a text must have at least 3 tokens; got 2");
}

TEST(DataForms, OthersAreRefusedByName) {
  expect_contains(error_of<Unsupported>([] { parse("PAR1", "d.parquet"); }),
                  "d.parquet: .parquet files are not read; write the rows out as JSONL or CSV");
}

TEST(BadRows, AreLeftOutAndToldIfAskedFor) {
  DatasetOptions options = with_eos();
  options.keep_going = true;
  std::string rows = "{\"text\": \"a\"}\n";
  for (int i = 0; i < 30; ++i) rows += "{}\n";
  const Dataset data = parse(rows + "{\"text\": \"b\"}\n", "d.jsonl", options);
  EXPECT_EQ(texts(data), (Texts{"a", "b"}));
  EXPECT_EQ(data.bad_rows.count, 30U);
  EXPECT_EQ(data.bad_rows.texts.size(), BadRows::kMaxShown);
  expect_contains(data.bad_rows.texts.at(0), "d.jsonl:2: text must be a string");
  expect_contains(error_of<IoError>([&] { parse("{}\n", "d.jsonl", options); }), "d.jsonl:1: must hold");
}

TEST(ShareGpt, TurnsMayBeLeftOutOfTraining) {
  const Dataset data = parse(
      R"({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a", "weight": 0},)"
      R"( {"from": "human", "value": "v"}, {"from": "gpt", "value": "b"}]})",
      "d.jsonl");
  EXPECT_EQ(data.samples.at(0).trained_tokens(), 2U) << "b and its end";
}

class Files : public testing::Test {
 protected:
  std::string add(const std::string& name, const std::string& text) {
    test::write_text(folder_ / name, text);
    return (folder_ / name).string();
  }
  Dataset load(const std::vector<std::string>& sources, const DatasetOptions& options = with_eos()) const {
    return Dataset::load(DatasetFiles::find(sources).train, tokenizer(), options);
  }
  static std::string rows(char first, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i)
      text += std::string("{\"text\": \"") + first + static_cast<char>('a' + i % 26) + "\"}\n";
    return text;
  }
  static std::size_t of_source(const Dataset& data, std::size_t source) {
    return static_cast<std::size_t>(std::count_if(data.samples.begin(), data.samples.end(),
                                                  [&](const Sample& one) { return one.source == source; }));
  }
  static Texts names(const std::vector<DataFile>& files) {
    Texts result;
    for (const DataFile& file : files) result.push_back(file.path.filename().string());
    return result;
  }

  const test::TemporaryFolder folder_;
};

TEST_F(Files, AddUpAndErrorsOfAllAreTold) {
  const std::string a = add("a.jsonl", rows('a', 3)), b = add("b.csv", "prompt,completion\nx,y\n");
  const Dataset data = load({a, b});
  EXPECT_EQ(texts(data), (Texts{"aa", "ab", "ac", "xy"}));
  EXPECT_EQ(data.where(data.samples.back()), b + ":2");
  EXPECT_EQ(data.name(), a + " and 1 more file");
  const std::string c = add("c.jsonl", "{\"text\": \"a\"}\n{}\n"), d = add("d.jsonl", "7\n");
  const std::string text = error_of<IoError>([&] { load({c, d}); });
  expect_contains(text, "2 rows cannot be read");
  expect_contains(text, "c.jsonl:2: ");
  expect_contains(text, "d.jsonl:1: ");
}

TEST_F(Files, WeightsSayHowOftenARowIsTaken) {
  const std::string a = add("a.jsonl", rows('a', 10)), b = add("b.jsonl", rows('b', 10));
  const Dataset half = load({a, b + ":0.5"});
  EXPECT_EQ(of_source(half, 0), 10U);
  EXPECT_EQ(of_source(half, 1), 5U);
  EXPECT_EQ(half.statistics.rows, 15U);
  EXPECT_EQ(half.statistics.tokens, 45U);
  EXPECT_EQ(lines(half), lines(load({a, b + ":0.5"}))) << "drawn by the seed";
  DatasetOptions other = with_eos();
  other.seed = 1;
  EXPECT_NE(lines(half), lines(load({a, b + ":0.5"}, other)));
  const Dataset more = load({a + ":2.5"});
  EXPECT_EQ(more.samples.size(), 25U);
  std::map<std::size_t, int> taken;
  for (const Sample& sample : more.samples) ++taken[sample.line];
  for (const auto& [line, times] : taken) EXPECT_TRUE(times == 2 || times == 3) << line;
  EXPECT_EQ(load({a, a}).samples.size(), 20U);
  expect_contains(error_of<IoError>([&] { load({a + ":0.01"}); }),
                  "the weight 0.01 takes none of its 10 rows");
  expect_contains(error_of<InvalidArgument>([&] { load({a + ":-1"}); }),
                  "the weight must be above 0 and at most 1000; got -1");
  expect_contains(error_of<IoError>([&] { load({a + ":x"}); }), "a.jsonl:x: no such file or folder");
  const std::string odd = add("odd:2", rows('a', 1));
  EXPECT_EQ(load({odd}).samples.size(), 1U) << "a path that is there wins over a weight";
}

TEST_F(Files, HoldingOutKeepsTheCopiesOfARowTogether) {
  Dataset data = load({add("a.jsonl", rows('a', 20)) + ":3"});
  const Dataset held = data.hold_out(0.25, 1);
  EXPECT_EQ(held.samples.size(), 15U);
  EXPECT_EQ(data.samples.size(), 45U);
  const Lines out = lines(held);
  for (const std::size_t line : lines(data)) EXPECT_EQ(std::count(out.begin(), out.end(), line), 0) << line;
}

TEST_F(Files, AFoldersSetsAreFoundByTheirNames) {
  for (const char* name : {"train-00000-of-00002.csv", "train-00001-of-00002.csv", "gsm_test.jsonl",
                           "validation.json", "README.md", "dataset_infos.json", "notes.txt"})
    add(name, "x");
  add("data/train_more.jsonl.gz", "x");
  const DatasetFiles files = DatasetFiles::find(folder_.path());
  EXPECT_EQ(names(files.train),
            (Texts{"train_more.jsonl.gz", "train-00000-of-00002.csv", "train-00001-of-00002.csv"}));
  EXPECT_EQ(names(files.valid), Texts{"validation.json"});
  EXPECT_EQ(names(files.test), Texts{"gsm_test.jsonl"});
  add("train-00000-of-00002.csv.xz", "x");
  expect_contains(
      error_of<IoError>([&] { DatasetFiles::find(folder_.path()); }),
      "holds train-00000-of-00002.csv and train-00000-of-00002.csv.xz: name the one that is meant");
}

TEST_F(Files, WithoutATrainingSetAllThatSayNothingAreIt) {
  add("a.jsonl", "x");
  add("b.txt", "x");
  add("dev.jsonl", "x");
  EXPECT_EQ(names(DatasetFiles::find(folder_.path()).train), (Texts{"a.jsonl", "b.txt"}));
  const test::TemporaryFolder empty;
  expect_contains(error_of<IoError>([&] { DatasetFiles::find(empty.path()); }), "must hold train.jsonl");
}

}  // namespace
}  // namespace candela
