#include <csignal>

#include <candela/io/safetensors.h>

#include "cli/cli.h"

/// What a new user meets first: other tools' habits, mistyped names, the shell.
namespace candela {
namespace {

namespace fs = std::filesystem;
using test::Cli;
using test::Outcome;

class Newcomer : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    model_ = write_tiny_model("model");
    write_rows("rows.jsonl");
  }
  /// `text` as one word of the shell.
  static std::string quoted(const std::string& text) { return "'" + text + "'"; }
  static bool has(const char* program) {
    return std::system(fmt::format("command -v {} >/dev/null 2>&1", program).c_str()) == 0;
  }

  std::string model_;
};

TEST_F(Newcomer, UnknownOptionsAndCommandsSuggestTheNearest) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"finetune --learning-rat 3",
       "candela: error: --learning-rat: is no option of `candela finetune`; did you mean --learning-rate? "
       "`candela finetune --help` lists them\n"},
      {"generate --modle x",
       "candela: error: --modle: is no option of `candela generate`; did you mean --model?"},
      {"bench train --bacth-size 3",
       "candela: error: --bacth-size: is no option of `candela bench train`; did you mean --batch-size?"},
      {"finetune --zzzzzzzz 3",
       "candela: error: --zzzzzzzz: is no option of `candela finetune`; `candela finetune --help` lists "
       "them\n"},
      {"finetune -r 3",
       "candela: error: -r: is no option of `candela finetune`, whose options have long names"},
      {"--versin", "candela: error: --versin: is no option of `candela`; did you mean --version?"},
      {"finetun",
       "candela: error: unknown command \"finetun\"; did you mean finetune? known: finetune, verify,"},
      {"", "candela: error: a command is required; `candela --help` lists them\n"},
      {"finetune", "candela: error: --model: is required\n"},
      {"finetune --rank", "candela: error: --rank: needs a value\n"},
      {"finetune --plan=maybe", "candela: error: --plan: does not take the value maybe\n"},
      {"finetune --rank 0", "candela: error: --rank: must be a whole number in [1, 65536]; got 0\n"},
      {"info a b", "candela: error: b: is not expected here\n"},
      {"info", "candela: error: path: is required\n"},
      {"eval --model m --data d --compare", "candela: error: --compare: requires --adapter"},
      {"finetune --model m --data d --output o --target-modules a --target-regex b",
       "candela: error: --target-modules: excludes --target-regex; leave one of them out\n"}};
  for (const auto& [arguments, error] : wrong) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments;
    EXPECT_EQ(outcome.err.rfind(error, 0), 0U) << arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.out, "") << arguments;
  }
  write("c.yaml", "learning-rat: 1\n");
  EXPECT_TRUE(run(fmt::format("finetune --config '{}'", path("c.yaml")))
                  .says("c.yaml:1: learning-rat: is no option of `candela finetune`; did you mean "
                        "learning-rate? known: "));
}

/// The options of a run, as finetune.yaml has them, without those that name files.
std::string options_of(const std::string& yaml) {
  std::string kept;
  std::istringstream in(yaml);
  for (std::string line; std::getline(in, line);)
    if (line.find("output") == std::string::npos) kept += line + "\n";
  return kept;
}

