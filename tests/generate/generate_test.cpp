#include <algorithm>
#include <gtest/gtest.h>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/generate/evaluate.h>
#include <candela/generate/generate.h>
#include <candela/ops/copy.h>
#include <candela/ops/softmax.h>

#include "support/golden.h"

namespace candela {
namespace {

using test::golden_folder;

std::vector<TokenId> greedy_ids(const std::string& model) {
  const SafetensorsReader expected =
      SafetensorsReader::open(golden_folder() / model / "expected.safetensors");
  std::vector<TokenId> ids;
  for (const std::int64_t id : expected.tensor("greedy").to_vector<std::int64_t>())
    ids.push_back(static_cast<TokenId>(id));
  return ids;
}

constexpr std::size_t kPromptTokens = 9;
constexpr std::size_t kNewTokens = 24;

class GreedyGolden : public testing::TestWithParam<const char*> {};

TEST_P(GreedyGolden, IdsEqualThoseOfTransformers) {
  const std::string name = GetParam();
  const auto model = load_model(
      golden_folder() / name,
      {.dtype = DType::F32, .device = Device::cpu(), .bf16_rope_frequencies = name == "llama_bf16"});
  const std::vector<TokenId> all = greedy_ids(name);
  ASSERT_EQ(all.size(), kPromptTokens + kNewTokens);
  const std::vector<TokenId> prompt(all.begin(), all.begin() + kPromptTokens);
  GenerateOptions options;
  options.max_tokens = kNewTokens;
  options.stop_at_eos = false;
  const Generation result = TextGenerator(*model).generate(prompt, options);
  EXPECT_EQ(result.ids(), std::vector<TokenId>(all.begin() + kPromptTokens, all.end()));
  EXPECT_EQ(result.finish, FinishReason::Length);
  EXPECT_EQ(result.prompt_tokens, static_cast<std::int64_t>(kPromptTokens));
}

INSTANTIATE_TEST_SUITE_P(Transformers, GreedyGolden,
                         testing::Values("llama", "llama_bf16", "mistral_sharded", "qwen2_tied", "qwen3"),
                         [](const auto& param_info) { return std::string(param_info.param); });

class Generate : public testing::Test {
 protected:
  Generate() : model_(load_model(golden_folder() / "llama")), generator_(*model_), all_(greedy_ids("llama")) {
    options_.max_tokens = kNewTokens;
    options_.stop_at_eos = false;
  }
  std::vector<TokenId> prompt(std::size_t length = kPromptTokens) const {
    return {all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(length)};
  }
  std::vector<std::vector<TokenId>> prompts(std::initializer_list<std::size_t> lengths) const {
    std::vector<std::vector<TokenId>> result;
    for (const std::size_t length : lengths) result.push_back(prompt(length));
    return result;
  }

