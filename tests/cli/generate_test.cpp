#include <algorithm>

#include <candela/ops/copy.h>

#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

class GenerateCli : public Cli {
 protected:
  Outcome generate(const std::string& more, const std::string& before = "") const {
    return run(fmt::format("generate --model '{}' --max-tokens 12 {}", kModel, more), before);
  }
};

/// The continuation and nothing else: a newline is for terminals.
TEST_F(GenerateCli, StandardOutputHoldsTheContinuationAlone) {
  const Outcome result = generate("--prompt 'Once upon a time'");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out.rfind(", there was a litt", 0), 0U) << result.out;
  EXPECT_NE(result.out.back(), '\n');
  EXPECT_EQ(result.err, "");
}

TEST_F(GenerateCli, PromptsComeFromTheCommandLineAFileOrStandardInput) {
  const std::string expected = generate("--prompt 'Once upon a time'").out;
  EXPECT_EQ(generate("--prompt -", "printf 'Once upon a time' |").out, expected);
  write("p.txt", "Once upon a time");
  EXPECT_EQ(generate(fmt::format("--prompt-file '{}'", path("p.txt"))).out, expected);
  const Outcome missing = generate("--prompt-file /nowhere/p.txt");
  EXPECT_EQ(missing.status, 1);
  EXPECT_TRUE(missing.says("/nowhere/p.txt: no such file")) << missing.err;
  const Outcome empty = generate("--prompt ''");
  EXPECT_EQ(empty.status, 1);
  EXPECT_TRUE(empty.says("the prompt has no tokens")) << empty.err;
}

TEST_F(GenerateCli, TheGenerationConfigDecidesWhereNoFlagDoes) {
  const std::string model = write_tiny_model("model");
  const auto text = [&](const std::string& config, const std::string& flags) {
    write("model/generation_config.json", config);
    const Outcome result = run(
        fmt::format("generate --model '{}' --prompt 'Once upon a time' --max-tokens 16 {}", model, flags));
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const std::string greedy = text("{}", "");
  EXPECT_EQ(text(R"({"temperature": 0.7, "top_p": 0.9})", ""), greedy) << "do_sample is not set";
  const std::string sampled = text(R"({"do_sample": true, "temperature": 2.0, "top_k": 0})", "--seed 1");
  EXPECT_NE(sampled, greedy);
  EXPECT_EQ(sampled, text("{}", "--temperature 2 --seed 1"));
  EXPECT_EQ(text(R"({"do_sample": true, "temperature": 2.0, "top_k": 0})", "--temperature 0"), greedy);
  EXPECT_EQ(text(R"({"do_sample": true})", "--seed 1"), text("{}", "--temperature 1 --top-k 50 --seed 1"));
  EXPECT_EQ(text(R"({"do_sample": true, "temperature": 2.0, "top_k": 1})", "--seed 1"), greedy);
  EXPECT_EQ(text(R"({"do_sample": true, "temperature": 2.0, "top_k": 1})", "--top-k 0 --seed 1"), sampled);
  EXPECT_TRUE(run("generate --help").says("generation_config.json"));
}

/// A pipe has no size to look at first, and may never end.
TEST_F(GenerateCli, EndlessInputIsRefused) {
  const std::string model = write_tiny_model("model");
  for (const std::string& command :
       {fmt::format("generate --model '{}' --prompt -", model),
        fmt::format("tokenize --tokenizer '{}'", model), fmt::format("embed --model '{}'", model)}) {
    const Outcome result = run(command, "", "</dev/zero");
    EXPECT_EQ(result.status, 1) << command;
    EXPECT_TRUE(result.says("standard input: must be at most 268435456 bytes; got more")) << result.err;
  }
  write("template.jinja", "{{ messages[0].content }}");
  const Outcome rows = run(fmt::format("render --template '{}'", path("template.jinja")), "", "</dev/zero");
  EXPECT_EQ(rows.status, 1);
  EXPECT_TRUE(rows.says("standard input: a line must be at most 67108864 bytes; got more")) << rows.err;
}

TEST_F(GenerateCli, TemperaturesAndPenaltiesAreBounded) {
  const std::string model = write_tiny_model("model");
  const std::string command = fmt::format("generate --model '{}' --prompt Once --max-tokens 2", model);
  write("model/generation_config.json", R"({"do_sample": true, "temperature": 1e-310})");
  const Outcome file = run(command);
  EXPECT_EQ(file.status, 1);
  EXPECT_TRUE(file.says("generation_config.json: sampling: temperature must be 0 or in [1e-06, 1000000]"))
      << file.err;
  write("model/generation_config.json", R"({"repetition_penalty": 1e308})");
  EXPECT_EQ(run(command).status, 1);
  EXPECT_EQ(run(command + " --repetition-penalty 1.1").status, 0);
  for (const char* flag : {"--temperature 1e-310", "--temperature 1e300", "--repetition-penalty 1e308"})
    EXPECT_EQ(run(command + " --repetition-penalty 1 " + flag).status, 2) << flag;
}

TEST_F(GenerateCli, ADefaultOutOfRangeHindersOnlyWhatUsesIt) {
  const std::string model = write_tiny_model("model");
  write("model/generation_config.json", R"({"do_sample": true, "top_k": -1})");
  EXPECT_EQ(run(fmt::format("info '{}'", model)).status, 0);
  const std::string command = fmt::format("generate --model '{}' --prompt Once --max-tokens 2", model);
  const Outcome refused = run(command);
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.says("model/generation_config.json: sampling: top_k must be 0 (all) or more; got -1"))
      << refused.err;
  EXPECT_EQ(run(command + " --top-k 5").status, 0);
  EXPECT_EQ(run(command + " --temperature 0").status, 0);
  write("model/generation_config.json", R"({"top_k": -1, "top_p": 0})");
  EXPECT_EQ(run(command).status, 0) << "greedy choices use neither";
}

