#include <cmath>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <candela/core/error.h>
#include <candela/models/config.h>

#include "io/files.h"

namespace candela {
namespace {

using nlohmann::json;
using test::error_of;
using test::expect_contains;

json llama() {
  return {{"model_type", "llama"},    {"vocab_size", 384},
          {"hidden_size", 64},        {"intermediate_size", 160},
          {"num_hidden_layers", 3},   {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-5},     {"eos_token_id", 2},
          {"torch_dtype", "bfloat16"}};
}

json qwen(const char* type) {
  json document = llama();
  document["model_type"] = type;
  return document;
}

ModelConfig parse(const json& document) {
  return ModelConfig::parse(document.dump(), "c/config.json");
}

TEST(Config, ReadsWhatTransformers4Writes) {
  json document = llama();
  document["rope_theta"] = 500000.0;
  document["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", 8.0},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0},
                              {"original_max_position_embeddings", 8192}};
  const ModelConfig config = parse(document);
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_DOUBLE_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.dtype, DType::BF16);
  EXPECT_EQ(config.eos_token_ids, std::vector<std::int64_t>{2});
  EXPECT_EQ(config.rope.type, "llama3");
  EXPECT_DOUBLE_EQ(config.rope.theta, 500000);
  EXPECT_DOUBLE_EQ(config.rope.factor, 8);
  EXPECT_DOUBLE_EQ(config.rope.high_freq_factor, 4);
  EXPECT_EQ(config.rope.original_max_positions, 8192);
  EXPECT_EQ(config.rope.rotary_dim, 16);
  EXPECT_EQ(config.rope.max_positions, 512);
  EXPECT_FALSE(config.tie_word_embeddings);
}

TEST(Config, ReadsWhatTransformers5Writes) {
  json document = llama();
  document.erase("torch_dtype");
  document["dtype"] = "float16";
  document["head_dim"] = 32;
  document["eos_token_id"] = {5, 6};
  document["rope_theta"] = nullptr;
  document["rope_parameters"] = {{"rope_theta", 1e6}, {"rope_type", "yarn"},
                                 {"factor", 4.0},     {"beta_fast", 24.0},
                                 {"beta_slow", 2.0},  {"attention_factor", 1.1},
                                 {"mscale", 0.7},     {"mscale_all_dim", 0.8},
                                 {"truncate", false}, {"original_max_position_embeddings", 128}};
  const ModelConfig config = parse(document);
  EXPECT_EQ(config.dtype, DType::F16);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.eos_token_ids, (std::vector<std::int64_t>{5, 6}));
  EXPECT_EQ(config.rope.type, "yarn");
  EXPECT_DOUBLE_EQ(config.rope.theta, 1e6);
  EXPECT_DOUBLE_EQ(config.rope.beta_fast, 24);
  EXPECT_DOUBLE_EQ(config.rope.beta_slow, 2);
  EXPECT_DOUBLE_EQ(config.rope.attention_factor, 1.1);
  EXPECT_DOUBLE_EQ(config.rope.mscale, 0.7);
  EXPECT_DOUBLE_EQ(config.rope.mscale_all_dim, 0.8);
  EXPECT_FALSE(config.rope.truncate);
}

/// As transformers 5: a yarn factor of null is the ratio of the two lengths.
TEST(Config, YarnDerivesTheFactorThatIsNotGiven) {
  json document = llama();  // max_position_embeddings 512
  document["rope_parameters"] = {
      {"rope_type", "yarn"}, {"factor", nullptr}, {"original_max_position_embeddings", 128}};
  EXPECT_DOUBLE_EQ(parse(document).rope.factor, 4);
  document["rope_parameters"].erase("factor");
  EXPECT_DOUBLE_EQ(parse(document).rope.factor, 4);
  document["rope_parameters"].erase("original_max_position_embeddings");
  EXPECT_DOUBLE_EQ(parse(document).rope.factor, 1);
  document["rope_parameters"]["factor"] = 2.0;
  EXPECT_DOUBLE_EQ(parse(document).rope.factor, 2);
}

