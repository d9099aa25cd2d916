#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/io/safetensors.h>
#include <candela/lora/lora.h>
#include <candela/models/save.h>
#include <candela/ops/copy.h>

#include "support/errors.h"
#include "support/golden.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::golden_folder;
using test::relative_error;
using test::values_of;

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<double> logits_of(Model& model) {
  const NoGrad guard;
  return values_of(
      model.logits(model.forward_hidden(Tensor::from_values<std::int32_t>({3, 1, 4, 1, 5}, {1, 5}))));
}

TEST(SaveModel, ShardsBecomeOneFileAndNothingElseChanges) {
  const fs::path source = golden_folder() / "mistral_sharded";
  const fs::path folder = test::scratch_folder("saved") / "deep/model";
  const auto model = load_model(source);
  save_model(*model, folder, source);
  const auto again = load_model(folder);
  EXPECT_EQ(logits_of(*again), logits_of(*model));
  EXPECT_EQ(text_of(folder / "config.json"), text_of(source / "config.json"));
  EXPECT_EQ(text_of(folder / "generation_config.json"), text_of(source / "generation_config.json"));
  EXPECT_FALSE(fs::exists(folder / "model.safetensors.index.json"));
}

TEST(SaveModel, AMergedAdapterOnATiedOutputLayerUntiesIt) {
  const fs::path source = golden_folder() / "qwen2_tied";
  const fs::path folder = test::scratch_folder("untied") / "model";
  const auto model = load_model(source);
  Lora lora = Lora::load(*model, source / "lora_head/end");
  const std::vector<double> adapted = logits_of(*model);
  lora.merge();
  save_model(*model, folder, source);
  const auto config = nlohmann::json::parse(text_of(folder / "config.json"));
  EXPECT_EQ(config["tie_word_embeddings"], false);
  EXPECT_EQ(config["vocab_size"], 384);
  const auto again = load_model(folder);
  EXPECT_FALSE(again->tied());
  EXPECT_LE(relative_error(logits_of(*again), adapted), 1e-5);
}

TEST(SaveModel, RefusesTheSourceAndWhatIsThereAlready) {
  const fs::path source = golden_folder() / "llama";
  const auto model = load_model(source);
  EXPECT_THROW(save_model(*model, source, source), InvalidArgument);
  EXPECT_THROW(save_model(*model, source / "../llama/.", source), InvalidArgument);
  EXPECT_THROW(save_model(*model, golden_folder() / "qwen3", source), InvalidArgument);
  EXPECT_THROW(save_model(*model, test::scratch_folder("x"), "/nowhere"), IoError);
}

/// What a finite adapter adds can be more than f16 holds.
TEST(SaveModel, WeightsThatAreNotFiniteAreNamedAndNothingIsWritten) {
  const fs::path source = golden_folder() / "llama";
  const fs::path folder = test::scratch_folder("broken") / "model";
  const auto model = load_model(source, {DType::F16});
  Lora lora = Lora::attach(*model, {.targets = {{"q_proj"}, ""}});
  for (const NamedTensor& parameter : lora.parameters()) fill_(parameter.tensor.detach(), 1e4);
  lora.merge();
  try {
    save_model(*model, folder, source);
    FAIL() << "saved";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("not saved: model.layers.0.self_attn.q_proj.weight (inf at element 0)"),
              std::string::npos)
        << text;
  }
  EXPECT_FALSE(fs::exists(folder));
}

/// Links that lead nowhere, in a circle too, are left behind like those that dangle.
TEST(SaveModel, LinksThatLeadNowhereAreNoCompanions) {
  const fs::path scratch = test::scratch_folder("loop");
  const fs::path source = scratch / "source";
  fs::copy(golden_folder() / "llama", source);
  fs::create_symlink("loop_b", source / "loop_a");
  fs::create_symlink("loop_a", source / "loop_b");
  fs::create_symlink("nothing", source / "dangling");
  const auto model = load_model(source);
  save_model(*model, scratch / "saved", source);
  EXPECT_TRUE(fs::exists(scratch / "saved/model.safetensors"));
  EXPECT_FALSE(fs::exists(fs::symlink_status(scratch / "saved/loop_a")));
  EXPECT_THROW(save_model(*model, source / "loop_a", source), Error);
  EXPECT_THROW(save_model(*model, source / "loop_a" / "deep", source), Error);
  EXPECT_THROW(save_model(*model, scratch / "again", source / "loop_a"), IoError);
}

/// Whatever a configuration holds, only what the weights say otherwise changes in it.
TEST(SaveModel, AConfigurationKeepsItsBytesButForTheDtype) {
  const fs::path scratch = test::scratch_folder("fields");
  const fs::path source = scratch / "source";
  fs::copy(golden_folder() / "llama", source);
  const std::string config = text_of(source / "config.json");
  std::string fields = "\"note\": [ {\"dtype\": \"x, }\"} ],\t";
  for (int i = 0; i < 20'000; ++i) fields += "\"field_" + std::to_string(i) + "\": 1, ";
  const std::string many = "{" + fields + config.substr(config.find('{') + 1);
  std::ofstream(source / "config.json") << many;
  save_model(*load_model(source), scratch / "same", source);
  EXPECT_EQ(text_of(scratch / "same/config.json"), many);
  save_model(*load_model(source, {.dtype = DType::BF16}), scratch / "narrow", source);
  std::string expected = many;
  const std::string before = "\"dtype\": \"float32\"";
  ASSERT_NE(expected.find(before), std::string::npos) << config;
  expected.replace(expected.find(before), before.size(), "\"dtype\": \"bfloat16\"");
  EXPECT_EQ(text_of(scratch / "narrow/config.json"), expected);
}

TEST(LoadModel, ASecondOutputLayerMustBeTheTiedEmbedding) {
  const fs::path source = golden_folder() / "qwen2_tied";
  const fs::path folder = test::scratch_folder("second_head");
  fs::copy_file(source / "config.json", folder / "config.json");
  const SafetensorsReader reader = SafetensorsReader::open(source);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const std::string& name : reader.names()) tensors.emplace_back(name, reader.tensor(name));
  const Tensor head = clone(reader.tensor("model.embed_tokens.weight"));
  tensors.emplace_back("lm_head.weight", head);
  write_safetensors(folder / "model.safetensors", tensors);
  EXPECT_NO_THROW(load_model(folder));
  EXPECT_NO_THROW(load_model(folder, {.dtype = DType::BF16}));
  tensors.back().second = Tensor::empty(head.shape(), DType::U8);
  fill_(tensors.back().second, 0);
  write_safetensors(folder / "model.safetensors", tensors);
  EXPECT_EQ(test::error_of<IoError>([&] { load_model(folder); }),
            folder.string() + ": lm_head.weight must have a floating dtype; got u8");
  tensors.back().second = head;
  fill_(slice(head, 0, 0, 1), 2);
  write_safetensors(folder / "model.safetensors", tensors);
  try {
    load_model(folder);
    FAIL() << "no error";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("lm_head.weight differs from model.embed_tokens.weight"),
              std::string::npos)
        << error.what();
  }
}

TEST(KvCacheLimits, RoomThatNoPositionReachesIsRefused) {
  const auto model = load_model(golden_folder() / "llama");
  KvCache cache = model->make_cache(1);
  EXPECT_THROW(cache.reserve(std::int64_t{1} << 62), InvalidArgument);
  EXPECT_THROW(cache.reserve(-1), InvalidArgument);
  EXPECT_THROW(model->make_cache(1, INT64_MAX), InvalidArgument);
}

}  // namespace
}  // namespace candela
