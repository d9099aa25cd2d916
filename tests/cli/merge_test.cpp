#include <limits>
#include <sys/stat.h>

#include <candela/lora/lora.h>
#include <candela/ops/copy.h>

#include "cli/cli.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::Cli;
using test::Outcome;

class Merge : public Cli {
 protected:
  /// The adapter DIR/adapter on `targets` of the model, with every B filled so that it does something.
  void write_adapter(const std::string& model, std::vector<std::string> targets,
                     const std::string& name = "adapter") const {
    const auto loaded = load_model(model, {DType::F32});
    LoraConfig config;
    config.rank = 2;
    config.targets = {std::move(targets), ""};
    const Lora lora = Lora::attach(*loaded, config, 1);
    for (const NamedTensor& parameter : lora.parameters()) {
      if (parameter.name.ends_with("lora_B.weight")) fill_(parameter.tensor.detach(), 0.02);
    }
    lora.save(path(name), model);
  }
  Outcome merge(const std::string& model, const std::string& output, const std::string& more = "",
                const std::string& before = "") const {
    return run(fmt::format("merge --model '{}' --adapter '{}' --output '{}' {}", model, path("adapter"),
                           output, more),
               before);
  }
  /// The logits that `candela logits` gives for a few ids.
  std::vector<float> logits(const std::string& model, const std::string& more = "") const {
    const Tensor ids = Tensor::from_values<std::int32_t>({587, 509, 262, 446, 10, 20}, {1, 6});
    write_safetensors(path("ids.st"), {{"input_ids", ids}});
    const Outcome result = run(fmt::format("logits --model '{}' --input '{}' --output '{}' {}", model,
                                           path("ids.st"), path("logits.st"), more));
    EXPECT_EQ(result.status, 0) << result.err;
    return SafetensorsReader::open(path("logits.st")).tensor("logits").to_vector<float>();
  }
  static void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4) << i;
  }
  /// Names of what lies in `folder`.
  static std::vector<std::string> listing(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
};

/// A tied output layer that an adapter was merged into is tied no more, and config.json must say so.
TEST_F(Merge, AnAdapterOnATiedOutputLayerSurvives) {
  const std::string model = write_tiny_model("model", R"(, "tie_word_embeddings": true)");
  write_adapter(model, {"lm_head", "q_proj"});
  ASSERT_EQ(merge(model, path("merged")).status, 0);
  EXPECT_EQ(read_json("merged/config.json")["tie_word_embeddings"], false);
  const std::vector<float> adapted = logits(model, fmt::format("--adapter '{}'", path("adapter")));
  EXPECT_NE(adapted, logits(model));
  expect_near(logits(path("merged")), adapted);
}

TEST_F(Merge, AnOutputLayerThatIsNotTheEmbeddingAlthoughTiedIsRefused) {
  const std::string model = write_tiny_model("model", R"(, "tie_word_embeddings": true)");
  const SafetensorsReader reader = SafetensorsReader::open(model);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const std::string& name : reader.names()) tensors.emplace_back(name, clone(reader.tensor(name)));
  tensors.emplace_back("lm_head.weight", clone(reader.tensor("model.embed_tokens.weight")));
  write_safetensors(model + "/model.safetensors", tensors);
  logits(model);  // a second copy is fine
  fill_(slice(tensors.back().second, 0, 0, 1), 1.5);
  write_safetensors(model + "/model.safetensors", tensors);
  const Outcome result = run(fmt::format("generate --model '{}' --prompt x", model));
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(result.says("lm_head.weight")) << result.err;
  EXPECT_TRUE(result.says("tie_word_embeddings")) << result.err;
}

TEST_F(Merge, TheDtypeIsWrittenUnderTheKeyOfTheSource) {
  const std::string model = write_tiny_model("model", R"(, "torch_dtype": "bfloat16")");
  write_adapter(model, {"q_proj"});
  ASSERT_EQ(merge(model, path("a"), "--dtype f32").status, 0);
  EXPECT_EQ(read_json("a/config.json")["torch_dtype"], "float32");
  EXPECT_FALSE(read_json("a/config.json").contains("dtype"));
  ASSERT_EQ(merge(model, path("b"), "--dtype f16").status, 0);
  EXPECT_EQ(read_json("b/config.json")["torch_dtype"], "float16");
  write_tiny_model("model", R"(, "dtype": "float32")");
  ASSERT_EQ(merge(model, path("c"), "--dtype bf16").status, 0);
  EXPECT_EQ(read_json("c/config.json")["dtype"], "bfloat16");
  ASSERT_EQ(merge(model, path("d")).status, 0);
  EXPECT_EQ(read(path("d/config.json")), read(model + "/config.json"));
}

