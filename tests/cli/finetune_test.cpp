#include <array>
#include <cstdlib>
#include <fcntl.h>
#include <regex>
#include <sstream>
#include <thread>
#include <unistd.h>

#include <candela/ops/copy.h>

#include "cli/cli.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::Cli;
using test::Outcome;

class Finetune : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl");
    model_ = write_tiny_model("model");
  }
  Outcome tune(const std::string& more, const std::string& before = "") const {
    return run(finetune(fmt::format("--output '{}' {}", path("adapter"), more), model_), before);
  }
  nlohmann::json eval(const std::string& data, const std::string& more = "") const {
    const Outcome result =
        run(fmt::format("eval --model '{}' --adapter '{}' --data '{}' --json --no-answers {}", model_,
                        path("adapter"), path(data), more));
    EXPECT_EQ(result.status, 0) << result.err;
    return nlohmann::json::parse(result.out);
  }
  /// The lines of metrics.jsonl.
  std::vector<nlohmann::json> metrics() const {
    std::vector<nlohmann::json> lines;
    std::ifstream in(path("adapter/metrics.jsonl"));
    for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  std::string model_;
};

TEST_F(Finetune, AnEarlierAdapterIsNotOverwrittenUnlessAsked) {
  ASSERT_EQ(tune("").status, 0);
  const Outcome second = tune("");
  EXPECT_EQ(second.status, 1);
  EXPECT_TRUE(second.says("--overwrite")) << second.err;
  EXPECT_EQ(tune("--overwrite").status, 0);
}

TEST_F(Finetune, BadRowsAreNamedByFileAndLine) {
  write("rows.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\nnot json\n");
  const Outcome result = tune("");
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(result.says("rows.jsonl:2")) << result.err;
  EXPECT_FALSE(exists("adapter"));
}

TEST_F(Finetune, DivergenceEndsWithAClearErrorAndSavesNothing) {
  const Outcome result = tune("--learning-rate 1e30 --clip-norm 0 --warmup 0 --max-steps 20");
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(result.says("lower the learning rate")) << result.err;
  EXPECT_FALSE(exists("adapter/adapter_model.safetensors"));
}

/// What is written to a terminal.
class Terminal {
 public:
  Terminal() : master_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    if (master_ < 0 || ::grantpt(master_) != 0 || ::unlockpt(master_) != 0) return;
    name_ = ::ptsname(master_);
    slave_ = ::open(name_.c_str(), O_RDWR | O_NOCTTY);  // holds it open until the program has ended
    reader_ = std::thread([this] {
      std::array<char, 4096> buffer;
      for (ssize_t count = 0; (count = ::read(master_, buffer.data(), buffer.size())) > 0;)
        text_.append(buffer.data(), static_cast<std::size_t>(count));
    });
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    text();
    if (master_ >= 0) ::close(master_);
  }
  /// Its path; empty if there is none to be had.
  const std::string& name() const { return name_; }
  /// After the program has ended.
  const std::string& text() {
    if (slave_ >= 0) ::close(slave_);
    slave_ = -1;
    if (reader_.joinable()) reader_.join();
    return text_;
  }

 private:
  int master_ = -1;
  int slave_ = -1;
  std::string name_;
  std::string text_;
  std::thread reader_;
};