TEST(Config, OlderNameOfTheRopeType) {
  json document = llama();
  document["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  EXPECT_EQ(parse(document).rope.type, "linear");
  document["rope_scaling"] = nullptr;
  EXPECT_EQ(parse(document).rope.type, "default");
}

TEST(Config, DefaultsOfAbsentFields) {
  json document = llama();
  document.erase("num_key_value_heads");
  document.erase("torch_dtype");
  const ModelConfig config = parse(document);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.dtype, DType::F32);
  EXPECT_DOUBLE_EQ(config.rope.theta, 10000);
  EXPECT_EQ(parse(qwen("qwen3")).head_dim, 128);
  EXPECT_EQ(parse(qwen("qwen2")).head_dim, 16);
}

TEST(Config, SlidingWindowsByModelType) {
  const std::vector<std::string> full(3, "full_attention");
  const std::vector<std::string> sliding(3, "sliding_attention");
  json document = llama();
  document["sliding_window"] = 16;
  EXPECT_EQ(parse(document).layer_types, full) << "llama has none";
  document["model_type"] = "mistral";
  EXPECT_EQ(parse(document).layer_types, sliding);
  EXPECT_EQ(parse(document).sliding_window, 16);
  document["sliding_window"] = nullptr;
  EXPECT_EQ(parse(document).layer_types, full);
  EXPECT_EQ(parse(document).sliding_window, 0);
  document = qwen("qwen2");
  document["sliding_window"] = 16;
  document["max_window_layers"] = 1;
  EXPECT_EQ(parse(document).layer_types, full) << "use_sliding_window is off";
  document["use_sliding_window"] = true;
  EXPECT_EQ(parse(document).layer_types,
            (std::vector<std::string>{"full_attention", "sliding_attention", "sliding_attention"}));
  document["layer_types"] = {"sliding_attention", "full_attention", "full_attention"};
  EXPECT_EQ(parse(document).layer_types.front(), "sliding_attention");
}

TEST(Config, GenerationAndTokenizerConfigsAdd) {
  const test::TemporaryFolder folder;
  test::write_text(folder / "config.json", llama().dump());
  test::write_text(
      folder / "generation_config.json",
      R"({"eos_token_id": [7, 8], "temperature": 0.6, "top_k": 20, "top_p": 0.9, "do_sample": true})");
  test::write_text(folder / "tokenizer_config.json",
                   R"({"eos_token": {"content": "</s>"}, "bos_token": "<s>", "pad_token": null})");
  const ModelConfig config = ModelConfig::load(folder.path());
  EXPECT_EQ(config.eos_token_ids, (std::vector<std::int64_t>{7, 8}));
  EXPECT_EQ(config.top_k, 20);
  EXPECT_EQ(config.do_sample, true);
  EXPECT_DOUBLE_EQ(*config.temperature, 0.6);
  EXPECT_EQ(config.eos_token, "</s>");
  EXPECT_EQ(config.bos_token, "<s>");
  EXPECT_FALSE(config.pad_token.has_value());
}

/// Padding is never seen, so its absence is no fault; an id outside the vocabulary would be one later.
TEST(Config, SpecialTokensLieWithinTheVocabulary) {
  json document = llama();
  document["pad_token_id"] = -1;
  EXPECT_FALSE(parse(document).pad_token_id.has_value());
  document["pad_token_id"] = 383;
  EXPECT_EQ(parse(document).pad_token_id, 383);
  for (const auto& [key, value] : std::vector<std::pair<std::string, json>>{{"pad_token_id", 384},
                                                                            {"pad_token_id", -2},
                                                                            {"bos_token_id", 384},
                                                                            {"bos_token_id", -1},
                                                                            {"eos_token_id", 384},
                                                                            {"eos_token_id", {2, 400}}}) {
    json wrong = llama();
    wrong[key] = value;
    expect_contains(error_of<IoError>([&] { parse(wrong); }),
                    "c/config.json: " + key + " must be made of token ids, in [0, 384)");
  }
  const test::TemporaryFolder folder;
  test::write_text(folder / "config.json", llama().dump());
  test::write_text(folder / "generation_config.json", R"({"eos_token_id": [2, 384], "pad_token_id": -1})");
  expect_contains(error_of<IoError>([&] { ModelConfig::load(folder.path()); }),
                  "generation_config.json: eos_token_id must be made of token ids");
}