/// A model in shards; merging into its own folder would leave shards and a whole file side by side.
TEST_F(Merge, IntoTheModelsOwnFolderOrAnotherModelsIsRefused) {
  const std::string model = write_tiny_model("model");
  write_adapter(model, {"q_proj"});
  fs::rename(model + "/model.safetensors", model + "/model-00001-of-00001.safetensors");
  nlohmann::json index;
  const SafetensorsReader shard = SafetensorsReader::open(model + "/model-00001-of-00001.safetensors");
  for (const std::string& name : shard.names())
    index["weight_map"][name] = "model-00001-of-00001.safetensors";
  write("model/model.safetensors.index.json", index.dump());
  const std::vector<std::string> before = listing(model);
  fs::create_directory_symlink(model, path("link"));
  for (const std::string& output : {model, model + "/.", path("link"), path("other/../model")}) {
    const Outcome result = merge(model, output);
    EXPECT_EQ(result.status, 1) << output << result.err;
    EXPECT_TRUE(result.says("is the model's own folder")) << output << result.err;
    EXPECT_EQ(listing(model), before);
  }
  write("full/model.safetensors.index.json", "{}");
  write("shards/model-00001-of-00002.safetensors", "x");
  write("whole/model.safetensors", "x");
  for (const std::string name : {"full", "shards", "whole"}) {
    const std::vector<std::string> held = listing(path(name));
    const Outcome result = merge(model, path(name));
    EXPECT_EQ(result.status, 1) << name << result.err;
    EXPECT_TRUE(result.says("choose another folder (--output)")) << name << result.err;
    EXPECT_EQ(listing(path(name)), held);
  }
}

/// A limit on the size of files stands for a disk that fills: some write fails half-way, whichever it is.
TEST_F(Merge, ADiskThatFillsLeavesNothingBehind) {
  const std::string model = write_tiny_model("model");
  write_adapter(model, {"q_proj"});
  // In units of 512 or 1024 bytes: too small for the tokenizer, for the weights.
  for (const char* limit : {"1", "64", "300", "500"}) {
    const Outcome result = merge(model, path("merged"), "", fmt::format("ulimit -f {};", limit));
    EXPECT_EQ(result.status, 1) << limit << result.err;
    EXPECT_TRUE(result.says("could not be written: File too large; free some space")) << result.err;
    EXPECT_FALSE(exists("merged")) << limit;
  }
  fs::create_directories(path("kept"));
  write("kept/notes.txt", "mine");
  EXPECT_EQ(merge(model, path("kept"), "", "ulimit -f 64;").status, 1);
  EXPECT_EQ(listing(path("kept")), std::vector<std::string>{"notes.txt"});
}

TEST_F(Merge, CopiedFilesAreTheUsersOwnWhateverTheSourceAllows) {
  const std::string model = write_tiny_model("model");
  write_adapter(model, {"q_proj"});
  write("model/weights.bin", "not copied");
  write("model/model.gguf", "not copied");
  write("model/.hidden", "not copied");
  write("model/LICENSE", "copied");
  ASSERT_EQ(::chmod((model + "/tokenizer.json").c_str(), 0444), 0);
  ASSERT_EQ(merge(model, path("merged"), "", "umask 022;").status, 0);
  struct stat status {};
  ASSERT_EQ(::stat(path("merged/tokenizer.json").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0644U);
  EXPECT_EQ(read(path("merged/tokenizer.json")), read(model + "/tokenizer.json"));
  EXPECT_EQ(listing(path("merged")), (std::vector<std::string>{"LICENSE", "config.json", "model.safetensors",
                                                               "tokenizer.json", "tokenizer_config.json"}));
}

TEST_F(Merge, WhatIsNotFiniteIsNamedAndNothingIsWritten) {
  const std::string model = write_tiny_model("model");
  write_adapter(model, {"q_proj"});
  const std::string file = path("adapter/adapter_model.safetensors");
  const auto stir = [&](double value) {
    std::vector<std::pair<std::string, Tensor>> tensors;
    {
      const SafetensorsReader reader = SafetensorsReader::open(file);
      for (const std::string& name : reader.names()) tensors.emplace_back(name, clone(reader.tensor(name)));
    }
    for (const auto& [name, tensor] : tensors) fill_(tensor, value);
    write_safetensors(file, tensors);
  };
  stir(1e3);  // finite, but more than f16 holds once it is multiplied
  const Outcome overflow = merge(model, path("merged"), "--dtype f16");
  EXPECT_EQ(overflow.status, 1) << overflow.err;
  EXPECT_TRUE(overflow.says("q_proj.weight (inf at element 0)")) << overflow.err;
  EXPECT_FALSE(exists("merged"));
  stir(std::numeric_limits<double>::quiet_NaN());
  const Outcome broken = merge(model, path("merged"));
  EXPECT_EQ(broken.status, 1) << broken.err;
  EXPECT_TRUE(broken.says("lora_A.weight (nan at element 0)")) << broken.err;
  EXPECT_FALSE(exists("merged"));
}

TEST_F(Merge, NeedsAnAdapter) {
  const Outcome result = run(fmt::format("merge --model '{}' --output '{}'", kModel, path("merged")));
  EXPECT_EQ(result.status, 2);
  EXPECT_TRUE(result.says("--adapter")) << result.err;
}

}  // namespace
}  // namespace candela
