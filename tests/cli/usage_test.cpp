#include <limits>

#include <candela/ops/copy.h>

#include "cli/cli.h"
#include "support/instruction_sets.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

class Usage : public Cli {
 protected:
  /// `arguments` must be refused with status 2 and name the option.
  void expect_refused(const std::string& arguments, const std::string& named) const {
    const Outcome result = run(arguments);
    EXPECT_EQ(result.status, 2) << arguments << ": " << result.err;
    EXPECT_TRUE(result.says(named)) << arguments << ": " << result.err;
    EXPECT_EQ(result.out, "") << arguments;
  }
};

/// Before any file is opened: none of those named here exists.
TEST_F(Usage, NumbersOutOfRangeAreRefused) {
  const std::string finetune = "finetune --model m --data d --output o ";
  for (const std::string option : {"--rank 0",
                                   "--rank -1",
                                   "--rank 1.5",
                                   "--rank 99999999999999999999",
                                   "--alpha nan",
                                   "--alpha 0",
                                   "--dropout 1",
                                   "--dropout -0.1",
                                   "--learning-rate 0",
                                   "--learning-rate nan",
                                   "--learning-rate inf",
                                   "--learning-rate 1e-3x",
                                   "--floor 2",
                                   "--floor nan",
                                   "--warmup -1",
                                   "--weight-decay -1",
                                   "--weight-decay inf",
                                   "--beta1 1",
                                   "--beta2 nan",
                                   "--eps 0",
                                   "--clip-norm -1",
                                   "--clip-norm nan",
                                   "--max-steps -1",
                                   "--epochs 0",
                                   "--epochs inf",
                                   "--epochs nan",
                                   "--max-length -1",
                                   "--max-length 99999999999",
                                   "--validate-every -1",
                                   "--threads -1",
                                   "--threads 100000",
                                   "--seed -1",
                                   "--batch-size 0",
                                   "--accumulation 0",
                                   "--save-every -1",
                                   "--valid-split 1",
                                   "--valid-split nan"}) {
    expect_refused(finetune + option, option.substr(0, option.find(' ')));
  }
  expect_refused(finetune + "--max-length 1", "--max-length: must be 0 or at least 2");
  const std::string generate = "generate --model m --prompt x ";
  for (const std::string option :
       {"--temperature nan", "--temperature -1", "--temperature inf", "--max-tokens 0", "--max-tokens -1",
        "--max-tokens 99999999999", "--top-k -1", "--top-k many", "--top-p 0", "--top-p 1.1", "--top-p nan",
        "--min-p 2", "--repetition-penalty 0", "--seed -1"}) {
    expect_refused(generate + option, option.substr(0, option.find(' ')));
  }
  const std::string eval = "eval --model m --data d ";
  for (const std::string option : {"--limit -1", "--max-tokens 0", "--batch-size 0", "--show -1"})
    expect_refused(eval + option, option.substr(0, option.find(' ')));
}

TEST_F(Usage, ChoicesNameWhatThereIs) {
  const std::string finetune = "finetune --model m --data d --output o ";
  expect_refused(finetune + "--schedule foo", "--schedule: must be one of constant, linear, cosine; got foo");
  for (const std::string command : {"finetune --data d --output o", "generate --prompt x", "eval --data d",
                                    "merge --adapter a --output o", "logits --input i --output o"}) {
    expect_refused(command + " --model m --dtype f8", "--dtype: must be one of auto, f32, bf16, f16; got f8");
    expect_refused(command + " --model m --device tpu", "--device");
  }
  expect_refused(finetune + "--rank-pattern q_proj", "--rank-pattern: expected PATTERN=NUMBER");
  expect_refused(finetune + "--target-regex 'q_(proj'", "\"q_(proj\"");
}

TEST_F(Usage, OptionsWithoutEffectAreRefused) {
  const std::string finetune = "finetune --model m --data d --output o ";
  expect_refused(finetune + "--target-modules q_proj --target-regex x", "--target-regex");
  expect_refused(finetune + "--valid v --valid-split 0.1", "--valid-split");
  expect_refused(finetune + "--floor 0.1 --schedule constant", "--floor");
  expect_refused(finetune + "--keep-checkpoints 2", "--save-every");
  for (const std::string own :
       {"--rank 4", "--alpha 3", "--dropout 0.1", "--rslora", "--target-modules q_proj", "--target-regex x",
        "--exclude-modules q_proj", "--rank-pattern a=1"}) {
    expect_refused(finetune + "--adapter a " + own, "--adapter");
  }
  expect_refused("generate --model m --prompt x --system y", "--chat");
  expect_refused("generate --model m --prompt x --prompt-file y", "--prompt");
  expect_refused("generate --model m", "--prompt");
  expect_refused("eval --model m --data d --compare", "--adapter");
  expect_refused("eval --model m --data d --show 3 --no-answers", "--no-answers");
  expect_refused("eval --model m --data d --show 3 --json", "--json");
  expect_refused("eval --model m --data d --no-answers --max-tokens 3", "--max-tokens");
  const std::string model = write_tiny_model("model");
  for (const std::string filter : {"--top-k 3", "--top-p 0.5", "--min-p 0.1"})
    expect_refused(fmt::format("generate --model '{}' --prompt x {}", model, filter), "--temperature");
  write_rows("rows.jsonl");
  expect_refused(fmt::format("finetune --model '{}' --data '{}' --output '{}' --validate-every 2", model,
                             path("rows.jsonl"), path("o")),
                 "--validate-every");
}