/// How often the line is drawn meanwhile depends on the machine (tests/cli/progress_test.cpp has what it says
/// then); that it is drawn at the end does not.
TEST_F(Finetune, ProgressOnATerminalTellsLossRateAndTime) {
  Terminal terminal;
  if (terminal.name().empty()) GTEST_SKIP() << "no pseudo-terminal is to be had";
  const Outcome result =
      run(fmt::format("finetune --model '{}' --data '{}' --valid '{}' --output '{}' --rank 4 --batch-size 4 "
                      "--max-steps 6 --validate-every 3",
                      model_, path("rows.jsonl"), path("rows.jsonl"), path("adapter")),
          "", "2>'" + terminal.name() + "'");
  ASSERT_EQ(result.status, 0) << terminal.text();
  for (const char* line : {"\r\x1b\\[Kstep 3: validation loss [0-9]+\\.[0-9]{4}\r?\n",
                           "\rtraining [^ ]+ 6/6 steps  loss [0-9]+\\.[0-9]{4}  [0-9][0-9,]* tok/s  in "
                           "[0-9]+:[0-9]{2}\x1b\\[K\r?\n$"}) {
    EXPECT_TRUE(std::regex_search(terminal.text(), std::regex(line))) << line << ": " << terminal.text();
  }
}

TEST_F(Finetune, ProgressInAFileEndsWithTheLastStepAndQuietIsQuiet) {
  const Outcome result =
      run(fmt::format("finetune --model '{}' --data '{}' --output '{}' --rank 4 --batch-size 4 --max-steps 6",
                      model_, path("rows.jsonl"), path("adapter")));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(std::regex_search(
      result.err,
      std::regex(" 6/6 steps  loss [0-9]+\\.[0-9]{4}  [0-9][0-9,]* tok/s  in [0-9]+:[0-9]{2}\n$")))
      << result.err;
  EXPECT_EQ(tune("--overwrite").err, "");
}

/// The points of the picture's polylines.
std::vector<std::vector<std::pair<double, double>>> lines_of(const std::string& svg) {
  std::vector<std::vector<std::pair<double, double>>> lines;
  const std::regex line("<polyline [^>]*points=\"([^\"]*)\"");
  for (std::sregex_iterator at(svg.begin(), svg.end(), line), end; at != end; ++at) {
    std::istringstream points((*at)[1]);
    lines.emplace_back();
    char comma = 0;
    for (double x = 0, y = 0; points >> x >> comma >> y;) lines.back().emplace_back(x, y);
  }
  return lines;
}

TEST_F(Finetune, TheLossCurveHoldsEveryStep) {
  ASSERT_EQ(tune(fmt::format("--valid '{}' --validate-every 2", path("rows.jsonl"))).status, 0);
  const std::string svg = read(path("adapter/loss.svg"));
  EXPECT_NE(svg.find("LoRA fine-tuning of model"), std::string::npos);
  const auto lines = lines_of(svg);
  ASSERT_EQ(lines.size(), 2U) << svg;  // training and validation
  ASSERT_EQ(lines[0].size(), 6U);
  EXPECT_EQ(lines[1].size(), 3U);
  const auto steps = metrics();
  for (std::size_t i = 0; i + 1 < lines[0].size(); ++i) {
    EXPECT_LT(lines[0][i].first, lines[0][i + 1].first);
    // The greater loss is the higher point, and pictures count from the top.
    if (steps[i]["loss"] > steps[i + 1]["loss"])
      EXPECT_LE(lines[0][i].second, lines[0][i + 1].second);
    else
      EXPECT_GE(lines[0][i].second, lines[0][i + 1].second);
  }
}

/// The loss of a step is that before its update: what the last update breaks must be found as well.
TEST_F(Finetune, AnAdapterThatTheLastUpdateBrokeIsNotSaved) {
  for (const char* rate : {"1e38", "1e39", "1e30"}) {
    const Outcome result = tune(fmt::format("--max-steps 1 --warmup 0 --learning-rate {}", rate));
    EXPECT_EQ(result.status, 1) << rate << result.err;
    EXPECT_TRUE(result.says("lower the learning rate")) << result.err;
    EXPECT_FALSE(exists("adapter/adapter_model.safetensors")) << rate;
  }
  const Outcome validated =
      tune(fmt::format("--max-steps 1 --warmup 0 --learning-rate 1e38 --valid '{}'", path("rows.jsonl")));
  EXPECT_EQ(validated.status, 1) << validated.err;
  EXPECT_TRUE(validated.says("validation")) << validated.err;
  EXPECT_FALSE(exists("adapter/adapter_model.safetensors"));
}