TEST(Config, SamplingDefaultsOutOfRangeAreLeftToWhoeverSamples) {
  const test::TemporaryFolder folder;
  test::write_text(folder / "config.json", llama().dump());
  for (const std::string text : {R"({"temperature": -1})", R"({"top_p": 1.5})", R"({"top_p": 0})",
                                 R"({"min_p": -0.1})", R"({"top_k": -1})", R"({"repetition_penalty": 0})"}) {
    test::write_text(folder / "generation_config.json", text);
    EXPECT_EQ(ModelConfig::load(folder.path()).generation_source,
              (folder / "generation_config.json").string())
        << text;
  }
  test::write_text(folder / "generation_config.json", R"({"top_k": -1, "top_p": 0})");
  EXPECT_EQ(ModelConfig::load(folder.path()).top_k, -1);
  EXPECT_EQ(ModelConfig::load(folder.path()).top_p, 0);
  test::write_text(folder / "generation_config.json", R"({"top_k": "all"})");
  expect_contains(error_of<IoError>([&] { ModelConfig::load(folder.path()); }),
                  "generation_config.json: top_k must be an integer");
}

TEST(Config, BundledModel) {
  const auto model = test::bundled_model();
  if (model.empty()) GTEST_SKIP() << "models/stories-7m is not here";
  const ModelConfig config = ModelConfig::load(model);
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.num_layers, 8);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.dtype, DType::BF16);
  EXPECT_EQ(config.eos_token, "<|endoftext|>");
  EXPECT_EQ(config.pad_token_id, 3);
}

TEST(ConfigErrors, EveryNeededFieldIsNamedWhenMissingOrWrong) {
  for (const char* field :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    json document = llama();
    document.erase(field);
    expect_contains(error_of<IoError>([&] { parse(document); }),
                    std::string("c/config.json: ") + field +
                        " must be a positive integer; got nothing (the field is missing)");
    for (const json& wrong : {json("a"), json(0), json(-4), json(1.5), json(1ULL << 63), json::array()}) {
      document[field] = wrong;
      expect_contains(error_of<IoError>([&] { parse(document); }),
                      std::string("c/config.json: ") + field + " must be a positive integer");
    }
  }
  json document = llama();
  document.erase("model_type");
  expect_contains(error_of<IoError>([&] { parse(document); }), "model_type must be a string");
}

TEST(ConfigErrors, WhatIsNotKnownIsUnsupported) {
  const auto unsupported = [](const char* field, const json& value) {
    json document = llama();
    document[field] = value;
    return error_of<Unsupported>([&] { parse(document); });
  };
  expect_contains(unsupported("model_type", "gpt5"),
                  "model_type must be one of bert, gemma3_text, llama, mistral, modernbert, mpnet, phi3, "
                  "qwen2, qwen3, roberta, smollm3, xlm-roberta; got \"gpt5\"");
  expect_contains(unsupported("hidden_act", "gelu"), "hidden_act must be silu");
  const std::string lengthy(1'000'000, 'x');
  for (const char* field : {"model_type", "hidden_act", "torch_dtype"})
    EXPECT_LT(unsupported(field, lengthy).size(), 200U) << field;
  EXPECT_LT(unsupported("rope_scaling", {{"type", lengthy}}).size(), 200U);
  expect_contains(unsupported("torch_dtype", "float8"), "torch_dtype must be float32, bfloat16 or float16");
  expect_contains(unsupported("quantization_config", {{"bits", 4}}), "quantization_config is not supported");
  expect_contains(unsupported("rope_scaling", {{"rope_type", "longrope"}}),
                  "rope_scaling.rope_type must be default, linear");
  json document = qwen("qwen3");
  document["layer_types"] = {"full_attention", "full_attention", "linear_attention"};
  expect_contains(error_of<Unsupported>([&] { parse(document); }), "linear_attention");
}

