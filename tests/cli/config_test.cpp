#include <algorithm>
#include <yaml-cpp/yaml.h>

#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

class Config : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl");
    model_ = write_tiny_model("model");
  }
  /// finetune with the usual options in front of `more`; the adapter goes to OUT/`output`.
  Outcome tune(const std::string& output, const std::string& more) const {
    return run(finetune(fmt::format("--output '{}' {}", path(output), more), model_));
  }
  YAML::Node saved(const std::string& output) const {
    return YAML::LoadFile(path(output + "/finetune.yaml"));
  }
  std::vector<std::string> targets(const std::string& output) const {
    auto names = read_json(output + "/adapter_config.json")["target_modules"].get<std::vector<std::string>>();
    std::sort(names.begin(), names.end());
    return names;
  }
  std::string model_;
};

TEST_F(Config, TheSavedConfigurationRepeatsTheRun) {
  ASSERT_EQ(tune("one", "--learning-rate 1e-3 --target-modules q_proj v_proj").status, 0);
  const Outcome again =
      run(fmt::format("finetune --config '{}' --output '{}'", path("one/finetune.yaml"), path("two")));
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read(path("one/adapter_model.safetensors")), read(path("two/adapter_model.safetensors")));
}

TEST_F(Config, TheCommandLineWinsForListsToo) {
  ASSERT_EQ(tune("one", "--target-modules k_proj o_proj").status, 0);
  const Outcome again = run(fmt::format("finetune --config '{}' --output '{}' --target-modules q_proj",
                                        path("one/finetune.yaml"), path("two")));
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(targets("two"), (std::vector<std::string>{"q_proj"}));
  EXPECT_EQ(saved("two")["target-modules"].as<std::vector<std::string>>(),
            (std::vector<std::string>{"q_proj"}));
}

TEST_F(Config, TheDefaultTargetsFeedBackAndGiveWay) {
  ASSERT_EQ(tune("one", "").status, 0);
  const std::string config = fmt::format("finetune --config '{}' --quiet", path("one/finetune.yaml"));
  const Outcome same = run(fmt::format("{} --output '{}'", config, path("two")));
  ASSERT_EQ(same.status, 0) << same.err;
  EXPECT_EQ(read(path("one/adapter_model.safetensors")), read(path("two/adapter_model.safetensors")));
  const Outcome other = run(fmt::format("{} --output '{}' --target-regex '.*q_proj'", config, path("three")));
  ASSERT_EQ(other.status, 0) << other.err;
  EXPECT_EQ(read_json("three/adapter_config.json")["target_modules"], ".*q_proj");
  const Outcome third =
      run(fmt::format("finetune --config '{}' --output '{}'", path("three/finetune.yaml"), path("four")));
  ASSERT_EQ(third.status, 0) << third.err;
}

TEST_F(Config, AScalarGivenTwiceIsSavedAsItsLastValue) {
  ASSERT_EQ(tune("one", "--rank 2 --rank 3 --seed 4 --seed 5").status, 0);
  EXPECT_EQ(saved("one")["rank"].as<int>(), 3);
  EXPECT_EQ(saved("one")["seed"].as<int>(), 5);
  EXPECT_EQ(read_json("one/adapter_config.json")["r"], 3);
  const Outcome again =
      run(fmt::format("finetune --config '{}' --output '{}'", path("one/finetune.yaml"), path("two")));
  EXPECT_EQ(again.status, 0) << again.err;
}

TEST_F(Config, WhatAppliesToOneRunOnlyIsNotSaved) {
  ASSERT_EQ(tune("one", "--overwrite").status, 0);
  EXPECT_FALSE(saved("one")["overwrite"].IsDefined());
  EXPECT_FALSE(saved("one")["plan"].IsDefined());
}

