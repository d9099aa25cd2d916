#include <algorithm>
#include <gtest/gtest.h>
#include <thread>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/models/model.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>

#include "support/errors.h"
#include "support/golden.h"
#include "support/tiny_models.h"

namespace candela {
namespace {

using test::relative_error;
using test::tiny_config;
using test::values_of;

Tensor ids_of(const std::vector<std::int32_t>& ids) {
  return Tensor::from_values(ids, {1, static_cast<std::int64_t>(ids.size())});
}

std::vector<std::int32_t> counting_ids(int count, int start = 0) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back((start + 7 * i) % 50);
  return ids;
}

TEST(Models, TypesAreThoseThatConfigurationsMayName) {
  EXPECT_EQ(model_types(),
            (std::vector<std::string>{"bert", "gemma3_text", "llama", "mistral", "modernbert", "mpnet",
                                      "phi3", "qwen2", "qwen3", "roberta", "smollm3", "xlm-roberta"}));
  for (const std::string& type : model_types()) {
    EXPECT_NO_THROW(make_model(tiny_config(type), {.dtype = DType::F32, .device = Device::plan()})) << type;
  }
  ModelConfig config = tiny_config("llama");
  config.model_type = "gpt5";
  EXPECT_THROW(make_model(config), Unsupported);
}

TEST(Models, RandomWeightsRepeatWithTheirSeed) {
  const ModelConfig config = tiny_config("qwen3");
  const auto weights = [&](std::uint64_t seed) {
    return values_of(make_model(config, {}, seed)->linears()[3].weight.dense());
  };
  EXPECT_EQ(weights(1), weights(1));
  EXPECT_NE(weights(1), weights(2));
}

/// Up to max_position_embeddings (128) `dynamic` changes nothing, whatever original_max_position_embeddings
/// says; beyond, every length has angles of its own.
TEST(Models, DynamicRopeScalesBeyondTheMaximumOnly) {
  const NoGrad guard;
  const auto plain = make_model(tiny_config("llama"), {}, 3);
  const auto dynamic =
      make_model(tiny_config("llama", R"(, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0,
                                                 "original_max_position_embeddings": 16})"),
                 {}, 3);
  const auto hidden = [](Model& model, int length) {
    return values_of(model.forward_hidden(ids_of(counting_ids(length))));
  };
  for (const int length : {10, 40, 128})
    EXPECT_EQ(hidden(*dynamic, length), hidden(*plain, length)) << length;
  EXPECT_NE(hidden(*dynamic, 150), hidden(*plain, 150));
  const std::vector<double> at_150 = hidden(*dynamic, 150);
  hidden(*dynamic, 160);
  EXPECT_EQ(hidden(*dynamic, 150), at_150);
  EXPECT_EQ(hidden(*dynamic, 40), hidden(*plain, 40));
}

TEST(Models, ParametersOfAKnownGeometryAreCounted) {
  // Qwen2.5-0.5B as published: 494,032,768 parameters with tied embeddings.
  const ModelConfig config = ModelConfig::parse(
      R"({"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
          "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
          "rope_theta": 1000000.0, "tie_word_embeddings": true, "hidden_act": "silu"})",
      "qwen2.5-0.5b");
  EXPECT_EQ(make_model(config, {.dtype = DType::BF16, .device = Device::plan()})->parameter_count(),
            494032768);
}

TEST(Models, StoredDtypeIsUsedInPlaceAndOthersAreConverted) {
  const std::filesystem::path folder = test::golden_folder() / "llama_bf16";
  Allocator& allocator = device_interface(Device::cpu()).allocator();
  const std::size_t before = allocator.stats().allocated;
  const auto mapped = load_model(folder);
  EXPECT_EQ(mapped->dtype(), DType::BF16);
  // q, k and v, between which the file has o: copied together. gate and up lie side by side there.
  std::size_t apart = 0;
  for (const Linear& layer : mapped->linears()) {
    for (const char* name : {".q_proj", ".k_proj", ".v_proj"}) {
      if (layer.path.ends_with(name)) apart += 2 * static_cast<std::size_t>(layer.weight.dense().numel());
    }
  }
  EXPECT_EQ(apart, 49152U);
  EXPECT_EQ(allocator.stats().allocated, before + apart);
  const auto converted = load_model(folder, {.dtype = DType::F32});
  EXPECT_EQ(converted->dtype(), DType::F32);
  EXPECT_GE(allocator.stats().allocated, before + 4 * static_cast<std::size_t>(converted->parameter_count()));
}