  std::unique_ptr<Model> model_;
  TextGenerator generator_;
  std::vector<TokenId> all_;
  GenerateOptions options_;
};

/// A conversation: each turn's prompt is what was there, and some tokens more.
TEST_F(Generate, ATurnComputesOnlyWhatIsNewAndSaysTheSame) {
  options_.max_tokens = 5;
  options_.log_probabilities = true;
  for (const bool sampled : {false, true}) {
    options_.sampling.temperature = sampled ? 0.8 : 0;
    PrefixCache kept;
    std::vector<TokenId> text = prompt(4);
    for (std::size_t turn = 0; turn < 4; ++turn) {
      options_.seed = turn;
      const std::vector<TokenId> held = kept.tokens;
      const Generation anew = generator_.generate(text, options_);
      const Generation with = generator_.generate(text, options_, {}, &kept);
      EXPECT_EQ(with.ids(), anew.ids()) << "turn " << turn;
      EXPECT_EQ(anew.cached_tokens, 0);
      EXPECT_EQ(with.cached_tokens, static_cast<std::int64_t>(held.size()));
      for (std::size_t i = 0; i < anew.tokens.size(); ++i)
        EXPECT_NEAR(with.tokens[i].log_probability, anew.tokens[i].log_probability, 1e-5);
      for (const TokenId id : with.ids()) text.push_back(id);
      EXPECT_EQ(kept.tokens, std::vector<TokenId>(text.begin(), text.end() - 1))
          << "the last id went through no layer";
      text.insert(text.end(), {static_cast<TokenId>(3 + turn), 7});
    }
  }
}

/// To the bit what the same passes give by hand: a prompt, its continuation, and the new tokens at once.
TEST_F(Generate, AKeptPrefixHasTheBitsOfItsPasses) {
  options_.max_tokens = 3;
  options_.log_probabilities = true;
  PrefixCache kept;
  std::vector<TokenId> text = prompt(6);
  const std::vector<TokenId> first = generator_.generate(text, options_, {}, &kept).ids();
  text.insert(text.end(), first.begin(), first.end());
  text.push_back(11);
  const Generation second = generator_.generate(text, options_, {}, &kept);
  ASSERT_EQ(second.cached_tokens, 8);
  const NoGrad guard;
  KvCache cache = model_->make_cache(1);
  Tensor hidden;
  for (const auto& [begin, end] : {std::pair(0, 6), std::pair(6, 7), std::pair(7, 8), std::pair(8, 10)}) {
    ForwardOptions forward;
    forward.cache = &cache;
    const std::vector<std::int32_t> ids(text.begin() + begin, text.begin() + end);
    hidden = model_->forward_hidden(Tensor::from_values(ids, {1, end - begin}), forward);
  }
  const Tensor last =
      slice(reshape(hidden, {hidden.size(1), hidden.size(2)}), 0, hidden.size(1) - 1, hidden.size(1));
  const std::vector<float> logits = cast(model_->logits(last), DType::F32).to_vector<float>();
  EXPECT_EQ(log_probability(logits, second.tokens[0].id), second.tokens[0].log_probability);
}

TEST_F(Generate, APrefixIsUsedAsFarAsThePromptBeginsAlike) {
  options_.max_tokens = 4;
  PrefixCache kept;
  const std::vector<TokenId> text = prompt(8);
  generator_.generate(text, options_, {}, &kept);
  std::vector<TokenId> other = text;
  other[5] = static_cast<TokenId>(other[5] == 1 ? 2 : 1);
  const Generation half = generator_.generate(other, options_, {}, &kept);
  EXPECT_EQ(half.cached_tokens, 5);
  EXPECT_EQ(half.ids(), generator_.generate(other, options_).ids());
  // All of the prompt is held, and one token must be left to predict from.
  const Generation again = generator_.generate(other, options_, {}, &kept);
  EXPECT_EQ(again.cached_tokens, 7);
  EXPECT_EQ(again.ids(), half.ids());
  other[0] = static_cast<TokenId>(other[0] == 1 ? 2 : 1);
  EXPECT_EQ(generator_.generate(other, options_, {}, &kept).cached_tokens, 0);
  kept.clear();
  EXPECT_EQ(generator_.generate(other, options_, {}, &kept).cached_tokens, 0);
}

TEST_F(Generate, BatchesOfAllSizesEqualSingleCalls) {
  const auto many = prompts({9, 2, 30, 1, 17, 9, 5});
  for (const std::int64_t batch_size : {1, 3, 16}) {
    options_.batch_size = batch_size;
    std::size_t progress = 0;
    const std::vector<Generation> results =
        generator_.generate_batch(many, options_, [&](std::size_t n) { progress = n; });
    ASSERT_EQ(results.size(), many.size());
    EXPECT_EQ(progress, many.size());
    for (std::size_t i = 0; i < many.size(); ++i) {
      EXPECT_EQ(results[i].ids(), generator_.generate(many[i], options_).ids())
          << "prompt " << i << ", batch " << batch_size;
    }
  }
}

TEST_F(Generate, RowsThatStopEarlyLeaveTheOthersAlone) {
  const auto many = prompts({9, 4, 20, 12});
  // The stop tokens come from two rows' own continuations, so that rows end at different times.
  const std::vector<Generation> full = generator_.generate_batch(many, options_);
  options_.stop_tokens = {full[0].tokens[3].id, full[1].tokens[10].id};
  const std::vector<Generation> stopped = generator_.generate_batch(many, options_);
  for (std::size_t i = 0; i < many.size(); ++i) {
    std::vector<TokenId> expected;
    bool found = false;
    for (const TokenId id : full[i].ids()) {
      expected.push_back(id);
      found = id == options_.stop_tokens[0] || id == options_.stop_tokens[1];
      if (found) break;
    }
    EXPECT_EQ(stopped[i].ids(), expected);
    EXPECT_EQ(stopped[i].finish, found ? FinishReason::StopToken : FinishReason::Length);
  }
  EXPECT_EQ(stopped[0].finish, FinishReason::StopToken);
}

TEST_F(Generate, SamplingRepeatsWithItsSeedWhateverTheBatch) {
  options_.sampling = {.temperature = 1.5};
  options_.seed = 11;
  const std::vector<std::vector<TokenId>> many(5, prompt());
  options_.batch_size = 2;
  const std::vector<Generation> first = generator_.generate_batch(many, options_);
  options_.batch_size = 5;
  const std::vector<Generation> second = generator_.generate_batch(many, options_);
  for (std::size_t i = 0; i < many.size(); ++i) EXPECT_EQ(first[i].ids(), second[i].ids());
  EXPECT_EQ(first[0].ids(), generator_.generate(many[0], options_).ids());
  EXPECT_NE(first[0].ids(), first[1].ids());
  options_.seed = 12;
  EXPECT_NE(generator_.generate(many[0], options_).ids(), first[0].ids());
}

TEST_F(Generate, ProbabilitiesAreTheModelsOwn) {
  options_.log_probabilities = true;
  options_.alternatives = 3;
  options_.sampling.repetition_penalty = 5;  // must not show in the probabilities
  options_.max_tokens = 6;
  const Generation result = generator_.generate(prompt(), options_);
  std::vector<TokenId> whole = prompt();
  for (const TokenId id : result.ids()) whole.push_back(id);
  const NoGrad guard;
  const auto length = static_cast<std::int64_t>(whole.size());
  const Tensor logits = model_->logits(model_->forward_hidden(Tensor::from_values(whole, {1, length})));
  const std::vector<float> expected = log_softmax(logits).to_vector<float>();
  const auto vocab = static_cast<std::size_t>(model_->config().vocab_size);
  for (std::size_t i = 0; i < result.tokens.size(); ++i) {
    const float* row = expected.data() + (kPromptTokens - 1 + i) * vocab;
    const GeneratedToken& token = result.tokens[i];
    EXPECT_NEAR(token.log_probability, row[token.id], 1e-4);
    ASSERT_EQ(token.alternatives.size(), 3U);
    EXPECT_NEAR(token.alternatives[0].second, *std::max_element(row, row + vocab), 1e-4);
    EXPECT_GE(token.alternatives[0].second, token.alternatives[1].second);
    for (const auto& [id, value] : token.alternatives) EXPECT_NEAR(value, row[id], 1e-4);
  }
}

TEST_F(Generate, StopsAtTheEndOfTheContext) {
  options_.max_tokens = 100;
  const Generation result = generator_.generate(std::vector<TokenId>(509, 7), options_);
  EXPECT_EQ(result.finish, FinishReason::Context);
  EXPECT_EQ(result.tokens.size(), 3U);
  EXPECT_THROW(generator_.generate(std::vector<TokenId>(512, 7), options_), InvalidArgument);
}

TEST_F(Generate, BadRequestsAreRefused) {
  EXPECT_THROW(generator_.generate(std::vector<TokenId>{}, options_), InvalidArgument);
  EXPECT_THROW(generator_.generate(std::vector<TokenId>{384}, options_), InvalidArgument);
  EXPECT_THROW(generator_.generate(std::vector<TokenId>{-1}, options_), InvalidArgument);
  EXPECT_THROW(generator_.generate("text", options_), InvalidArgument);
  GenerateOptions wrong;
  wrong.max_tokens = 0;
  EXPECT_THROW(generator_.generate(prompt(), wrong), InvalidArgument);
  wrong.max_tokens = INT64_MAX;
  EXPECT_THROW(generator_.generate(prompt(), wrong), InvalidArgument);
  wrong = {};
  wrong.stop_strings = {"a"};
  EXPECT_THROW(generator_.generate(prompt(), wrong), InvalidArgument);
}

TEST_F(Generate, ABrokenWeightIsNamed) {
  const NamedTensor weight = model_->named_parameters().back();
  fill_(weight.tensor.detach(), std::numeric_limits<double>::quiet_NaN());
  try {
    generator_.generate(prompt(), options_);
    FAIL() << "generated";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "generate: the model gave a logit of nan: " + weight.name +
                  " (nan at element 0) is no finite number; the model or its adapter is broken");
  }
}

/// A prompt is framed as a row of training is, whether the post-processor (as in Llama-3) or the
/// configuration asks for BOS.
TEST(GenerateFrame, PromptsBeginAsRowsOfTrainingDo) {
  const auto tokenizer = [](const std::string& post) {
    return Tokenizer::parse(R"({"added_tokens": [{"id": 0, "content": "<s>", "special": true},
        {"id": 1, "content": "</s>", "special": true}], )" +
                                post + R"(
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"a": 2, "b": 3}, "merges": []}})",
                            "t");
  };
  const std::string templated = R"("post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "</s>", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                                     "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},)";
  ModelConfig config = ModelConfig::parse(
      R"({"model_type": "llama", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
          "num_attention_heads": 1, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1})",
      "c");
  for (const bool in_template : {true, false}) {
    for (const std::optional<bool> asked :
         {std::optional<bool>(), std::optional(true), std::optional(false)}) {
      config.add_bos_token = asked;
      const Tokenizer t = tokenizer(in_template ? templated : "");
      const auto model = make_model(config);
      const Dataset rows = Dataset::parse(R"({"prompt": "ab", "completion": "b"})", "d", t,
                                          DatasetOptions::for_model(t, model->config()));
      const std::vector<Question> questions = questions_of(rows.samples, t);
      ASSERT_EQ(questions.size(), 1U);
      GenerateOptions options;
      options.max_tokens = 1;
      options.alternatives = 1;
      TextGenerator generator(*model, t);
      const Generation text = generator.generate("ab", options);
      EXPECT_EQ(text.prompt_tokens, static_cast<std::int64_t>(questions[0].prompt.size()));
      EXPECT_EQ(text.tokens[0].alternatives,
                generator.generate(questions[0].prompt, options).tokens[0].alternatives);
      EXPECT_EQ(text.prompt_tokens, asked.value_or(in_template) ? 3 : 2);
    }
  }
}