/// A wrong config file is wrong usage: status 2, and file, line and key are named.
TEST_F(Config, WhatIsWrongInAFileIsNamedWithItsLine) {
  struct Case {
    const char* text;
    const char* error;
  };
  for (const Case& wrong : std::initializer_list<Case>{
           {"model: x\nlearning_rat: 1\n", "c.yaml:2: learning_rat: is no option of `candela finetune`"},
           {"rank: 4\nmax-steps: many\n", "c.yaml:2: max-steps: must be"},
           {"rank: 0\n", "c.yaml:1: rank: must be"},
           {"rank: 016\n",
            "c.yaml:1: rank: must be a whole number in [1, 65536], without a leading zero; got 016"},
           {"rank-pattern: [q_proj=016]\n", "without a leading zero; got 016"},
           {"rank: [1, 2]\n", "c.yaml:1: rank: takes one value; got a list"},
           {"target-modules: []\n", "c.yaml:1: target-modules: is an empty list"},
           {"rank: 4\nseed: 1\nrank: 5\n", "c.yaml:3: rank: occurs a second time"},
           {"rank: 4\n---\nrank: 5\n", "c.yaml: holds 2 documents"},
           {"rank:\n", "c.yaml:1: rank: has no value (null)"},
           {"rank: {a: 1}\n", "c.yaml:1: rank: expected a value"},
           {"truncate: perhaps\n", "c.yaml:1: truncate: is a switch; expected true or false; got perhaps"},
           {"schedule: foo\n", "c.yaml:1: schedule: must be one of constant, linear, cosine; got foo"},
           {"- rank\n", "c.yaml: expected a mapping"},
           {"rank: [\n", "c.yaml:"},
           {"rank: 4\nadapter: a\n", "c.yaml:2: adapter: excludes rank (line 1)"},
           {"adapter: a\n\nrank: 4\n", "c.yaml:3: rank: excludes adapter (line 1)"},
           {"valid: v\nvalid-split: 0.5\n", "c.yaml:2: valid-split: excludes valid (line 1)"},
           {"keep-checkpoints: 2\n", "c.yaml:1: keep-checkpoints: has no effect without save-every"},
           {"rank-pattern: [q_proj]\n", "c.yaml:1: rank-pattern: expected PATTERN=NUMBER; got \"q_proj\""},
           {"rank-pattern: [q_proj=0]\n", "c.yaml:1: rank-pattern: expected PATTERN=NUMBER; the number of"},
           {"seed: 1\nalpha-pattern: ['(=1']\n",
            "c.yaml:2: alpha-pattern: as a regular expression: the pattern"},
           {"target-regex: '('\n", "c.yaml:1: target-regex: as a regular expression: the pattern \"(\""},
           {"valid: ''\n", "c.yaml:1: valid: must not be empty"},
       }) {
    write("c.yaml", wrong.text);
    const Outcome result = run(fmt::format("finetune --config '{}'", path("c.yaml")));
    EXPECT_EQ(result.status, 2) << wrong.text << result.err;
    EXPECT_TRUE(result.says(wrong.error)) << wrong.text << result.err;
  }
  const Outcome missing = run("finetune --config /nowhere/c.yaml");
  EXPECT_EQ(missing.status, 2);
  EXPECT_TRUE(missing.says("/nowhere/c.yaml: no such file")) << missing.err;
  const Outcome folder = run(fmt::format("finetune --config '{}'", path("")));
  EXPECT_EQ(folder.status, 2);
  EXPECT_TRUE(folder.says("is a folder; --config takes a YAML or JSON file")) << folder.err;
}

/// One text, repeated by aliases: a small file must not ask for any amount of memory.
TEST_F(Config, AliasesThatOutgrowTheFileAreRefused) {
  std::string text = "target-modules: [&a " + std::string(1000, 'x');
  for (int i = 0; i < 1000; ++i) text += ", *a";
  write("c.yaml", text + "]\n");
  const Outcome refused = run(fmt::format("finetune --config '{}'", path("c.yaml")));
  EXPECT_EQ(refused.status, 2);
  EXPECT_TRUE(refused.says("c.yaml:1: the values must not outgrow the file")) << refused.err;
  write("c.yaml", "model: &m a\nadapter: *m\noutput: *m\nrank: 2\n");
  EXPECT_TRUE(run(fmt::format("finetune --config '{}'", path("c.yaml"))).says("rank: excludes adapter"));
  const std::string long_path(1000, 'a');
  write("c.yaml", "model: &m " + long_path + "\nadapter: *m\noutput: *m\nvalid: *m\nrank: 2\n");
  const Outcome read = run(fmt::format("finetune --config '{}'", path("c.yaml")));
  EXPECT_TRUE(read.says("rank: excludes adapter")) << read.err;
}

/// What the command line excludes is left out of the file, but never without a word; and a run that was to go
/// on from an adapter does not start anew.
TEST_F(Config, WhatTheCommandLineExcludesIsReported) {
  ASSERT_EQ(tune("one", "").status, 0);
  write("c.yaml", fmt::format("quiet: true\nadapter: '{}'\n", path("one")));
  const Outcome refused = tune("two", fmt::format("--config '{}'", path("c.yaml")));
  EXPECT_EQ(refused.status, 2) << refused.err;
  EXPECT_TRUE(refused.says("c.yaml:2: adapter: --rank on the command line excludes it")) << refused.err;
  EXPECT_FALSE(exists("two"));
  const Outcome further = run(fmt::format("finetune --config '{}' --adapter '{}' --output '{}'",
                                          path("one/finetune.yaml"), path("one"), path("two")));
  ASSERT_EQ(further.status, 0) << further.err;
  EXPECT_TRUE(further.says("one/finetune.yaml: left out, as --adapter on the command line excludes: rank, "))
      << further.err;
  EXPECT_FALSE(tune("three", "").says("left out"));
}