TEST(ConfigErrors, FieldsThatContradictEachOther) {
  const auto wrong = [](const char* pointer, const json& value) {
    json document = llama();
    document[json::json_pointer(pointer)] = value;
    return error_of<IoError>([&] { parse(document); });
  };
  expect_contains(wrong("/num_key_value_heads", 3),
                  "num_key_value_heads must be a divisor of num_attention_heads (4)");
  expect_contains(wrong("/num_attention_heads", 6),
                  "num_attention_heads must be a divisor of hidden_size (64)");
  expect_contains(wrong("/head_dim", 7), "must be an even number");
  expect_contains(wrong("/tie_word_embeddings", "yes"),
                  "tie_word_embeddings must be true or false; got \"yes\"");
  expect_contains(wrong("/rms_norm_eps", 0), "rms_norm_eps must be a number above 0");
  expect_contains(wrong("/rope_theta", -1), "rope_theta must be a number above 0");
  expect_contains(wrong("/eos_token_id", "x"), "eos_token_id must be an integer or an array of integers");
  expect_contains(wrong("/eos_token_id", -1), "eos_token_id must be made of token ids");
  expect_contains(wrong("/rope_scaling", {{"rope_type", "dynamic"}}), "rope_scaling.factor must be a number");
  expect_contains(wrong("/rope_scaling", {{"rope_type", "linear"}, {"factor", 0.5}}),
                  "rope_scaling.factor must be a number of at least 1");
  expect_contains(wrong("/rope_scaling", {{"rope_type", "llama3"}, {"factor", 2}}),
                  "rope_scaling.low_freq_factor");
  expect_contains(
      wrong("/rope_scaling",
            {{"rope_type", "llama3"}, {"factor", 2}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}),
      "high_freq_factor must be above low_freq_factor");
  expect_contains(wrong("/rope_scaling", "linear"), "rope_scaling must be a JSON object");
  json document = qwen("qwen2");
  document["layer_types"] = {"full_attention"};
  expect_contains(error_of<IoError>([&] { parse(document); }), "layer_types must be one entry per layer");
  document["layer_types"] = {"full_attention", "full_attention", "sliding_attention"};
  expect_contains(error_of<IoError>([&] { parse(document); }), "no sliding_window is in use");
}

