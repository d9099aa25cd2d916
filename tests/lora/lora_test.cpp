#include <algorithm>
#include <cmath>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <utility>

#include <candela/autograd/backward.h>
#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>
#include <candela/ops/random.h>
#include <candela/ops/reduce.h>

#include "lora/adapter_file.h"
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
using test::relative_error;
using test::some_ids;
using test::stir;
using test::tiny_config;
using test::values_of;

TEST(LoraAttach, TargetsByNamePatternOrAllLinear) {
  const auto paths = [](const LoraConfig& config) {
    const auto model = make_model(tiny_config("llama"));
    Lora::attach(*model, config);
    return adapted_paths(*model);
  };
  EXPECT_EQ(paths(names({"q_proj", "lm_head"})),
            (std::vector<std::string>{"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj",
                                      "lm_head"}));
  EXPECT_EQ(paths(names({"layers.1.mlp.up_proj"})), (std::vector<std::string>{"model.layers.1.mlp.up_proj"}));
  EXPECT_EQ(paths(pattern(kAllLinear)).size(), 14U);
  EXPECT_EQ(paths(pattern(R"(.*\.mlp\.(gate|up)_proj)")).size(), 4U);
  EXPECT_EQ(paths(pattern(R"(model\.layers\.0\..*)")).size(), 7U);
  LoraConfig config = pattern(kAllLinear);
  config.excluded = {{"down_proj"}, ".*k_proj"};
  EXPECT_EQ(paths(config).size(), 10U);
  config.layers = {1};
  EXPECT_EQ(paths(config).size(), 5U);
}

TEST(LoraAttach, UnfitTargetsAreRefused) {
  const auto attach = [](const LoraConfig& config) {
    return error_of([&] { Lora::attach(*make_model(tiny_config("llama")), config); });
  };
  EXPECT_EQ(attach(names({"q_proj", "query"}))
                .rfind("lora: target query matches no linear layer; the model has ", 0),
            0U);
  EXPECT_NE(attach(names({"embed_tokens"})).find("embedding"), std::string::npos);
  EXPECT_NE(attach(pattern("q_proj")).find("leave no linear layer"),
            std::string::npos);  // a pattern matches from end to end
  EXPECT_NE(attach(pattern("(")), "no error");
  EXPECT_NE(attach(names({})), "no error");
  LoraConfig config;
  config.rank = 0;
  EXPECT_EQ(attach(config), "lora: r must be in [1, 65536]; got 0");
  config = {};
  config.dropout = 1;
  EXPECT_EQ(attach(config), "lora: lora_dropout must be in [0, 1); got 1");
  const auto model = make_model(tiny_config("llama"));
  Lora::attach(*model, {});
  EXPECT_NE(error_of([&] { Lora::attach(*model, {}); }).find("has adapters already"), std::string::npos);
}

TEST(LoraAttach, StartsWithoutEffectAndRepeatsWithItsSeed) {
  const auto model = make_model(tiny_config("qwen2"));
  const std::vector<double> before = logits_of(*model);
  Lora lora = Lora::attach(*model, {}, 5);
  EXPECT_EQ(logits_of(*model), before);
  const std::vector<double> a = values_of(lora.parameters()[0].tensor);
  const double bound = 1 / std::sqrt(32.0);
  double largest = 0;
  for (const double value : a) largest = std::max(largest, std::abs(value));
  EXPECT_LE(largest, bound);
  EXPECT_GE(largest, 0.9 * bound);
  lora.detach();
  EXPECT_TRUE(adapted_paths(*model).empty());
  lora = Lora::attach(*model, {}, 5);
  EXPECT_EQ(values_of(lora.parameters()[0].tensor), a);
  lora.detach();
  lora = Lora::attach(*model, {}, 6);
  EXPECT_NE(values_of(lora.parameters()[0].tensor), a);
}

