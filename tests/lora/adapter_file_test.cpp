#include "lora/adapter_file.h"

#include <fstream>
#include <gtest/gtest.h>
#include <map>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>

#include "io/json.h"
#include "lora/adapters.h"
#include "support/errors.h"
#include "support/golden.h"
#include "support/tiny_models.h"

namespace candela {
namespace {

using test::adapted_paths;
using test::error_of;
using test::logits_of;
using test::names;
using test::pattern;
using test::stir;
using test::tiny_config;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// A saved adapter to spoil.
class LoraFolder : public testing::Test {
 protected:
  LoraFolder() : model_(make_model(tiny_config("llama"))), folder_(test::scratch_folder("adapter")) {
    const Lora lora = Lora::attach(*model_, names({"q_proj", "down_proj"}));
    stir(lora);
    expected_ = logits_of(*model_);
    lora.save(folder_, "base/model");
    Lora(lora).detach();
    const SafetensorsReader reader = SafetensorsReader::open(weights());
    for (const std::string& name : reader.names()) tensors_[name] = clone(reader.tensor(name));
  }
  std::filesystem::path weights() const { return folder_ / "adapter_model.safetensors"; }
  void write_tensors() { write_safetensors(weights(), {tensors_.begin(), tensors_.end()}); }
  void write_config(const std::string& text) { write_file_atomically(folder_ / "adapter_config.json", text); }
  std::string load_error() {
    return error_of([&] { Lora::load(*model_, folder_); });
  }