TEST_F(Finetune, ThePlanIsPrintedWithoutTrainingEvenIfTheOutputExists) {
  const Outcome result = tune("--plan");
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* word : {"trainable parameters", "tokens", "memory", "steps"})
    EXPECT_TRUE(result.says(word)) << word;
  EXPECT_FALSE(exists("adapter"));
  ASSERT_EQ(tune("").status, 0);
  EXPECT_EQ(tune("--plan").status, 0);
}

/// Whether the binary, as this test, is built with a sanitizer, which takes memory of its own.
bool sanitized() {
  bool found = false;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  found = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  found = true;
#endif
#endif
  return found;
}

/// How many pages the machine has moved to its swap so far; 0 where the system does not tell.
long long pages_swapped_out() {
  std::ifstream counters("/proc/vmstat");
  std::string name;
  for (long long value = 0; counters >> name >> value;)
    if (name == "pswpout") return value;
  return 0;
}

/// Why what the system counts as resident is not what the process took; empty: it is.
std::string why_memory_is_not_comparable() {
  if (sanitized()) return "a sanitizer's memory is not planned";
#if defined(__linux__)
  const long page = ::sysconf(_SC_PAGESIZE);
  return page == 4096 ? "" : fmt::format("a page of {} bytes is resident where the plan counts less", page);
#else
  return "the plan's figures for the program are Linux's";
#endif
}

/// What the system says that the whole process took, beside the plan that it printed: the demo's geometry.
///
/// The plan sums sizes; the system counts pages, of libraries as well, which vary with their versions and
/// with what malloc reuses. Hence the slack: a tenth and 16 MiB for what the plan does not know of, more for
/// what it counts and nothing touches. Of about 140 MiB, weights and program are 28 each and activations 74:
/// a plan without one of them is beyond the slack.
TEST_F(Finetune, ThePlanIsThePeakOfTheProcess) {
  const std::string why_not = why_memory_is_not_comparable();
  if (!why_not.empty()) GTEST_SKIP() << why_not;
  const long long swapped_before = pages_swapped_out();
  const std::string demo = CANDELA_SOURCE_DIR "/data/text-to-sql";
  const Outcome result =
      run(fmt::format("finetune --config '{0}/finetune.yaml' --model '{1}' --data '{0}/train.jsonl' "
                      "--validate-every 0 --output '{2}' --max-steps 3 --quiet --device cpu --threads 2",
                      demo, kModel, path("adapter")));
  ASSERT_EQ(result.status, 0) << result.err;
  if (pages_swapped_out() != swapped_before) GTEST_SKIP() << "the machine swaps: not all is resident";
  const std::string line = "memory      ";
  const std::size_t at = result.out.find(line);
  ASSERT_NE(at, std::string::npos) << result.out;
  const std::string total =
      result.out.substr(at + line.size(), result.out.find(" MiB", at) - at - line.size());
  const double planned = std::stod(total);
  const double peak = metrics().back()["peak_memory_bytes"].get<double>() / (1 << 20);
  constexpr double kSlack = 16;  // MiB
  EXPECT_LE(peak, 1.1 * planned + kSlack) << result.out;
  EXPECT_LE(planned, 1.25 * peak + kSlack) << result.out;
}

/// As many steps as a person may type: they are counted, not listed.
TEST_F(Finetune, AVeryLongRunIsPlannedAtOnce) {
  const Outcome result = tune("--plan --max-steps 100000000");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("steps       100000000 of 4 rows")) << result.out;
}