TEST(LoraAttach, RankAlphaAndScaleFollowTheirPatterns) {
  LoraConfig config = pattern(kAllLinear);
  config.rank = 4;
  config.alpha = 8;
  config.rank_pattern = {{"q_proj", 2}, {R"(layers\.1\..*)", 3}};
  config.alpha_pattern = {{"down_proj", 20}};
  const auto model = make_model(tiny_config("llama"));
  const Lora lora = Lora::attach(*model, config);
  for (const Linear& layer : model->linears()) {
    if (!layer.adapter.a.defined()) continue;
    const bool q = layer.path.ends_with("q_proj");
    const std::int64_t rank = q ? 2 : (layer.path.find("layers.1.") != std::string::npos ? 3 : 4);
    EXPECT_EQ(layer.adapter.a.shape(), (Shape{rank, layer.inputs()})) << layer.path;
    EXPECT_EQ(layer.adapter.b.shape(), (Shape{layer.outputs(), rank})) << layer.path;
    const double alpha = layer.path.ends_with("down_proj") ? 20 : 8;
    EXPECT_DOUBLE_EQ(layer.adapter.scale, alpha / static_cast<double>(rank)) << layer.path;
  }
  config.use_rslora = true;
  EXPECT_DOUBLE_EQ(config.scale_of("model.layers.0.self_attn.q_proj"), 8 / std::sqrt(2.0));
}

/// As peft: what reaches a folder is names or one pattern, whatever was asked for.
TEST(LoraAttach, TargetsBecomeAFormThatPeftHas) {
  const auto targets = [](const LoraConfig& config) {
    const auto model = make_model(tiny_config("llama"));
    const Lora lora = Lora::attach(*model, config);
    const std::filesystem::path folder = test::scratch_folder("targets");
    lora.save(folder);
    const std::vector<std::string> before = adapted_paths(*model);
    Lora(lora).detach();
    Lora::load(*model, folder);
    EXPECT_EQ(adapted_paths(*model), before);
    return lora.config().targets;
  };
  using Names = std::vector<std::string>;
  const Names all = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  EXPECT_EQ(targets(pattern(kAllLinear)).names, all);
  LoraConfig both = names({"lm_head"});
  both.targets.pattern = kAllLinear;
  Names with_head = all;
  with_head.push_back("lm_head");
  EXPECT_EQ(targets(both).names, with_head);
  EXPECT_EQ(targets(names({"q_proj", "v_proj"})).names, (Names{"q_proj", "v_proj"}));
  EXPECT_EQ(targets(pattern(".*q_proj")).pattern, ".*q_proj");
  // Ends would pick more than the pattern does: whole paths.
  LoraConfig mixed = names({"layers.1.mlp.up_proj"});
  mixed.targets.pattern = R"(.*\.0\..*q_proj)";
  EXPECT_EQ(targets(mixed).names, (Names{"model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"}));
  // peft takes layers_to_transform with names only.
  LoraConfig layered = pattern(".*q_proj");
  layered.layers = {1};
  EXPECT_EQ(targets(layered).names, Names{"q_proj"});
}

TEST(LoraAttach, WhatMatchesNothingIsRefused) {
  const auto attach = [](const std::function<void(LoraConfig&)>& change) {
    LoraConfig config = names({"q_proj", "v_proj"});
    change(config);
    return error_of([&] { Lora::attach(*make_model(tiny_config("llama")), config); });
  };
  EXPECT_EQ(attach([](LoraConfig& c) {
              c.excluded.names = {"qproj"};
            }).rfind("lora: exclude_modules: qproj matches no layer that gets an adapter", 0),
            0U);
  EXPECT_NE(attach([](LoraConfig& c) { c.excluded.pattern = ".*x"; }).find("exclude_modules: .*x"),
            std::string::npos);
  // up_proj exists, but gets no adapter.
  EXPECT_NE(attach([](LoraConfig& c) {
              c.rank_pattern = {{"up_proj", 2}};
            }).find("rank_pattern: up_proj"),
            std::string::npos);
  EXPECT_NE(attach([](LoraConfig& c) {
              c.alpha_pattern = {{"q_porj", 2}};
            }).find("alpha_pattern: q_porj"),
            std::string::npos);
  EXPECT_NE(attach([](LoraConfig& c) { c.layers = {2}; }).find("layers_to_transform must be in [0, 2)"),
            std::string::npos);
  EXPECT_EQ(attach([](LoraConfig& c) {
              c.excluded.names = {"layers.0.self_attn.q_proj"};
              c.rank_pattern = {{"v_proj", 2}};
            }),
            "no error");
}