TEST_F(Newcomer, OtherToolsSpellingsAreUnderstood) {
  const std::string files = fmt::format(
      "finetune --model '{}' --data '{}' --quiet --max-steps 2 --save-every 1 ", model_, path("rows.jsonl"));
  const Outcome own =
      run(files + fmt::format("--output '{}' --rank 4 --alpha 8 --dropout 0.1 --learning-rate 1e-3 "
                              "--batch-size 3 --accumulation 2 --target-modules q_proj v_proj "
                              "--schedule linear --warmup 0.1 --clip-norm 0.5 --checkpoint layer "
                              "--rslora --packing",
                              path("own")));
  ASSERT_EQ(own.status, 0) << own.err;
  const Outcome theirs =
      run(files +
          fmt::format("--output_dir '{}' --lora_r 4 --lora_alpha 8 --lora_dropout=0.1 --learning_rate 1e-3 "
                      "--per_device_train_batch_size 3 --gradient_accumulation_steps 2 "
                      "--target_modules q_proj,v_proj --lr_scheduler_type linear --warmup_ratio 0.1 "
                      "--max_grad_norm 0.5 --gradient_checkpointing True --use_rslora True --packing true "
                      "--bf16 false",
                      path("theirs")));
  ASSERT_EQ(theirs.status, 0) << theirs.err;
  const std::string expected = options_of(read(path("own/finetune.yaml")));
  EXPECT_EQ(options_of(read(path("theirs/finetune.yaml"))), expected);
  EXPECT_EQ(read_json("theirs/adapter_config.json")["target_modules"],
            nlohmann::json::array({"q_proj", "v_proj"}));
  EXPECT_EQ(read(path("theirs/adapter_model.safetensors")), read(path("own/adapter_model.safetensors")));
  write("theirs.yaml", fmt::format(R"(model_name_or_path: "{}"
dataset: "{}"
output_dir: "{}"
max_steps: 2
save_steps: 1
r: 4
lora_alpha: 8
lora_dropout: 0.1
learning_rate: 1e-3
per_device_train_batch_size: 3
gradient_accumulation_steps: 2
target_modules: [q_proj, v_proj]
lr_scheduler_type: linear
warmup_ratio: 0.1
max_grad_norm: 0.5
gradient_checkpointing: true
use_rslora: true
packing: true
fp16: false
quiet: true
)",
                                   model_, path("rows.jsonl"), path("config")));
  const Outcome config = run(fmt::format("finetune --config '{}'", path("theirs.yaml")));
  ASSERT_EQ(config.status, 0) << config.err;
  EXPECT_EQ(options_of(read(path("config/finetune.yaml"))), expected);
  write("twice.yaml", "learning_rate: 1\nlearning-rate: 2\n");
  EXPECT_TRUE(run(fmt::format("finetune --config '{}'", path("twice.yaml")))
                  .says("twice.yaml:2: learning-rate: occurs a second time"));
}

TEST_F(Newcomer, ABatchBeyondTheDataSaysWhatItTakes) {
  const Outcome outcome =
      run(fmt::format("finetune --model '{}' --data '{}' --output '{}' --batch-size 100000 --plan", model_,
                      path("rows.jsonl"), path("o")));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(outcome.says("--batch-size 100000: a batch takes the 24 rows that there are")) << outcome.err;
}

TEST_F(Newcomer, ARunIsPlannedForADeviceThatIsNotThere) {
  if (run("devices").out.find("cuda:7") != std::string::npos) GTEST_SKIP() << "there are eight GPUs";
  const std::string arguments = fmt::format("finetune --model '{}' --data '{}' --output '{}' --device cuda:7",
                                            model_, path("rows.jsonl"), path("o"));
  const Outcome plan = run(arguments + " --plan");
  EXPECT_EQ(plan.status, 0) << plan.err;
  EXPECT_TRUE(plan.says("memory      ")) << plan.out;
  EXPECT_TRUE(plan.says("cuda:7 is not on this machine")) << plan.err;
  const Outcome real = run(arguments);
  EXPECT_EQ(real.status, 1);
  EXPECT_TRUE(real.says("cuda:7 is not available")) << real.err;
  EXPECT_FALSE(exists("o"));
}

TEST_F(Newcomer, AFolderIsEvaluatedOnItsHeldOutRows) {
  const auto rows_of = [&](const std::string& folder) {
    const Outcome outcome =
        run(fmt::format("eval --model '{}' --data '{}' --no-answers --json", model_, path(folder)));
    return outcome.status == 0 ? nlohmann::json::parse(outcome.out)["rows"].get<int>() : -1;
  };
  write_rows("set/train.jsonl", 9);
  const Outcome neither = run(fmt::format("eval --model '{}' --data '{}'", model_, path("set")));
  EXPECT_EQ(neither.status, 1);
  EXPECT_TRUE(neither.says("must hold test.jsonl or valid.jsonl to evaluate on")) << neither.err;
  write_rows("set/valid.jsonl", 3);
  EXPECT_EQ(rows_of("set"), 3);
  write_rows("set/test.jsonl", 5);
  EXPECT_EQ(rows_of("set"), 5);
}