TEST_F(Usage, BenchesCheckTheirOptionsBeforeAnythingIsMeasured) {
  expect_refused("bench ops --family foo", "--family: must be one of");
  expect_refused("bench ops --op foo", "--op: must be one of");
  expect_refused("bench ops --family softmax --op rms_norm",
                 "there is no case of --family softmax, --op rms_norm");
  expect_refused("bench ops --dtype foo", "--dtype");
  expect_refused("bench ops --device foo", "--device");
  expect_refused("bench ops --why --json", "--json");
  expect_refused("bench products --size 0", "--size");
  for (const std::string option : {"--batch-size 0", "--length 0", "--rank 0", "--dtype foo", "--device foo"})
    expect_refused("bench train --model m " + option, option.substr(0, option.find(' ')));
  expect_refused("bench train --model m --rank 65537",
                 "--rank: must be a whole number in [1, 65536]; got 65537");
  expect_refused("bench train --model m --adapter a", "--adapter");  // it trains one of its own
  for (const std::string option : {"--context -5", "--dtype foo", "--device foo", "--model ''"})
    expect_refused("bench decode " + option, option.substr(0, option.find(' ')));
  for (const std::string bench : {"products", "train --model m", "decode"})
    expect_refused(fmt::format("bench {} --seconds 0", bench), "--seconds");
  expect_refused("bench tokenize", "--tokenizer");
  expect_refused("bench tokenize --tokenizer t --file ''", "--file");
}

TEST_F(Usage, UnknownCommandsAreNamedWithThoseThereAre) {
  expect_refused("foo", "unknown command \"foo\"; known: finetune, verify, generate, chat, eval,");
  expect_refused("foo --model m", "unknown command \"foo\"");
  expect_refused("bench foo",
                 "unknown command \"bench foo\"; known: ops, products, train, table, decode, tokenize");
}

/// An empty path is a variable of a script that was not set; it would stand for the current folder.
TEST_F(Usage, EmptyTextsAreRefused) {
  const std::string finetune = "finetune --model m --data d --output o ";
  for (const std::string option : {"--model ''", "--data ''", "--output ''", "--valid ''", "--adapter ''",
                                   "--output '' --plan", "--target-modules ''", "--target-regex ''"})
    expect_refused(finetune + option, option.substr(0, option.find(' ')) + ": must not be empty");
  expect_refused(finetune + "--config ''", "--config: must not be empty");
  expect_refused("generate --model m --prompt x --stop ''", "--stop: must not be empty");
  expect_refused("generate --model m --prompt-file ''", "--prompt-file: must not be empty");
  expect_refused("eval --model m --data ''", "--data: must not be empty");
  expect_refused("merge --model m --adapter a --output ''", "--output: must not be empty");
  expect_refused("logits --model m --input i --output ''", "--output: must not be empty");
  expect_refused("logits --model m --input '' --output o", "--input: must not be empty");
  expect_refused("tokenize --tokenizer ''", "--tokenizer: must not be empty");
  expect_refused("info ''", "must not be empty");
}

TEST_F(Usage, ThreadsAreAtMostTheCoresAndFollowTheEnvironment) {
  const Outcome all = run("devices", "env -u OMP_NUM_THREADS");
  const Outcome one = run("devices", "OMP_NUM_THREADS=1");
  EXPECT_NE(one.out.find(", 1 threads"), std::string::npos) << one.out;
  EXPECT_EQ(run("devices", "OMP_NUM_THREADS=9999").out, all.out);
  const std::string model = write_tiny_model("model");
  const Outcome many =
      run(fmt::format("generate --model '{}' --prompt x --max-tokens 2 --threads 1000", model));
  EXPECT_EQ(many.status, 0) << many.err;
  EXPECT_TRUE(many.says("--threads 1000: using the")) << many.err;
}