TEST(LoraAttach, APatternThatDoesNotCompileIsShownAsWritten) {
  const std::string error =
      error_of([] { Lora::attach(*make_model(tiny_config("llama")), pattern("q_(proj")); });
  EXPECT_NE(error.find("lora: target_modules: the pattern \"q_(proj\" must compile"), std::string::npos)
      << error;
}

/// Under (?x) a comment reaches to the end of the line, and so over what the pattern is wrapped in.
TEST(LoraAttach, APatternMayEndInAComment) {
  const auto model = make_model(tiny_config("llama"));
  LoraConfig config = pattern("(?x) .* [qv]_proj  # query and value");
  config.rank_pattern = {{"(?x)v_proj #", 3}};
  const Lora lora = Lora::attach(*model, config);
  ASSERT_EQ(adapted_paths(*model).size(), 4U);
  EXPECT_EQ(lora.parameters()[0].tensor.size(0), 8);
  EXPECT_EQ(lora.parameters()[2].tensor.size(0), 3);
  EXPECT_NE(error_of([] {
              Lora::attach(*make_model(tiny_config("llama")), pattern("(?x) q)|(?: .* # "));
            }).find("must compile"),
            std::string::npos);
}

/// As Python's re, and unlike Ruby's: X{n}? repeats n times.
TEST(LoraAttach, PatternsMeanWhatTheyMeanToPython) {
  const auto model = make_model(tiny_config("llama"));
  EXPECT_NE(error_of([&] { Lora::attach(*model, pattern(".*v_proj(?:x){1}?")); }), "no error");
  Lora::attach(*model, pattern(".*v_pro(?:j){1}?"));
  EXPECT_EQ(adapted_paths(*model).size(), 2U);
}

TEST(LoraTrain, GradientsReachEveryAdapterInBf16Models) {
  const auto model = make_model(tiny_config("qwen3"), {.dtype = DType::BF16});
  const Lora lora = Lora::attach(*model, {});
  stir(lora);
  const Tensor ids = some_ids();
  backward(model->loss(model->forward_hidden(ids), shift_labels(ids)));
  for (const NamedTensor& parameter : lora.parameters()) {
    ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
    EXPECT_EQ(parameter.tensor.grad().dtype(), DType::F32);
    const std::vector<double> grad = values_of(parameter.tensor.grad());
    EXPECT_TRUE(std::any_of(grad.begin(), grad.end(), [](double g) { return g != 0; })) << parameter.name;
  }
  for (const NamedTensor& parameter : model->named_parameters())
    EXPECT_FALSE(parameter.tensor.grad().defined()) << parameter.name;
}

/// Layers that share an input run as one op: q, k and v, and gate and up. Targets that leave out the first of
/// a group must train all the same.
TEST(LoraTrain, TargetsBehindTheFirstOfTheirGroup) {
  for (const std::vector<std::string>& targets :
       {std::vector<std::string>{"v_proj"}, {"up_proj"}, {"k_proj", "v_proj"}}) {
    for (const DType dtype : {DType::F32, DType::BF16}) {
      const auto model = make_model(tiny_config("llama"), {.dtype = dtype});
      const Lora lora = Lora::attach(*model, names(targets));
      stir(lora);
      const Tensor ids = some_ids();
      backward(model->loss(model->forward_hidden(ids), shift_labels(ids)));
      ASSERT_EQ(lora.parameters().size(), 4 * targets.size());  // A and B in each of two blocks
      for (const NamedTensor& parameter : lora.parameters()) {
        ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
        const std::vector<double> grad = values_of(parameter.tensor.grad());
        EXPECT_TRUE(std::any_of(grad.begin(), grad.end(), [](double g) { return g != 0; })) << parameter.name;
      }
    }
  }
}

TEST(LoraTrain, DropoutFollowsItsGeneratorAndIsOffWithoutOne) {
  const auto model = make_model(tiny_config("llama"));
  LoraConfig config;
  config.dropout = 0.5;
  const Lora lora = Lora::attach(*model, config);
  stir(lora);
  const NoGrad guard;
  const auto hidden = [&](std::optional<std::uint64_t> seed) {
    Generator generator(seed.value_or(0));
    ForwardOptions options;
    if (seed) options.dropout = &generator;
    return values_of(model->forward_hidden(some_ids(), options));
  };
  EXPECT_EQ(hidden(1), hidden(1));
  EXPECT_NE(hidden(1), hidden(2));
  EXPECT_NE(hidden(1), hidden(std::nullopt));
}