/// What f32 takes for zero or infinity would make every result NaN.
TEST(ConfigErrors, NumbersThatF32CannotHold) {
  for (const double value : {1e300, 1e39, 1e-40, 5e-324}) {
    for (const char* field : {"rms_norm_eps", "rope_theta", "initializer_range"}) {
      json document = llama();
      document[field] = value;
      expect_contains(error_of<IoError>([&] { parse(document); }),
                      std::string("c/config.json: ") + field + " must be a number above 0 that f32 can hold");
    }
    for (const char* field : {"beta_fast", "beta_slow", "attention_factor"}) {
      json document = llama();
      document["rope_scaling"] = {
          {"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", 1e30}, {"beta_slow", 1e-30}};
      document["rope_scaling"][field] = value;
      expect_contains(error_of<IoError>([&] { parse(document); }),
                      std::string("c/config.json: rope_scaling.") + field + " must be ");
    }
  }
  json document = llama();
  document["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 1e300}};
  expect_contains(error_of<IoError>([&] { parse(document); }),
                  "rope_scaling.factor must be a number of at least 1");
  document["rope_scaling"] = {
      {"rope_type", "llama3"}, {"factor", 2}, {"low_freq_factor", 1}, {"high_freq_factor", 1e300}};
  document["original_max_position_embeddings"] = 128;
  expect_contains(error_of<IoError>([&] { parse(document); }),
                  "rope_scaling.high_freq_factor must be a number above 0");
}

/// YaRN divides by log(theta), and by the attention factor that mscale_all_dim gives.
TEST(ConfigErrors, YarnThatGivesNoFrequencies) {
  json document = llama();
  document["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 2}};
  document["rope_theta"] = 1;
  expect_contains(error_of<IoError>([&] { parse(document); }),
                  "c/config.json: rope_theta must be above 1 for yarn; got 1");
  document["rope_theta"] = 10000;
  document["rope_scaling"]["mscale"] = 1;
  document["rope_scaling"]["mscale_all_dim"] = -10 / std::log(2.0);
  expect_contains(error_of<IoError>([&] { parse(document); }),
                  "rope_scaling.mscale_all_dim must be a number in [0, 1000]");
  document["rope_scaling"].erase("mscale_all_dim");
  document["rope_scaling"]["mscale"] = 1001;
  expect_contains(error_of<IoError>([&] { parse(document); }),
                  "rope_scaling.mscale must be a number in [0, 1000]");
  document.erase("rope_scaling");
  document["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 2}, {"rope_theta", 0.5}};
  expect_contains(error_of<IoError>([&] { parse(document); }),
                  "c/config.json: rope_parameters.rope_theta must be above 1 for yarn");
}

/// A file for both of transformers 4 and 5 has both keys; where they differ, each reader takes another model.
TEST(ConfigErrors, RopeScalingAndRopeParametersMustAgree) {
  json document = llama();
  document["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 2}, {"rope_theta", 1e6}};
  document["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  EXPECT_DOUBLE_EQ(parse(document).rope.factor, 2);
  EXPECT_DOUBLE_EQ(parse(document).rope.theta, 1e6);
  document["rope_scaling"] = document["rope_parameters"];
  EXPECT_EQ(parse(document).rope.type, "linear");
  document["rope_scaling"] = nullptr;
  EXPECT_EQ(parse(document).rope.type, "linear");
  for (const json& other :
       {json{{"type", "linear"}, {"factor", 4}}, json{{"type", "dynamic"}, {"factor", 2}},
        json{{"type", "linear"}, {"factor", 2}, {"rope_theta", 1e4}}, json{{"rope_type", "default"}}}) {
    document["rope_scaling"] = other;
    expect_contains(error_of<IoError>([&] { parse(document); }),
                    "rope_parameters and rope_scaling must agree where both are given; got ");
  }
}

TEST(ConfigErrors, MissingFile) {
  const test::TemporaryFolder folder;
  expect_contains(error_of<IoError>([&] { ModelConfig::load(folder.path()); }), "config.json: no such file");
}

/// Gemma 3 as transformers 4 writes it: ropes by key, every sixth layer without a window.
TEST(Config, Gemma3OfTransformers4) {
  json document = llama();
  document["model_type"] = "gemma3_text";
  document["num_hidden_layers"] = 7;
  document["hidden_activation"] = "gelu_pytorch_tanh";
  document["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  document["sliding_window"] = 16;
  document["query_pre_attn_scalar"] = 64;
  const ModelConfig config = parse(document);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.rope.type, "linear");
  EXPECT_DOUBLE_EQ(config.rope.theta, 1e6);
  ASSERT_TRUE(config.sliding_rope.has_value());
  EXPECT_EQ(config.sliding_rope->type, "default");
  EXPECT_DOUBLE_EQ(config.sliding_rope->theta, 1e4);
  EXPECT_EQ(config.sliding_rope->rotary_dim, 256);
  EXPECT_DOUBLE_EQ(config.attention_scale, 1 / 8.0);
  for (std::int64_t layer = 0; layer < 7; ++layer) EXPECT_EQ(config.slides(layer), layer != 5) << layer;
  document["attn_logit_softcapping"] = 50.0;
  expect_contains(error_of<Unsupported>([&] { parse(document); }),
                  "attn_logit_softcapping is not supported for gemma3_text; got 50.0");
  document["attn_logit_softcapping"] = nullptr;
  document["hidden_activation"] = "silu";
  expect_contains(error_of<Unsupported>([&] { parse(document); }), "hidden_activation must be");
}

TEST(Config, Smollm3SaysWhichLayersRotate) {
  json document = llama();
  document["model_type"] = "smollm3";
  document["num_hidden_layers"] = 5;
  EXPECT_EQ(parse(document).rope_layers, (std::vector<bool>{true, true, true, false, true}));
  document["no_rope_layer_interval"] = 2;
  EXPECT_EQ(parse(document).rope_layers, (std::vector<bool>{true, false, true, false, true}));
  document["no_rope_layers"] = {0, 1, 1, 1, 0};
  EXPECT_EQ(parse(document).rope_layers, (std::vector<bool>{false, true, true, true, false}));
  document["no_rope_layers"] = {0, 1};
  expect_contains(error_of<IoError>([&] { parse(document); }),
                  "no_rope_layers must be 5 entries of 0 or 1, one per layer");
}

TEST(Config, Phi3RotatesAPartOfEachHead) {
  json document = llama();
  document["model_type"] = "phi3";
  document["partial_rotary_factor"] = 0.5;
  EXPECT_EQ(parse(document).rope.rotary_dim, 8);
  document["sliding_window"] = 9;
  EXPECT_TRUE(parse(document).slides(0));
}

TEST(Config, EncodersTakeTheDefaultsOfTheirType) {
  json document = {{"model_type", "bert"},         {"vocab_size", 99},       {"hidden_size", 64},
                   {"intermediate_size", 128},     {"num_hidden_layers", 2}, {"num_attention_heads", 4},
                   {"max_position_embeddings", 32}};
  EXPECT_EQ(parse(document).hidden_act, "gelu");
  EXPECT_DOUBLE_EQ(parse(document).norm_eps, 1e-12);
  EXPECT_EQ(parse(document).type_vocab_size, 2);
  EXPECT_EQ(parse(document).pad_token_id, 0);
  document["model_type"] = "roberta";
  EXPECT_EQ(parse(document).pad_token_id, 1);
  document["model_type"] = "mpnet";
  EXPECT_EQ(parse(document).type_vocab_size, 0);
  EXPECT_EQ(parse(document).relative_buckets, 32);
  document["position_embedding_type"] = "relative_key";
  expect_contains(error_of<Unsupported>([&] { parse(document); }),
                  "position_embedding_type must be absolute");
}

TEST(Config, ModernbertSeesBothWaysWithinItsWindow) {
  json document = {{"model_type", "modernbert"}, {"vocab_size", 99},        {"hidden_size", 64},
                   {"intermediate_size", 128},   {"num_hidden_layers", 4},  {"num_attention_heads", 4},
                   {"local_attention", 16},      {"global_rope_theta", 5e4}};
  const ModelConfig config = parse(document);
  EXPECT_EQ(config.sliding_window, 9) << "8 to each side and the token itself";
  EXPECT_FALSE(config.slides(0));
  EXPECT_TRUE(config.slides(1));
  EXPECT_FALSE(config.slides(3));
  EXPECT_DOUBLE_EQ(config.rope.theta, 5e4);
  EXPECT_DOUBLE_EQ(config.sliding_rope->theta, 1e4);
  document["mlp_bias"] = true;
  EXPECT_THROW(parse(document), Unsupported);
}

}  // namespace
}  // namespace candela