/// The bundled model: real text through its tokenizer.
class GenerateText : public testing::Test {
 protected:
  void SetUp() override {
    const std::filesystem::path folder = std::filesystem::path(CANDELA_SOURCE_DIR) / "models" / "stories-7m";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
    model_ = load_model(folder, {.dtype = DType::F32});
    generator_.emplace(*model_, Tokenizer::load(folder));
    options_.max_tokens = 40;
  }
  static constexpr const char* kPrompt = "Once upon a time, there was a little";

  std::unique_ptr<Model> model_;
  std::optional<TextGenerator> generator_;
  GenerateOptions options_;
};

TEST_F(GenerateText, StreamedPiecesJoinToTheText) {
  std::string streamed;
  int pieces = 0;
  const Generation result = generator_->generate(kPrompt, options_, [&](std::string_view piece) {
    streamed += piece;
    ++pieces;
    return true;
  });
  EXPECT_EQ(streamed, result.text);
  EXPECT_FALSE(result.text.empty());
  EXPECT_GT(pieces, 5);
}

TEST_F(GenerateText, StopStringsEndTheTextBeforeThem) {
  const std::string whole = generator_->generate(kPrompt, options_).text;
  ASSERT_GT(whole.size(), 30U);
  const std::string stop = whole.substr(12, 9);  // begins and ends within tokens
  options_.stop_strings = {"never to be seen", stop};
  std::string streamed;
  const Generation result = generator_->generate(kPrompt, options_, [&](std::string_view piece) {
    streamed += piece;
    return true;
  });
  EXPECT_EQ(result.finish, FinishReason::StopString);
  EXPECT_EQ(result.text, whole.substr(0, whole.find(stop)));
  EXPECT_EQ(streamed, result.text);
}

TEST_F(GenerateText, TheCallbackCanCancel) {
  int pieces = 0;
  const Generation result =
      generator_->generate(kPrompt, options_, [&](std::string_view) { return ++pieces < 3; });
  EXPECT_EQ(result.finish, FinishReason::Cancelled);
  EXPECT_EQ(pieces, 3);
}

}  // namespace
}  // namespace candela