TEST(Models, Bf16StaysCloseToF32) {
  const NoGrad guard;
  const std::filesystem::path folder = test::golden_folder() / "llama_bf16";
  const Tensor ids = SafetensorsReader::open(folder / "expected.safetensors").tensor("input_ids");
  const auto logits = [&](std::optional<DType> dtype) {
    const auto model = load_model(folder, {.dtype = dtype});
    return values_of(model->logits(model->forward_hidden(ids)));
  };
  EXPECT_LE(relative_error(logits(std::nullopt), logits(DType::F32)), 5e-2);
}

/// Copies a golden model with its tensors changed.
std::filesystem::path altered_model(const std::string& name,
                                    const std::function<void(std::map<std::string, Tensor>&)>& alter) {
  const std::filesystem::path from = test::golden_folder() / "llama";
  const std::filesystem::path folder = test::scratch_folder(name);
  std::filesystem::copy_file(from / "config.json", folder / "config.json");
  const SafetensorsReader reader = SafetensorsReader::open(from);
  std::map<std::string, Tensor> tensors;
  for (const std::string& key : reader.names()) tensors[key] = reader.tensor(key);
  alter(tensors);
  write_safetensors(folder / "model.safetensors", {tensors.begin(), tensors.end()});
  return folder;
}

TEST(Models, EverythingThatDoesNotFitIsListedAtOnce) {
  const auto folder = altered_model("unfit", [](std::map<std::string, Tensor>& tensors) {
    tensors.erase("model.norm.weight");
    tensors.erase("model.layers.2.mlp.up_proj.weight");
    tensors["model.layers.0.self_attn.q_proj.weight"] = zeros({64, 32});
    tensors["model.layers.3.mlp.up_proj.weight"] = zeros({160, 64});
  });
  try {
    load_model(folder);
    FAIL() << "no error";
  } catch (const IoError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("missing: model.norm.weight"), std::string::npos) << text;
    EXPECT_NE(text.find("missing: model.layers.2.mlp.up_proj.weight"), std::string::npos) << text;
    EXPECT_NE(text.find("model.layers.0.self_attn.q_proj.weight: expected [64, 64], found [64, 32]"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("unexpected: model.layers.3.mlp.up_proj.weight"), std::string::npos) << text;
    EXPECT_EQ(text.rfind(folder.string(), 0), 0U) << text;
  }
}

TEST(Models, StoredRotaryFrequenciesAreIgnoredAndIntegerWeightsRefused) {
  EXPECT_NO_THROW(load_model(altered_model("inv_freq", [](std::map<std::string, Tensor>& tensors) {
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = zeros({8});
  })));
  EXPECT_THROW(load_model(altered_model("integers",
                                        [](std::map<std::string, Tensor>& tensors) {
                                          tensors["model.norm.weight"] = full({64}, 1, DType::I32);
                                        })),
               IoError);
}

/// Which positions of the output change when the first token does.
std::vector<bool> reached_by_first_token(Model& model) {
  const NoGrad guard;
  std::vector<std::int32_t> ids = counting_ids(12);
  const std::vector<double> before = values_of(model.forward_hidden(ids_of(ids)));
  ids[0] = 49;
  const std::vector<double> after = values_of(model.forward_hidden(ids_of(ids)));
  std::vector<bool> reached;
  const std::size_t width = before.size() / ids.size();
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const auto at = static_cast<std::ptrdiff_t>(t * width);
    reached.push_back(!std::equal(
        before.begin() + at, before.begin() + at + static_cast<std::ptrdiff_t>(width), after.begin() + at));
  }
  return reached;
}

TEST(Models, SlidingWindowsLimitHowFarATokenReaches) {
  const auto count = [](const std::string& type, const std::string& extra) {
    const auto reached = reached_by_first_token(*make_model(tiny_config(type, extra)));
    // What is reached is a prefix.
    EXPECT_TRUE(std::is_sorted(reached.begin(), reached.end(), std::greater<>()));
    return std::count(reached.begin(), reached.end(), true);
  };
  // Two layers with a window of 3, the token itself included: 2 further positions each.
  EXPECT_EQ(count("mistral", R"(, "sliding_window": 3)"), 5);
  EXPECT_EQ(count("mistral", R"(, "sliding_window": null)"), 12);
  EXPECT_EQ(count("qwen2", R"(, "sliding_window": 3, "use_sliding_window": true, "max_window_layers": 0)"),
            5);
  EXPECT_EQ(count("qwen2", R"(, "sliding_window": 3, "use_sliding_window": true, "max_window_layers": 1)"),
            12);
  EXPECT_EQ(count("qwen2", R"(, "sliding_window": 3, "use_sliding_window": false)"), 12);
  EXPECT_EQ(count("qwen3", R"(, "sliding_window": 3, "use_sliding_window": true, "max_window_layers": 0)"),
            5);
}