/// As peft, whose modules have a dropout each.
TEST(LoraTrain, LayersThatShareAnInputHaveMasksOfTheirOwn) {
  Linear one{"a", zeros({6, 64}), {}, {}};
  one.adapter.a = ones({2, 64});
  one.adapter.b = ones({6, 2});
  one.adapter.dropout = 0.5;
  Linear two = one;
  two.path = "b";
  Linear plain{"c", ones({6, 64}), {}, {}};
  const LinearGroup group({&one, &two, &plain});
  const Tensor x = ones({3, 64});
  Generator generator(4);
  const auto drawn = group.forward(x, &generator);
  EXPECT_NE(values_of(drawn[0]), values_of(drawn[1]));
  EXPECT_EQ(values_of(drawn[2]), std::vector<double>(18, 64.0));
  const auto whole = group.forward(x);
  EXPECT_EQ(values_of(whole[0]), std::vector<double>(18, 128.0));
  EXPECT_EQ(values_of(whole[0]), values_of(whole[1]));
}

/// The adapters of a bf16 model are f32: the loss must see their lower bits, which training moves.
TEST(LoraHead, ABf16ModelsLossUsesTheAdaptersInF32) {
  const auto narrow = make_model(tiny_config("llama"), {.dtype = DType::BF16}, 1);
  const auto wide = make_model(tiny_config("llama"), {}, 1);
  copy_(wide->head().weight.dense(), narrow->head().weight.dense());
  LoraConfig config = names({"lm_head"});
  config.alpha = 64;
  const Lora a = Lora::attach(*narrow, config, 2);
  const Lora b = Lora::attach(*wide, config, 2);
  stir(a);
  stir(b);
  Generator generator(8);
  const Tensor hidden = normal({40, 32}, generator, 0, 1, DType::BF16);
  std::vector<std::int32_t> ids(40);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7 % 50);
  const Tensor targets = Tensor::from_values(ids, {40});
  const auto results = [&](const Model& model, const Lora& lora, const Tensor& x) {
    const Tensor loss = model.loss(x, targets);
    backward(loss);
    std::vector<std::vector<double>> values = {values_of(loss)};
    for (const NamedTensor& parameter : lora.parameters())
      values.push_back(values_of(parameter.tensor.grad()));
    return values;
  };
  const auto got = results(*narrow, a, hidden);
  const auto expected = results(*wide, b, cast(hidden, DType::F32));
  EXPECT_LE(relative_error(got[0], expected[0]), 2e-5);
  EXPECT_LE(relative_error(got[1], expected[1]), 1e-2);
  EXPECT_LE(relative_error(got[2], expected[2]), 1e-2);
}

TEST(LoraHead, LossOfAnAdaptedOutputLayerIsThatOfItsLogits) {
  for (const std::string tied : {"true", "false"}) {
    const auto model = make_model(tiny_config("llama", R"(, "tie_word_embeddings": )" + tied));
    const Lora lora = Lora::attach(*model, names({"lm_head", "q_proj"}));
    stir(lora);
    const Tensor ids = some_ids();
    const Tensor targets = shift_labels(ids);
    const auto gradients = [&](const Tensor& loss) {
      backward(loss);
      std::vector<std::vector<double>> result = {values_of(loss)};
      for (const NamedTensor& parameter : lora.parameters()) {
        result.push_back(values_of(parameter.tensor.grad()));
        parameter.tensor.set_grad({});
      }
      return result;
    };
    const auto chunked = gradients(model->loss(model->forward_hidden(ids), targets));
    const Tensor logits = reshape(model->logits(model->forward_hidden(ids)), {10, 50});
    const auto whole = gradients(sum(cross_entropy(logits, reshape(targets, {10})), {0}, true));
    ASSERT_EQ(chunked.size(), whole.size());
    for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_LE(relative_error(chunked[i], whole[i]), 1e-4) << i;
  }
}