TEST_F(Config, SwitchesTakeYamlsBooleans) {
  for (const char* yes : {"true", "yes", "on", "True", "YES"}) {
    write("c.yaml", fmt::format("quiet: {}\nrslora: {}\n", yes, yes));
    ASSERT_EQ(tune("one", fmt::format("--overwrite --config '{}'", path("c.yaml"))).status, 0) << yes;
    EXPECT_EQ(read_json("one/adapter_config.json")["use_rslora"], true) << yes;
  }
  write("c.yaml", "rslora: off\n");
  ASSERT_EQ(tune("one", fmt::format("--overwrite --config '{}'", path("c.yaml"))).status, 0);
  EXPECT_EQ(read_json("one/adapter_config.json")["use_rslora"], false);
  write("c.yaml", "rslora: on\n");
  ASSERT_EQ(tune("one", fmt::format("--overwrite --rslora=false --config '{}'", path("c.yaml"))).status, 0);
  EXPECT_EQ(read_json("one/adapter_config.json")["use_rslora"], false);
}

TEST_F(Config, JsonIsTakenWithTabsAndItsErrorsHaveLines) {
  write("c.json",
        "{\n\t\"rank\": 3,\n\t\"target-modules\": [\"q_proj\", \"k_proj\"],\n\t\"rslora\": true\n}\n");
  const Outcome good =
      run(fmt::format("finetune --model '{}' --data '{}' --max-steps 1 --output '{}' --config '{}'", model_,
                      path("rows.jsonl"), path("one"), path("c.json")));
  ASSERT_EQ(good.status, 0) << good.err;
  EXPECT_EQ(read_json("one/adapter_config.json")["r"], 3);
  EXPECT_EQ(targets("one"), (std::vector<std::string>{"k_proj", "q_proj"}));
  for (const auto& [text, error] : std::initializer_list<std::pair<const char*, const char*>>{
           {"{\n\t\"seed\": 3,\n\t\"rank\": 0\n}", "c.json:3: rank: must be"},
           {"{\n\t\"seed\": null\n}", "c.json:2: seed: has no value (null)"},
           {"{\n\"seed\": 1,\n\"seed\": 2}", "c.json:3: seed: occurs a second time; keep one of them"},
           {"{\n\"rank\": 1,\n\"adapter\": \"a\"}", "c.json:3: adapter: excludes rank (line 2)"},
           {"{\n\"seed\": }", "c.json"},
           {"{}%{\"\xFF\": 2}", "c.json: must be valid JSON; at column 3: a NUL byte"},
           {R"({"output": "out\u0000.safe"})", "c.json:1: \"output\": must not hold a NUL"},
       }) {
    std::string content = text;
    std::replace(content.begin(), content.end(), '%', '\0');
    write("c.json", content);
    const Outcome result = run(fmt::format("finetune --config '{}'", path("c.json")));
    EXPECT_EQ(result.status, 2) << text << result.err;
    EXPECT_TRUE(result.says(error)) << text << result.err;
  }
}

/// Brackets, commas and backslashes mean nothing in a list option.
TEST_F(Config, ListValuesAreTakenLiterally) {
  const std::string start = fmt::format("generate --model '{}' --prompt x --max-tokens 2 ", model_);
  for (const char* text : {"[/INST]", "[a,b]", "a,b", "\\n", "[[x]]", "[]"}) {
    const Outcome result = run(start + fmt::format("--stop '{}' --verbose", text));
    EXPECT_EQ(result.status, 0) << text << result.err;
  }
  // 'e' alone would stop what "[e,a]" must not.
  const std::string stories =
      fmt::format("generate --model '{}' --prompt 'Once upon a time' --max-tokens 12 ", kModel);
  EXPECT_EQ(run(stories + "--stop '[e,a]'").out, run(stories).out);
  const Outcome named =
      run(finetune(fmt::format("--output '{}' --target-modules '[q_proj]'", path("a")), model_));
  EXPECT_TRUE(named.says("target [q_proj] matches no linear layer")) << named.err;
  write("c.yaml", "stop: '[/INST]'\n");
  EXPECT_EQ(run(start + fmt::format("--config '{}'", path("c.yaml"))).status, 0);
}

}  // namespace
}  // namespace candela