/// A row that the model's embedding does not reach is found by the plan, not by the validation after the last
/// step.
TEST_F(Finetune, AValidationRowBeyondTheVocabularyEndsTheRunBeforeItsStart) {
  auto tokenizer = read_json("model/tokenizer.json");
  tokenizer["added_tokens"].push_back({{"id", 4096},
                                       {"content", "<|added|>"},
                                       {"single_word", false},
                                       {"lstrip", false},
                                       {"rstrip", false},
                                       {"normalized", false},
                                       {"special", true}});
  write("model/tokenizer.json", tokenizer.dump());
  write("valid.jsonl", "{\"prompt\": \"a\", \"completion\": \"b <|added|>\"}\n");
  const Outcome result = tune(fmt::format("--valid '{}'", path("valid.jsonl")));
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(result.says("valid.jsonl:1: holds the token 4096")) << result.err;
  EXPECT_FALSE(exists("adapter"));
}

/// No real token ever sees padding: a model may do without it.
TEST_F(Finetune, PaddingMayBeAbsentAndSpecialTokensMustBeTokens) {
  const std::string model = write_tiny_model("unpadded");
  auto config = read_json("unpadded/config.json");
  config["pad_token_id"] = -1;
  write("unpadded/config.json", config.dump());
  EXPECT_EQ(run(finetune(fmt::format("--output '{}'", path("adapter")), model)).status, 0);
  for (const char* key : {"pad_token_id", "eos_token_id"}) {
    auto wrong = config;
    wrong[key] = 4096;
    write("unpadded/config.json", wrong.dump());
    const Outcome result = run(finetune(fmt::format("--output '{}'", path("more")), model));
    EXPECT_EQ(result.status, 1) << key;
    EXPECT_TRUE(result.says(fmt::format("config.json: {} must be made of token ids, in [0, 4096)", key)))
        << result.err;
  }
}

/// As peft, the folder holds the names of the layers that were picked, however they were asked for.
TEST_F(Finetune, TargetsAreSavedAsNames) {
  ASSERT_EQ(tune("--target-modules all-linear lm_head").status, 0);
  auto names = read_json("adapter/adapter_config.json")["target_modules"].get<std::vector<std::string>>();
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"down_proj", "gate_proj", "k_proj", "lm_head", "o_proj",
                                             "q_proj", "up_proj", "v_proj"}));
  EXPECT_EQ(run(fmt::format("generate --model '{}' --adapter '{}' --prompt x --max-tokens 2", model_,
                            path("adapter")))
                .status,
            0);
  ASSERT_EQ(tune("--overwrite --exclude-modules down_proj").status, 0);
  EXPECT_EQ(read_json("adapter/adapter_config.json")["target_modules"].size(), 7U);
}

/// Adapters on layers that are not the first of those that share an input.
TEST_F(Finetune, SingleModulesTrain) {
  for (const char* module : {"v_proj", "k_proj", "up_proj", "down_proj"}) {
    const Outcome result = tune(fmt::format("--overwrite --target-modules {}", module));
    EXPECT_EQ(result.status, 0) << module << ": " << result.err;
    eval("rows.jsonl");
  }
}

/// What is left of such a row teaches nothing: it is dropped and counted.
TEST_F(Finetune, RowsWhoseAnswerIsCutOffAreLeftOutAndCounted) {
  std::string rows;
  for (int i = 0; i < 12; ++i) {
    rows += fmt::format("{{\"prompt\": \"{}\", \"completion\": \" yes\"}}\n",
                        i % 3 == 0 ? std::string(200, 'a') : "short");
  }
  write("rows.jsonl", rows);
  const Outcome refused = tune("--max-length 16");
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.says("rows.jsonl:1")) << refused.err;
  EXPECT_TRUE(refused.says("--max-length")) << refused.err;
  EXPECT_TRUE(refused.says("--truncate")) << refused.err;
  const Outcome result = tune("--max-length 16 --truncate --batch-size 1 --epochs 1 --max-steps 0");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("4 left out")) << result.out;
  EXPECT_EQ(metrics().size(), 8U);
}

}  // namespace
}  // namespace candela