TEST(LoraMerge, TiedOutputLayerLeavesTheEmbeddingAlone) {
  const auto model = make_model(tiny_config("llama", R"(, "tie_word_embeddings": true)"));
  Lora lora = Lora::attach(*model, names({"lm_head"}));
  stir(lora);
  EXPECT_TRUE(model->tied());
  const std::size_t parameters = model->named_parameters().size();
  const std::vector<double> embedding = values_of(model->named_parameters()[0].tensor);
  const std::vector<double> adapted = logits_of(*model);
  lora.merge();
  EXPECT_FALSE(model->tied());
  EXPECT_LE(relative_error(logits_of(*model), adapted), 1e-5);
  EXPECT_EQ(values_of(model->named_parameters()[0].tensor), embedding);
  EXPECT_EQ(model->named_parameters().size(), parameters + 1);
  EXPECT_EQ(model->named_parameters().back().name, "lm_head.weight");
  lora.unmerge();
  EXPECT_TRUE(model->tied());
  EXPECT_EQ(logits_of(*model), adapted);
}

TEST(LoraMerge, ABrokenAdapterIsNotMerged) {
  const auto model = make_model(tiny_config("llama"));
  Lora lora = Lora::attach(*model, {});
  stir(lora);
  const NamedTensor last = lora.parameters().back();
  fill_(last.tensor.detach(), std::numeric_limits<double>::quiet_NaN());
  const std::vector<double> before = values_of(model->named_parameters()[1].tensor);
  EXPECT_EQ(
      error_of([&] { lora.merge(); }),
      "lora: not merged: " + last.name + " (nan at element 0) is no finite number; the adapter is broken");
  EXPECT_FALSE(lora.merged());
  EXPECT_EQ(values_of(model->named_parameters()[1].tensor), before);
}

/// Memory may run out between two layers. What was merged by then is not merged again.
TEST(LoraMerge, AMergeThatFailedGoesOnWhereItStopped) {
  const auto whole = make_model(tiny_config("llama"));
  Lora reference = Lora::attach(*whole, {}, 5);
  stir(reference);
  reference.merge();
  const std::vector<double> merged = logits_of(*whole);
  for (const bool unmerged_first : {false, true}) {
    const auto model = make_model(tiny_config("llama"));
    const std::vector<double> base = logits_of(*model);
    Lora lora = Lora::attach(*model, {}, 5);
    stir(lora);
    const std::vector<double> adapted = logits_of(*model);
    LoraAdapter& last = model->linears()[model->linears().size() - 2].adapter;  // the head has none
    ASSERT_TRUE(last.b.defined());
    const Tensor b = std::exchange(last.b, zeros({1, 1}));
    EXPECT_NE(error_of([&] { lora.merge(); }), "no error");
    last.b = b;
    EXPECT_TRUE(lora.merged());
    EXPECT_THROW(lora.set_enabled(false), InvalidArgument);
    EXPECT_LE(relative_error(logits_of(*model), adapted), 1e-5);
    if (unmerged_first) {
      lora.unmerge();
      EXPECT_EQ(logits_of(*model), adapted);
    }
    lora.merge();
    EXPECT_EQ(logits_of(*model), merged);
    EXPECT_THROW(lora.merge(), InvalidArgument);
    lora.detach();
    EXPECT_EQ(logits_of(*model), base);
  }
}

TEST(LoraMerge, CopiesShareTheirState) {
  const auto model = make_model(tiny_config("llama"));
  Lora lora = Lora::attach(*model, {});
  stir(lora);
  Lora copy = lora;
  copy.merge();
  EXPECT_TRUE(lora.merged());
  EXPECT_THROW(lora.merge(), InvalidArgument);
  lora.unmerge();
  EXPECT_FALSE(copy.merged());
  copy.set_enabled(false);
  EXPECT_FALSE(lora.enabled());
  EXPECT_THROW(lora.merge(), InvalidArgument);
}

TEST(LoraMerge, StatesThatDoNotFitAreRefused) {
  const auto model = make_model(tiny_config("llama"));
  Lora lora = Lora::attach(*model, {});
  stir(lora);
  EXPECT_THROW(lora.unmerge(), InvalidArgument);
  lora.set_enabled(false);
  EXPECT_THROW(lora.merge(), InvalidArgument);
  lora.set_enabled(true);
  lora.merge(false);
  EXPECT_THROW(lora.merge(), InvalidArgument);
  EXPECT_THROW(lora.set_enabled(false), InvalidArgument);
  EXPECT_THROW(lora.unmerge(), InvalidArgument);  // the originals are gone
}

}  // namespace
}  // namespace candela