TEST_F(Newcomer, AShareOfTheRowsIsHeldOutByEitherName) {
  for (const char* option : {"--valid-split", "--validation-split", "--validation_split"}) {
    const Outcome outcome = run(fmt::format("finetune --model '{}' --data '{}' --output '{}' {} 0.25 --plan",
                                            model_, path("rows.jsonl"), path("o"), option));
    EXPECT_TRUE(outcome.says("6 rows held out")) << outcome.out << outcome.err;
  }
}

TEST_F(Newcomer, TokensAreTurnedBackIntoText) {
  const std::string tokenize = fmt::format("tokenize --tokenizer '{}' ", model_);
  const std::string text = "Once upon a time, naïve  café\n";
  write("text", text);
  const std::string ids = run(tokenize, "", "<" + quoted(path("text"))).out;
  write("ids", ids);
  EXPECT_EQ(run(tokenize + "--decode", "", "<" + quoted(path("ids"))).out, text);
  EXPECT_EQ(run(tokenize + "--decode", "printf '[0, 5]' |").out.rfind("<|", 0), 0U);
  EXPECT_NE(run(tokenize + "--decode --skip-special", "printf '0 5' |").out.rfind("<|", 0), 0U);
  for (const char* bad : {"[4096]", "[1.5]", "[-1]", "[1, x]", "99999999999999999999"}) {
    const Outcome outcome = run(tokenize + "--decode", fmt::format("printf '%s' '{}' |", bad));
    EXPECT_EQ(outcome.status, 1) << bad;
    EXPECT_TRUE(outcome.says("standard input: must hold token ids in [0, 4096); got")) << outcome.err;
  }
}

TEST_F(Newcomer, InfoTellsDtypesAndEndsWithItsReader) {
  EXPECT_TRUE(run(fmt::format("info '{}'", model_)).says("\ndtype           F32\n"));
  write_safetensors(path("mixed.safetensors"), {{"a", Tensor::from_values<float>({1}, {1})},
                                                {"b", Tensor::from_values<float>({1}, {1})},
                                                {"c", Tensor::from_values<std::int32_t>({1}, {1})}});
  EXPECT_TRUE(run(fmt::format("info '{}'", path("mixed.safetensors"))).says("F32 (2 tensors), I32 (1)"));
  std::vector<std::pair<std::string, Tensor>> many;
  for (int i = 0; i < 4000; ++i)
    many.emplace_back(fmt::format("model.layers.{}.weight", i), Tensor::from_values<float>({1}, {1}));
  write_safetensors(path("many.safetensors"), many);
  const std::string line = fmt::format(
      "bash -c \"'{}' info '{}' --tensors 2>'{}' | head -n 1 >/dev/null; exit \\${{PIPESTATUS[0]}}\"",
      CANDELA_BINARY, path("many.safetensors"), path("said"));
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 128 + SIGPIPE);
  EXPECT_EQ(read(path("said")), "") << "whoever closed the pipe wants no more";
}

TEST_F(Newcomer, TheLineBreakOfEchoIsNoPartOfThePrompt) {
  const std::string generate = fmt::format("generate --model '{}' --max-tokens 8 --prompt ", kModel);
  const std::string expected = run(generate + "'Once upon a time'").out;
  EXPECT_EQ(run(generate + "-", "echo 'Once upon a time' |").out, expected);
  EXPECT_EQ(run(generate + "-", "printf 'Once upon a time\\n\\n' |").out,
            run(generate + "\"Once upon a time\n\"").out)
      << "one line break is";
}

TEST_F(Newcomer, GenerateEndsItsLineInATerminal) {
  if (!has("script")) GTEST_SKIP() << "script is not there";
  const std::string command =
      fmt::format("'{}' generate --model '{}' --prompt x --max-tokens 3", CANDELA_BINARY, model_);
  ASSERT_EQ(
      std::system(
          fmt::format("script -qec \"{}\" /dev/null >'{}' </dev/null", command, path("screen")).c_str()),
      0);
  const std::string screen = read(path("screen"));
  ASSERT_FALSE(screen.empty());
  EXPECT_EQ(screen.back(), '\n') << screen;
}