  std::unique_ptr<Model> model_;
  std::filesystem::path folder_;
  std::vector<double> expected_;
  std::map<std::string, Tensor> tensors_;
  const std::string q0_ = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
};

/// A save that is cut short at any of its steps leaves the earlier adapter or the new one.
TEST_F(LoraFolder, ATornSaveReadsAsTheEarlierAdapterOrTheNew) {
  const auto config_file = folder_ / "adapter_config.json";
  const std::string old_weights = read_file(weights());
  const std::string old_config = read_file(config_file);
  const auto loaded = [&] {
    Lora lora = Lora::load(*model_, folder_);
    const double alpha = lora.config().alpha;
    std::vector<double> logits = logits_of(*model_);
    lora.detach();
    return std::pair(alpha, logits);
  };
  const auto before = loaded();
  LoraConfig config = names({"q_proj", "down_proj"});
  config.alpha = 64;
  Lora fresh = Lora::attach(*model_, config, 9);
  stir(fresh);
  const auto scratch = test::scratch_folder("torn");
  fresh.save(scratch, "base/model");
  fresh.detach();
  const std::string new_weights = read_file(scratch / "adapter_model.safetensors");
  const std::string new_config = read_file(scratch / "adapter_config.json");
  const auto aside = folder_ / ".adapter_config.json.1-0.tmp";
  // The new weights are in place, the new configuration not yet.
  write_file_atomically(weights(), new_weights);
  write_file_atomically(aside, new_config);
  const auto after = loaded();
  EXPECT_EQ(after.first, 64);
  EXPECT_NE(after.second, before.second);
  EXPECT_NE(Lora::load(*make_model(tiny_config("llama")), folder_).notes().front().find("cut short"),
            std::string::npos);
  // The other way round, as a loss of power may leave it.
  write_file_atomically(weights(), old_weights);
  write_file_atomically(config_file, new_config);
  write_file_atomically(aside, old_config);
  EXPECT_EQ(loaded(), before);
  // A further save that is cut short before its first rename must not cost what was left aside.
  { const AtomicFile next(config_file); }
  write_file_atomically(config_file, old_config);
  EXPECT_EQ(loaded(), before);
}

TEST_F(LoraFolder, WeightsAndAConfigurationThatDoNotBelongTogetherAreRefused) {
  const auto config_file = folder_ / "adapter_config.json";
  auto config = nlohmann::json::parse(read_file(config_file));
  config["lora_alpha"] = 99;
  write_config(config.dump());
  const std::string error = load_error();
  EXPECT_NE(error.find("adapter_config.json: must mean what its weights were saved with"), std::string::npos)
      << error;
  // Written anew with the same meaning: other order, other form of the numbers, no rank-stabilised scale
  // spelt out.
  config["lora_alpha"] = 16.0;
  config["target_modules"] = {"down_proj", "q_proj"};
  config["alpha_pattern"] = {{"q_proj", 16}};
  config.erase("use_rslora");
  write_config(config.dump(4));
  EXPECT_EQ(load_error(), "no error");
  for (Linear& layer : model_->linears()) layer.adapter = {};
  // Others' weights have no mark, and any configuration that fits.
  write_tensors();
  config["lora_alpha"] = 99;
  config.erase("alpha_pattern");
  write_config(config.dump());
  EXPECT_EQ(load_error(), "no error");
}

TEST_F(LoraFolder, SavedFolderHoldsPeftsKeysAndLoadsAgain) {
  EXPECT_EQ(tensors_.size(), 8U);
  EXPECT_EQ(tensors_.count(q0_), 1U);
  Lora loaded = Lora::load(*model_, folder_);
  EXPECT_EQ(logits_of(*model_), expected_);
  EXPECT_EQ(loaded.config().targets.names, (std::vector<std::string>{"q_proj", "down_proj"}));
  EXPECT_FALSE(loaded.parameters()[0].tensor.requires_grad());
}

TEST_F(LoraFolder, EveryTensorThatDoesNotFitIsListed) {
  tensors_.erase(q0_);
  tensors_["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"] = zeros({32, 9});
  tensors_["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"] = zeros({8, 32});
  tensors_["base_model.model.model.layers.7.mlp.down_proj.lora_A.weight"] = zeros({8, 48});
  tensors_["base_model.model.model.embed_tokens.lora_embedding_A"] = zeros({8, 50});
  write_tensors();
  const std::string text = load_error();
  EXPECT_NE(text.find("missing: " + q0_), std::string::npos) << text;
  EXPECT_NE(text.find("down_proj.lora_B.weight: expected [32, 8], found [32, 9]"), std::string::npos) << text;
  EXPECT_NE(
      text.find("unexpected: base_model.model.model.layers.1.mlp.up_proj.lora_A.weight (target_modules"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("unexpected: base_model.model.model.layers.7.mlp.down_proj"), std::string::npos)
      << text;
  EXPECT_NE(text.find("unexpected: base_model.model.model.embed_tokens"), std::string::npos) << text;
  EXPECT_TRUE(adapted_paths(*model_).empty());
}

TEST_F(LoraFolder, KeysWithoutAPartOfThePrefixAreTakenAndReported) {
  std::map<std::string, Tensor> shortened;
  for (const auto& [name, tensor] : tensors_) {
    shortened["base_model.model." + name.substr(std::string("base_model.model.model.").size())] = tensor;
  }
  tensors_ = shortened;
  write_tensors();
  const Lora loaded = Lora::load(*model_, folder_);
  EXPECT_EQ(logits_of(*model_), expected_);
  ASSERT_EQ(loaded.notes().size(), 1U);
  EXPECT_NE(loaded.notes()[0].find("8 keys lack a part of the usual prefix"), std::string::npos)
      << loaded.notes()[0];
}

/// peft saves the base weight of an adapted output layer beside the adapter.
TEST_F(LoraFolder, BaseWeightsAreTakenIfTheyAreTheModelsOwn) {
  const Tensor head = model_->head().weight.dense();
  const Tensor embedding = model_->named_parameters()[0].tensor;
  for (const std::string name :
       {"base_model.model.lm_head.base_layer.weight", "base_model.model.lm_head.weight",
        "base_model.model.model.embed_tokens.base_layer.weight",
        "base_model.model.model.embed_tokens.weight"}) {
    const Tensor own = name.find("embed") == std::string::npos ? head : embedding;
    tensors_[name] = own;
    write_tensors();
    EXPECT_EQ(load_error(), "no error") << name;
    for (Linear& layer : model_->linears()) layer.adapter = {};
    tensors_[name] = cast(own, DType::BF16);  // as saved by a model in bf16
    write_tensors();
    EXPECT_EQ(load_error(), "no error") << name;
    for (Linear& layer : model_->linears()) layer.adapter = {};
    tensors_[name] = clone(own);
    fill_(slice(tensors_[name], 0, 3, 4), 1);
    write_tensors();
    EXPECT_NE(load_error().find(name + ": differs from the model's own"), std::string::npos) << load_error();
    tensors_.erase(name);
  }
}

TEST_F(LoraFolder, LongListsOfProblemsAreCutOff) {
  for (int i = 0; i < 50; ++i) tensors_[fmt::format("base_model.model.x{}.lora_A.weight", i)] = zeros({1});
  write_tensors();
  const std::string text = load_error();
  EXPECT_NE(text.find("... and 30 more"), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 21);
}

TEST_F(LoraFolder, ABrokenAdapterIsNotSaved) {
  const Lora lora = Lora::load(*model_, folder_);
  const std::string before = read_file(weights());
  fill_(lora.parameters()[3].tensor, std::numeric_limits<double>::quiet_NaN());
  const std::string text = error_of([&] { lora.save(folder_); });
  EXPECT_NE(text.find("first in " + lora.parameters()[3].name + " (nan at element 0)"), std::string::npos)
      << text;
  EXPECT_EQ(read_file(weights()), before);
}

TEST(LoraBase, AnotherBaseIsReportedAndPathsAreMadeAbsolute) {
  const std::filesystem::path bundled = CANDELA_SOURCE_DIR "/models/stories-7m";
  const std::filesystem::path folder = test::scratch_folder("based");
  const auto model = load_model(bundled);
  const auto saved_as = [&](const std::string& base) {
    LoraConfig config = names({"q_proj"});
    config.rank = 1;
    Lora lora = Lora::attach(*model, config);
    lora.save(folder, base);
    lora.detach();
    lora = Lora::load(*model, folder);
    const auto result = std::pair(lora.base_model(), lora.notes());
    lora.detach();
    return result;
  };
  const std::string here = std::filesystem::canonical(bundled).string();
  EXPECT_EQ(saved_as(std::filesystem::relative(bundled).string()),
            std::pair(here, std::vector<std::string>{}));
  EXPECT_TRUE(saved_as("roneneldan/stories-7m").second.empty());
  EXPECT_TRUE(saved_as("/another/machine/stories-7m").second.empty());
  EXPECT_TRUE(saved_as("").second.empty());
  const std::vector<std::string> others = {"meta-llama/Llama-3.2-1B", test::scratch_folder("other").string()};
  for (const std::string& other : others) {
    const auto [base, notes] = saved_as(other);
    EXPECT_EQ(base, other);
    ASSERT_EQ(notes.size(), 1U) << other;
    EXPECT_NE(notes[0].find("was trained on " + other), std::string::npos) << notes[0];
  }
}

TEST_F(LoraFolder, FieldsThatWouldChangeTheResultAreRefusedByName) {
  const auto with = [](const std::string& field) {
    return R"({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"], )" +
           field + "}";
  };
  for (const std::string field :
       {R"("use_dora": true)", R"("bias": "all")", R"("modules_to_save": ["lm_head"])",
        R"("lora_bias": true)", R"("fan_in_fan_out": true)", R"("trainable_token_indices": [1])",
        R"("layer_replication": [[0, 2]])", R"("init_lora_weights": "pissa_niter_4")",
        R"("init_lora_weights": "eva")", R"("use_qalora": true)", R"("target_parameters": ["x"])",
        R"("layers_pattern": "h")", R"("some_future_field": 3)"}) {
    write_config(with(field));
    const std::string name = field.substr(1, field.find('"', 1) - 1);
    const std::string text = load_error();
    EXPECT_NE(text.find(name + " = "), std::string::npos) << field << ": " << text;
    EXPECT_THROW(Lora::load(*model_, folder_), Unsupported);
  }
  for (const std::string field :
       {R"("use_dora": false)", R"("bias": "none")", R"("modules_to_save": null)", R"("loftq_config": {})",
        R"("some_future_field": null)", R"("peft_version": "9.0")", R"("init_lora_weights": "gaussian")"}) {
    write_config(with(field));
    EXPECT_EQ(load_error(), "no error") << field;
    for (Linear& layer : model_->linears()) layer.adapter = {};
  }
}

TEST_F(LoraFolder, BrokenConfigurationsNameFileAndField) {
  const std::string file = (folder_ / "adapter_config.json").string();
  write_config("{");
  EXPECT_EQ(load_error().rfind(file, 0), 0U);
  write_config(R"({"peft_type": "IA3"})");
  EXPECT_EQ(load_error(), file + ": peft_type must be LORA; got \"IA3\"");
  write_config(R"({"peft_type": "LORA", "r": -3})");
  EXPECT_EQ(load_error().rfind(file + ": r must be", 0), 0U) << load_error();
  write_config(R"({"peft_type": "LORA", "r": 8, "lora_dropout": 2})");
  EXPECT_NE(load_error().find("lora_dropout must be in [0, 1); got 2"), std::string::npos) << load_error();
  for (const char* field :
       {R"("target_modules": "(")", R"("exclude_modules": "(")", R"("rank_pattern": {"(": 4})"}) {
    write_config(fmt::format(R"({{"peft_type": "LORA", "r": 8, {}}})", field));
    EXPECT_EQ(load_error().rfind(file + ": lora: ", 0), 0U) << load_error();
  }
  write_config(R"({"peft_type": "LORA", "r": 8, "target_modules": ["nothing_here"]})");
  EXPECT_NE(load_error(), "no error");
  std::filesystem::remove(folder_ / "adapter_config.json");
  EXPECT_EQ(load_error().rfind(file, 0), 0U);
}

/// An adapter_config.json with the usual fields and `field`.
std::string config_with(const std::string& field) {
  return R"({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"], )" +
         field + "}";
}

/// `count` fields of an object that mean nothing.
std::string many_fields(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{}\"field_{}\": null", i > 0 ? ", " : "", i);
  return text;
}

/// Time that grows with the square of a file's length would be hours here.
TEST_F(LoraFolder, LongConfigurationsTakeTimeInProportion) {
  write_config(config_with(many_fields(400'000)));
  EXPECT_EQ(load_error(), "no error");
  for (Linear& layer : model_->linears()) layer.adapter = {};
  std::string names_text;
  for (int i = 0; i < 400'000; ++i) names_text += fmt::format(", \"name_{}\"", i);
  write_config(R"({"peft_type": "LORA", "lora_alpha": 16, "target_modules": ["q_proj", "down_proj")" +
               names_text + "]}");
  EXPECT_EQ(load_error(), "no error");
  for (Linear& layer : model_->linears()) layer.adapter = {};
  write_config(config_with("\"x\": \"" + std::string(std::size_t{1} << 24, ' ') + '"'));
  EXPECT_NE(load_error().find("adapter_config.json: must be at most 16777216 bytes"), std::string::npos)
      << load_error();
}

TEST_F(LoraFolder, PatternsAreLimitedInNumber) {
  for (const std::string field : {"rank_pattern", "alpha_pattern"}) {
    std::string patterns = "\"p\": 8";
    for (int i = 1; i <= 1000; ++i) patterns += fmt::format(", \"p{}\": 8", i);
    write_config(config_with("\"" + field + "\": {" + patterns + "}"));
    EXPECT_EQ(load_error(), (folder_ / "adapter_config.json").string() + ": lora: " + field +
                                " must hold at most 1000 patterns; got 1001");
  }
}

TEST_F(LoraFolder, PatternsThatCannotBeMatchedNameFileAndField) {
  const std::string file = (folder_ / "adapter_config.json").string();
  for (const std::string field : {"rank_pattern", "alpha_pattern"}) {
    write_config(config_with("\"" + field + "\": {\"(?:.*.*.*)*[XZ]\": 8}"));
    EXPECT_EQ(load_error().rfind(file + ": lora: " + field + ": the pattern must match within its limits", 0),
              0U)
        << load_error();
  }
  for (const std::string field : {"target_modules", "exclude_modules"}) {
    write_config(R"({"peft_type": "LORA", ")" + field + R"(": "(?:.*.*.*)*[XZ]"})");
    EXPECT_EQ(load_error().rfind(file + ": lora: " + field + ": the pattern must match within its limits", 0),
              0U)
        << load_error();
  }
  // Compiles alone, but is too long for what it is wrapped in.
  write_config(R"({"peft_type": "LORA", "target_modules": ".*(?#)" + std::string(65'525, 'x') + ")\"}");
  EXPECT_EQ(load_error().rfind(file + ": lora: target_modules: a pattern must be at most", 0), 0U)
      << load_error();
}

/// peft passes over them where others match.
TEST_F(LoraFolder, TargetsThatMatchNothingAreReported) {
  const std::string file = (folder_ / "adapter_config.json").string();
  write_config(
      R"({"peft_type": "LORA", "lora_alpha": 16, "target_modules": ["q_proj", "c_attn", "down_proj"],
          "layers_to_transform": [0, 1, 99]})");
  const Lora loaded = Lora::load(*model_, folder_);
  ASSERT_EQ(loaded.notes().size(), 2U);
  EXPECT_EQ(loaded.notes()[0], file + ": target_modules: c_attn matches no linear layer of this llama model");
  EXPECT_EQ(loaded.notes()[1], file + ": layers_to_transform: 99 matches no layer; num_hidden_layers is 2");
}

TEST_F(LoraFolder, ScalesThatF32CannotHoldAreRefused) {
  const std::string file = (folder_ / "adapter_config.json").string();
  for (const std::string field : {R"("lora_alpha": 1e308)", R"("alpha_pattern": {"q_proj": -1e39})"}) {
    write_config(R"({"peft_type": "LORA", "target_modules": ["q_proj", "down_proj"], )" + field + "}");
    EXPECT_NE(load_error().find("must be a finite number in f32; got "), std::string::npos) << load_error();
    EXPECT_EQ(load_error().rfind(file + ": lora: " + field.substr(1, 5), 0), 0U) << load_error();
  }
}

TEST_F(LoraFolder, BaseWeightsOfOtherDtypesNameFileAndTensor) {
  for (const std::string name :
       {"base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight"}) {
    tensors_[name] = Tensor::empty({50, 32}, DType::U8);
    fill_(tensors_[name], 0);
    write_tensors();
    EXPECT_EQ(load_error(), weights().string() + ": " + name + " must have a floating dtype; got u8");
    tensors_.erase(name);
  }
}

/// A key without the usual prefix belongs to the only layer whose path ends in it; to none if there are two.
TEST_F(LoraFolder, KeysThatMayMeanSeveralLayersAreRefused) {
  const Tensor a = tensors_.at(q0_);
  tensors_.erase(q0_);
  tensors_["q_proj.lora_A.weight"] = a;
  write_tensors();
  EXPECT_NE(load_error().find("unexpected: q_proj.lora_A.weight"), std::string::npos) << load_error();
  tensors_.erase("q_proj.lora_A.weight");
  tensors_["0.self_attn.q_proj.lora_A.weight"] = a;
  write_tensors();
  EXPECT_EQ(load_error(), "no error");
  EXPECT_EQ(logits_of(*model_), expected_);
}

TEST(LoraConfigFile, SurvivesTheRoundTrip) {
  LoraConfig config = pattern(".*_proj");
  config.rank = 3;
  config.alpha = 2.5;
  config.dropout = 0.125;
  config.use_rslora = true;
  config.excluded = {{"k_proj"}, ""};
  config.layers = {0, 4};
  config.rank_pattern = {{"z_proj", 5}, {"a_proj", 6}};
  config.alpha_pattern = {{"q_proj", 7.5}};
  const LoraConfig again = parse_adapter_config(format_adapter_config(config, "x"), "round trip");
  EXPECT_EQ(again.rank, config.rank);
  EXPECT_EQ(again.alpha, config.alpha);
  EXPECT_EQ(again.dropout, config.dropout);
  EXPECT_EQ(again.use_rslora, config.use_rslora);
  EXPECT_EQ(again.targets.pattern, config.targets.pattern);
  EXPECT_TRUE(again.targets.names.empty());
  EXPECT_EQ(again.excluded.names, config.excluded.names);
  EXPECT_EQ(again.layers, config.layers);
  EXPECT_EQ(again.rank_pattern, config.rank_pattern);
  EXPECT_EQ(again.alpha_pattern, config.alpha_pattern);
}

/// The first pattern that matches counts, whatever the order of the alphabet.
TEST(LoraConfigFile, KeepsTheOrderOfPatterns) {
  const LoraConfig config = parse_adapter_config(
      R"({"peft_type": "LORA", "rank_pattern": {"v_proj": 3, "layers.0.*": 5, "a": 7},
          "alpha_pattern": {"z": 3, "a": 5}, "loftq_config": {}})",
      "order");
  using Ranks = std::vector<std::pair<std::string, std::int64_t>>;
  using Alphas = std::vector<std::pair<std::string, double>>;
  EXPECT_EQ(config.rank_pattern, (Ranks{{"v_proj", 3}, {"layers.0.*", 5}, {"a", 7}}));
  EXPECT_EQ(config.alpha_pattern, (Alphas{{"z", 3}, {"a", 5}}));
}

}  // namespace
}  // namespace candela