TEST(Models, WindowsHoldInPackedSequencesAndInTheCache) {
  const NoGrad guard;
  const auto model = make_model(tiny_config("mistral", R"(, "sliding_window": 4)"));
  const std::vector<std::int32_t> all = counting_ids(20);
  const std::vector<std::int32_t> first(all.begin(), all.begin() + 13);
  const std::vector<std::int32_t> second(all.begin() + 13, all.end());
  const std::vector<double> separate =
      values_of(concat({model->forward_hidden(ids_of(first)), model->forward_hidden(ids_of(second))}, 1));
  ForwardOptions packed;
  std::vector<std::int32_t> positions;
  for (std::int32_t t = 0; t < 13; ++t) positions.push_back(t);
  for (std::int32_t t = 0; t < 7; ++t) positions.push_back(t);
  packed.positions = Tensor::from_values(positions, {20});
  packed.cu_seqlens = Tensor::from_values(std::vector<std::int32_t>{0, 13, 20}, {3});
  EXPECT_LE(relative_error(values_of(model->forward_hidden(ids_of(all), packed)), separate), 1e-5);
  const std::vector<double> whole = values_of(model->forward_hidden(ids_of(all)));
  KvCache cache = model->make_cache(1);
  std::vector<Tensor> parts;
  for (const std::int32_t id : all) {
    ForwardOptions options;
    options.cache = &cache;
    parts.push_back(model->forward_hidden(ids_of({id}), options));
  }
  EXPECT_LE(relative_error(values_of(concat(parts, 1)), whole), 1e-5);
}

TEST(Models, RowsOfDifferentLengthsShareACache) {
  const NoGrad guard;
  const auto model = make_model(tiny_config("qwen3"));
  const std::vector<std::vector<std::int32_t>> rows = {counting_ids(3), counting_ids(9, 5),
                                                       counting_ids(6, 2)};
  KvCache cache = model->make_cache(3);
  ForwardOptions options;
  options.cache = &cache;
  // Prompts of 2, 7 and 4 ids, padded to 7; then two steps.
  std::vector<std::int32_t> prompt(21, 0);
  options.row_lengths = {2, 7, 4};
  for (std::size_t b = 0; b < 3; ++b) {
    std::copy_n(rows[b].begin(), options.row_lengths[b], prompt.begin() + static_cast<std::ptrdiff_t>(7 * b));
  }
  model->forward_hidden(Tensor::from_values(prompt, {3, 7}), options);
  EXPECT_EQ(cache.lengths(), (std::vector<std::int64_t>{2, 7, 4}));
  options.row_lengths = {};
  Tensor last;
  for (std::size_t step = 0; step < 2; ++step) {
    const std::vector<std::int32_t> next = {rows[0][std::min<std::size_t>(2 + step, 2)], rows[1][7 + step],
                                            rows[2][4 + step]};
    if (step == 1) options.row_lengths = {0, 1, 1};  // the first row is over
    last = model->forward_hidden(Tensor::from_values(next, {3, 1}), options);
  }
  EXPECT_EQ(cache.lengths(), (std::vector<std::int64_t>{3, 9, 6}));
  for (const std::int64_t b : {1, 2}) {
    const Tensor alone = model->forward_hidden(ids_of(rows[static_cast<std::size_t>(b)]));
    EXPECT_LE(relative_error(values_of(slice(last, 0, b, b + 1)),
                             values_of(slice(alone, 1, alone.size(1) - 1, alone.size(1)))),
              1e-5);
  }
  // Without the first row, and in another order, the rows go on as before.
  const std::vector<std::int64_t> kept = {2, 1};
  cache.select_rows(kept);
  EXPECT_EQ(cache.lengths(), (std::vector<std::int64_t>{6, 9}));
  options.row_lengths = {};
  const Tensor more =
      model->forward_hidden(Tensor::from_values(std::vector<std::int32_t>{11, 12}, {2, 1}), options);
  std::vector<std::int32_t> extended = rows[2];
  extended.push_back(11);
  const Tensor alone = model->forward_hidden(ids_of(extended));
  EXPECT_LE(relative_error(values_of(slice(more, 0, 0, 1)), values_of(slice(alone, 1, 6, 7))), 1e-5);
}