TEST_F(Usage, DevicesTellWhatWasChosenWithinTheLimitOfInstructions) {
  const std::string all = run("devices").out;
  for (const std::string name : {"instruction set: ", "product library: ", "bf16 products: "})
    EXPECT_NE(all.find("\n           " + name), std::string::npos) << all;
  if (!test::has_lesser_instruction_sets()) GTEST_SKIP() << "not on x86-64";
  const auto held = [&](const std::string& variables) { return run("devices", variables); };
  const Outcome sse4 = held("CANDELA_MAX_CPU_ISA=sse4");
  EXPECT_TRUE(sse4.says("threads, SSE4\n")) << sse4.out;
  EXPECT_TRUE(sse4.says("instruction set: SSE4 (CANDELA_MAX_CPU_ISA=sse4)")) << sse4.out;
  EXPECT_TRUE(sse4.says(", up to SSE4.1")) << sse4.out;
  EXPECT_TRUE(sse4.says("bf16 products: blocked")) << sse4.out;
  for (const std::string set : {"avx2", "AVX2", "avx512"}) {
    const Outcome some = held("CANDELA_MAX_CPU_ISA=" + set);
    EXPECT_TRUE(some.says("(CANDELA_MAX_CPU_ISA=" + set + ")")) << some.out;
    EXPECT_TRUE(some.says("bf16 products: blocked")) << some.out;
    EXPECT_FALSE(some.says("bf16\n")) << some.out;
  }
  EXPECT_FALSE(held("CANDELA_MAX_CPU_ISA=avx2").says("AVX-512"));
  EXPECT_FALSE(held("CANDELA_MAX_CPU_ISA=avx512_bf16").says("AMX"));
  // oneDNN's own variable stands where it is lower, and does not lift the other.
  EXPECT_TRUE(held("DNNL_MAX_CPU_ISA=SSE41").says(", up to SSE4.1"));
  EXPECT_TRUE(held("DNNL_MAX_CPU_ISA=SSE41 CANDELA_MAX_CPU_ISA=avx512").says(", up to SSE4.1"));
  EXPECT_TRUE(held("DNNL_MAX_CPU_ISA=AVX512_CORE_BF16 CANDELA_MAX_CPU_ISA=sse4").says(", up to SSE4.1"));
  const Outcome unknown = held("CANDELA_MAX_CPU_ISA=avx3");
  EXPECT_EQ(unknown.status, 1);
  EXPECT_TRUE(
      unknown.says("cpu: CANDELA_MAX_CPU_ISA must be sse4, avx2, avx512 or avx512_bf16, or unset; got avx3"))
      << unknown.err;
}

/// A script that reads nothing back must not take a lost result for a good one.
TEST_F(Usage, OutputThatCannotBeWrittenIsAFailure) {
  const std::string model = write_tiny_model("model");
  write_rows("rows.jsonl", 4);
  for (const std::string& command :
       {fmt::format("info '{}'", model),
        fmt::format("generate --model '{}' --prompt x --max-tokens 3", model),
        fmt::format("eval --model '{}' --data '{}' --no-answers --json", model, path("rows.jsonl")),
        fmt::format("tokenize --tokenizer '{}' </dev/null", model), std::string("devices"),
        std::string("--help"), std::string("--version"), std::string("finetune --help"),
        finetune(fmt::format("--output '{}'", path("adapter")), model)}) {
    for (const std::string where : {">/dev/full", ">&-"}) {
      const Outcome result = run(command, "", where);
      EXPECT_EQ(result.status, 1) << command << where << result.err;
      EXPECT_TRUE(result.says("standard output could not be written")) << command << where << result.err;
    }
  }
  EXPECT_FALSE(exists("adapter")) << "the plan could not be shown";
}

/// With its standard streams closed, a process gets their numbers for its files.
TEST_F(Usage, ClosedStreamsAreNotMistakenForFiles) {
  const std::string model = write_tiny_model("model");
  const Tensor ids = Tensor::from_values<std::int32_t>({5, 6, 7}, {1, 3});
  write_safetensors(path("ids.st"), {{"input_ids", ids}});
  const std::string logits =
      fmt::format("logits --model '{}' --input '{}' --output '{}'", model, path("ids.st"), path("out.st"));
  EXPECT_EQ(run(logits, "", "<&- >&- 2>&-").status, 0);
  EXPECT_EQ(SafetensorsReader::open(path("out.st")).tensor("logits").shape(), (Shape{1, 3, 4096}));
  write_rows("rows.jsonl");
  const Outcome tuned = run(finetune(fmt::format("--output '{}'", path("adapter")), model), "", "2>&-");
  EXPECT_EQ(tuned.status, 0);
}

TEST_F(Usage, VersionIsTold) {
  const Outcome result = run("--version");
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out.rfind("candela 0.", 0), 0U) << result.out;
}