class Completion : public Newcomer {
 protected:
  void SetUp() override {
    Newcomer::SetUp();
    for (const char* shell : {"bash", "zsh"}) {
      const Outcome outcome = run(fmt::format("completion {}", shell));
      ASSERT_EQ(outcome.status, 0) << outcome.err;
      write(fmt::format("candela.{}", shell), outcome.out);
    }
  }
  /// What bash offers for these words, the last of them being typed.
  std::string offered(const std::string& words) const {
    write("ask.sh",
          fmt::format("source '{}'\nCOMP_WORDS=({})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_candela\n"
                      "printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
                      path("candela.bash"), words));
    const std::string line = fmt::format("cd '{}' && bash --norc ask.sh >offers 2>&1", folder_.string());
    EXPECT_EQ(std::system(line.c_str()), 0);
    return read(path("offers"));
  }
};

TEST_F(Completion, BashOffersCommandsOptionsChoicesAndFiles) {
  EXPECT_EQ(offered("candela fine"), "finetune\nfinetune-embedder\n");
  EXPECT_EQ(offered("candela bench prod"), "products\n");
  EXPECT_EQ(offered("candela finetune --learning"), "--learning-rate\n");
  EXPECT_EQ(offered("candela finetune --schedule ''"), "constant\nlinear\ncosine\n");
  EXPECT_EQ(offered("candela finetune --schedule = lin"), "linear\n");
  EXPECT_EQ(offered("candela finetune --data row"), "rows.jsonl\n");
  EXPECT_EQ(offered("candela finetune --data rows.jsonl --packi"), "--packing\n");
  EXPECT_EQ(offered("candela finetune --packing --pack-l"), "--pack-length\n");
  EXPECT_EQ(offered("candela finetune --rank ''"), "\n") << "a number";
  EXPECT_EQ(offered("candela completion z"), "zsh\n");
  EXPECT_EQ(offered("candela info mod"), "model\n");
}

/// Every command and option of --help is in both files.
TEST_F(Completion, NothingIsLeftOut) {
  const std::string bash = read(path("candela.bash"));
  const std::string zsh = read(path("candela.zsh"));
  for (const char* command : {"finetune", "generate", "eval", "merge", "bench ops", "data check"}) {
    std::istringstream help(run(fmt::format("{} --help", command)).out);
    int options = 0;
    for (std::string word; help >> word;) {
      if (!word.starts_with("--") ||
          word.find_first_not_of("-abcdefghijklmnopqrstuvwxyz0123456789") != std::string::npos)
        continue;
      ++options;
      EXPECT_NE(bash.find(word), std::string::npos) << command << " " << word;
      EXPECT_NE(zsh.find(word), std::string::npos) << command << " " << word;
    }
    EXPECT_GT(options, 3) << command;
  }
}

TEST_F(Completion, ZshTakesItsFile) {
  if (!has("zsh")) GTEST_SKIP() << "zsh is not there";
  write("type.zsh", fmt::format(R"(zmodload zsh/zpty
cd '{0}'
zpty shell zsh -f -i
zpty -w shell "PS1=; autoload -Uz compinit; compinit -u -d '{0}/dump'; source '{0}/candela.zsh'; echo ready"
ask() {{
  zpty -w -n shell "$1"$'\t'
  local answer= part
  repeat 40; do
    sleep 0.05
    while zpty -r -t shell part; do answer+=$part; done
    [[ $answer == *$2* ]] && break
  done
  zpty -w -n shell $'\025'
  [[ $answer == *$2* ]] || {{ echo "asked $1, wanted $2, got $answer"; failed=1; }}
}}
sleep 1
while zpty -r -t shell part; do :; done
ask 'candela finet' 'finetune'
ask 'candela finetune --learn' '--learning-rate'
ask 'candela finetune --schedule lin' 'linear'
ask 'candela finetune --data row' 'rows.jsonl'
ask 'candela bench prod' 'products'
exit ${{failed:-0}}
)",
                                folder_.string()));
  ASSERT_EQ(std::system(fmt::format("zsh -n '{}'", path("candela.zsh")).c_str()), 0);
  const int status =
      std::system(fmt::format("timeout 60 zsh -f '{}' >'{}' 2>&1", path("type.zsh"), path("typed")).c_str());
  EXPECT_EQ(status, 0) << read(path("typed"));
}

}  // namespace
}  // namespace candela