TEST(Models, CacheMisuseIsRefused) {
  const auto model = make_model(tiny_config("llama"));
  KvCache cache = model->make_cache(2);
  ForwardOptions options;
  options.cache = &cache;
  EXPECT_THROW(model->forward_hidden(ids_of({1, 2}), options), InvalidArgument);  // one row, not two
  options.cu_seqlens = Tensor::from_values(std::vector<std::int32_t>{0, 2}, {2});
  EXPECT_THROW(model->forward_hidden(Tensor::from_values(std::vector<std::int32_t>{1, 2}, {2, 1}), options),
               InvalidArgument);
  EXPECT_THROW(cache.select_rows(std::vector<std::int64_t>{2}), InvalidArgument);
  EXPECT_THROW(cache.advance(1), InvalidArgument);
  EXPECT_THROW(cache.truncate(-1), InvalidArgument);
  EXPECT_THROW(model->forward_hidden(Tensor::from_values(std::vector<std::int32_t>{}, {1, 0})),
               InvalidArgument);
  EXPECT_THROW(model->forward_hidden(ids_of({1, 50})), InvalidArgument);  // beyond the vocabulary
}

TEST(Models, TruncatedCacheGoesOnFromThere) {
  const NoGrad guard;
  const auto model = make_model(tiny_config("llama"));
  KvCache cache = model->make_cache(1);
  ForwardOptions options;
  options.cache = &cache;
  model->forward_hidden(ids_of({1, 2, 3, 4, 5}), options);
  cache.truncate(2);
  const Tensor continued = model->forward_hidden(ids_of({9}), options);
  const Tensor whole = model->forward_hidden(ids_of({1, 2, 9}));
  EXPECT_LE(relative_error(values_of(continued), values_of(slice(whole, 1, 2, 3))), 1e-5);
}

TEST(Models, ShiftedLabelsAreTheNextIds) {
  const Tensor labels = Tensor::from_values<std::int32_t>({-100, 5, 6, 7, 8, -100}, {2, 3});
  EXPECT_EQ(shift_labels(labels).to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{5, 6, -100, 8, -100, -100}));
  EXPECT_EQ(shift_labels(slice(labels, 1, 0, 1)).to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{-100, -100}));
}

/// The bytes that a training step takes at its peak beyond the weights.
std::size_t step_peak(Model& model, Device device) {
  for (Linear& layer : model.linears()) {
    layer.adapter.a = zeros({4, layer.inputs()}, DType::F32, device).set_requires_grad(true);
    layer.adapter.b = zeros({layer.outputs(), 4}, DType::F32, device).set_requires_grad(true);
  }
  Allocator& allocator = device_interface(device).allocator();
  allocator.trim();
  allocator.reset_peaks();
  const std::size_t base = allocator.stats().allocated;
  const Tensor ids = full({8, 64}, 3, DType::I32, device);
  backward(model.loss(model.forward_hidden(ids), shift_labels(ids)));
  return allocator.stats().peak_allocated - base;
}

TEST(Models, PlanDeviceRunsAWholeStepAndTellsItsMemory) {
  for (const std::string type : {"llama", "qwen3"}) {
    const auto planned = make_model(tiny_config(type), {.dtype = DType::F32, .device = Device::plan()});
    const auto real = make_model(tiny_config(type));
    const auto expected = static_cast<double>(step_peak(*real, Device::cpu()));
    EXPECT_NEAR(static_cast<double>(step_peak(*planned, Device::plan())), expected, 0.1 * expected) << type;
  }
}

/// Rope tables and positions grow behind a lock.
TEST(Models, ForwardRunsOnSeveralThreadsAtOnce) {
  const auto model = make_model(tiny_config("gemma3_text", R"(, "sliding_window": 4)"), {}, 1);
  const std::vector<int> lengths = {3, 40, 9, 70, 5, 33};
  const auto hidden = [&](int length) {
    const NoGrad guard;
    return values_of(model->forward_hidden(ids_of(counting_ids(length))));
  };
  std::vector<std::vector<double>> got(lengths.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < lengths.size(); ++i)
    threads.emplace_back([&, i] { got[i] = hidden(lengths[i]); });
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < lengths.size(); ++i) EXPECT_EQ(got[i], hidden(lengths[i])) << lengths[i];
}

TEST(Models, ABackboneAloneHasNoLogits) {
  const auto model = load_model(test::golden_folder() / "llama", {.backbone_only = true});
  EXPECT_FALSE(model->has_head());
  const Tensor hidden = model->forward_hidden(ids_of(counting_ids(5)));
  EXPECT_EQ(hidden.shape(), (Shape{1, 5, 64}));
  EXPECT_EQ(test::error_of<Unsupported>([&] { model->logits(hidden); }),
            "llama: the model has no output layer: it makes embeddings");
  for (const NamedTensor& parameter : model->named_parameters()) EXPECT_NE(parameter.name, "lm_head.weight");
}

}  // namespace
}  // namespace candela