/// `logits` writes in place of what is there, which must be none of what it reads.
TEST_F(Usage, LogitsDoNotReplaceWhatTheyComeFrom) {
  const std::string model = write_tiny_model("model");
  write_rows("rows.jsonl", 4);
  ASSERT_EQ(run(finetune(fmt::format("--output '{}' --max-steps 1", path("adapter")), model)).status, 0);
  const Tensor ids = Tensor::from_values<std::int32_t>({5, 6, 7}, {1, 3});
  write_safetensors(path("ids.st"), {{"input_ids", ids}});
  std::filesystem::create_symlink(path("ids.st"), path("link.st"));
  for (const std::string file : {"ids.st", "link.st", "model/model.safetensors", "model/out.st",
                                 "adapter/adapter_model.safetensors"}) {
    const std::string before = read(path(file));
    const Outcome result = run(fmt::format("logits --model '{}' --adapter '{}' --input '{}' --output '{}'",
                                           model, path("adapter"), path("ids.st"), path(file)));
    EXPECT_EQ(result.status, 1) << file << result.err;
    EXPECT_TRUE(result.says("choose another --output")) << file << result.err;
    EXPECT_EQ(read(path(file)), before) << file;
  }
}

TEST_F(Usage, LogitsOfABrokenModelAreNotWritten) {
  const std::string model = write_tiny_model("model");
  std::vector<std::pair<std::string, Tensor>> tensors;
  {
    const SafetensorsReader reader = SafetensorsReader::open(model);
    for (const std::string& name : reader.names()) tensors.emplace_back(name, clone(reader.tensor(name)));
  }
  for (const auto& [name, tensor] : tensors) {
    if (name == "model.norm.weight") fill_(tensor, std::numeric_limits<double>::quiet_NaN());
  }
  write_safetensors(model + "/model.safetensors", tensors);
  write_safetensors(path("ids.st"), {{"input_ids", Tensor::from_values<std::int32_t>({5, 6, 7}, {1, 3})}});
  const Outcome result = run(
      fmt::format("logits --model '{}' --input '{}' --output '{}'", model, path("ids.st"), path("out.st")));
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_TRUE(result.says("model.norm.weight (nan at element 0) is no finite number")) << result.err;
  EXPECT_FALSE(exists("out.st"));
  const Outcome text = run(fmt::format("generate --model '{}' --prompt x", model));
  EXPECT_EQ(text.status, 1) << text.err;
  EXPECT_TRUE(text.says("model.norm.weight (nan at element 0) is no finite number")) << text.err;
}

TEST_F(Usage, IdsAndLabelsMustBeTokens) {
  const std::string model = write_tiny_model("model");
  const auto logits = [&](const std::vector<std::pair<std::string, Tensor>>& tensors) {
    write_safetensors(path("in.st"), tensors);
    return run(
        fmt::format("logits --model '{}' --input '{}' --output '{}'", model, path("in.st"), path("out.st")));
  };
  const Tensor good = Tensor::from_values<std::int64_t>({1, 2, 3}, {1, 3});
  const auto ids = [](std::vector<std::int64_t> values) { return Tensor::from_values(values, {1, 3}); };
  EXPECT_EQ(logits({{"input_ids", good}, {"labels", ids({-100, 2, 3})}}).status, 0);
  const std::vector<std::pair<std::vector<std::pair<std::string, Tensor>>, std::string>> wrong = {
      {{{"input_ids", Tensor::from_values<float>({1.5F, 2, 3}, {1, 3})}},
       "input_ids: must have an integer dtype"},
      {{{"input_ids", ids({1, 2, 4294967297})}},
       "input_ids: must be in [0, 4096); got 4294967297 at element 2"},
      {{{"input_ids", ids({1, -1, 3})}}, "input_ids: must be in [0, 4096); got -1 at element 1"},
      {{{"input_ids", ids({1, 2, 4096})}}, "input_ids: must be in [0, 4096)"},
      {{{"input_ids", good}, {"labels", ids({1, 4294967196, 3})}},
       "labels: must be in [0, 4096) or -100; got 4294967196"},
      {{{"input_ids", good}, {"labels", ids({1, -5, 3})}}, "labels: must be in [0, 4096) or -100; got -5"},
      {{{"input_ids", good}, {"labels", Tensor::from_values<float>({1, 2, 3}, {1, 3})}},
       "labels: must have an integer dtype"},
      {{{"input_ids", Tensor::from_values<std::int64_t>({1, 2, 3}, {3})}}, "input_ids: must be [B, T]"},
  };
  for (const auto& [tensors, error] : wrong) {
    const Outcome result = logits(tensors);
    EXPECT_EQ(result.status, 1) << error;
    EXPECT_TRUE(result.says(error)) << error << ": " << result.err;
  }
}

}  // namespace
}  // namespace candela