TEST_F(GenerateCli, EosCanBeIgnored) {
  const std::string model = write_tiny_model("model");
  // Whatever comes first is made the token that ends the text.
  const Outcome first =
      run(fmt::format("generate --model '{}' --prompt 'Once upon a time' --max-tokens 1", model));
  const Outcome ids =
      run(fmt::format("tokenize --tokenizer '{}'", model), fmt::format("printf '%s' '{}' |", first.out));
  const auto token = nlohmann::json::parse(ids.out).at(0).get<int>();
  write("model/generation_config.json", fmt::format("{{\"eos_token_id\": {}}}", token));
  const std::string command =
      fmt::format("generate --model '{}' --prompt 'Once upon a time' --max-tokens 9 --verbose", model);
  EXPECT_TRUE(run(command).says("ended by stop_token"));
  const Outcome ignored = run(command + " --ignore-eos");
  EXPECT_TRUE(ignored.says("9 generated")) << ignored.err;
}

TEST_F(GenerateCli, TuningKeepsWhatItMeasured) {
  const std::string model = write_tiny_model("model");
  const std::string command = fmt::format("generate --model '{}' --prompt 'Once upon' --max-tokens 4", model);
  const std::string cache = fmt::format("CANDELA_CACHE='{}'", path("cache"));
  const Outcome plain = run(command, cache);
  EXPECT_FALSE(exists("cache"));
  const Outcome tuned = run(command + " --tune", cache);
  EXPECT_EQ(tuned.status, 0) << tuned.err;
  EXPECT_EQ(tuned.out, plain.out);
  const std::string kept = read(path("cache/tuning.tsv"));
  EXPECT_NE(kept.find("gemm"), std::string::npos) << kept;
  write("cache/tuning.tsv", "not a table");
  const Outcome broken = run(command + " --tune", cache);
  EXPECT_EQ(broken.status, 1);
  EXPECT_TRUE(broken.says("tuning.tsv:1: is not a tuning file")) << broken.err;
}

/// As JSON writes it, so that white space shows; the marks of byte-level vocabularies do not.
TEST_F(GenerateCli, ProbabilitiesShowTheTextOfTokens) {
  const Outcome result = generate("--prompt 'Once upon a time' --probabilities");
  EXPECT_TRUE(result.says("\" there\"")) << result.err;
  EXPECT_FALSE(result.says("Ġ")) << result.err;
}

TEST_F(GenerateCli, ChatsNeedAModelThatKnowsChatMl) {
  EXPECT_EQ(generate("--prompt hi --chat --system 'Be brief.'").status, 0);
  const std::string model = write_tiny_model("model");
  auto tokenizer = read_json("model/tokenizer.json");
  for (auto& token : tokenizer["added_tokens"]) {
    if (token["content"] == "<|im_start|>") token["content"] = "<|turn|>";
  }
  auto& vocab = tokenizer["model"]["vocab"];
  if (vocab.contains("<|im_start|>")) {
    vocab["<|turn|>"] = vocab["<|im_start|>"];
    vocab.erase("<|im_start|>");
  }
  write("model/tokenizer.json", tokenizer.dump());
  const Outcome chat = run(fmt::format("generate --model '{}' --prompt hi --chat", model));
  EXPECT_EQ(chat.status, 1);
  EXPECT_TRUE(chat.says("ChatML template, whose <|im_start|> must be one token")) << chat.err;
  write("rows.jsonl",
        R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})");
  const Outcome tuned = run(finetune(fmt::format("--output '{}'", path("adapter")), model));
  EXPECT_EQ(tuned.status, 1);
  EXPECT_TRUE(tuned.says("rows.jsonl:1: chats are written in the ChatML template")) << tuned.err;
}

/// An adapter of another base runs, with a word of warning.
TEST_F(GenerateCli, AnAdapterOfAnotherModelIsReported) {
  write_rows("rows.jsonl");
  const std::string model = write_tiny_model("model");
  const std::string twin = write_tiny_model("twin");
  ASSERT_EQ(run(finetune(fmt::format("--output '{}'", path("adapter")), model)).status, 0);
  const auto with = [&](const std::string& base) {
    return run(
        fmt::format("generate --model '{}' --adapter '{}' --prompt x --max-tokens 2", base, path("adapter")));
  };
  EXPECT_EQ(with(model).err, "");
  const Outcome other = with(twin);
  EXPECT_EQ(other.status, 0);
  EXPECT_TRUE(other.says("the adapter was trained on " + std::filesystem::canonical(model).string()))
      << other.err;
  EXPECT_EQ(read_json("adapter/adapter_config.json")["base_model_name_or_path"],
            std::filesystem::canonical(model).string());
}

TEST_F(GenerateCli, Bf16RopeIsOfferedWhereAModelComputes) {
  for (const char* command : {"finetune", "generate", "eval", "logits"})
    EXPECT_TRUE(run(fmt::format("{} --help", command)).says("--bf16-rope")) << command;
  const Tensor ids = Tensor::from_values<std::int32_t>({587, 509, 262, 446, 10, 20, 30, 40}, {1, 8});
  write_safetensors(path("ids.st"), {{"input_ids", ids}});
  const std::string logits =
      fmt::format("logits --model '{}' --input '{}' --output '{}'", kModel, path("ids.st"), path("out.st"));
  ASSERT_EQ(run(logits).status, 0);
  const std::string exact = read(path("out.st"));
  ASSERT_EQ(run(logits + " --bf16-rope").status, 0);
  EXPECT_NE(read(path("out.st")), exact);
}

}  // namespace
}  // namespace candela
