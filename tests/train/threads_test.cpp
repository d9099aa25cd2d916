#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <thread>

#include <candela/autograd/backward.h>
#include <candela/embed/embedder.h>
#include <candela/generate/generate.h>
#include <candela/lora/lora.h>
#include <candela/ops/matmul.h>
#include <candela/train/trainer.h>

#include "support/golden.h"

/// What host threads may do side by side: each with a model of its own. Under the thread sanitizer this
/// proves that nothing behind the models is shared without synchronisation.
namespace candela {
namespace {

using test::golden_folder;

Sample sample_of(std::int32_t first) {
  Sample sample;
  for (std::int32_t i = 0; i < 6; ++i) sample.ids.push_back((first + 3 * i) % 40);
  sample.trained.assign(sample.ids.size(), 1);
  sample.trained.front() = 0;
  sample.answer = sample.trained;
  return sample;
}

/// The loss after a few steps.
double train() {
  const auto model = load_model(golden_folder() / "llama");
  const Lora lora = Lora::attach(*model, {.rank = 2}, 5);
  const std::vector<Sample> samples = {sample_of(1), sample_of(7), sample_of(20)};
  TrainOptions options;
  options.batch_size = 2;
  options.max_steps = 3;
  double loss = 0;
  Trainer(*model, options).fit(samples, {}, [&](const StepReport& report) { loss = report.loss; });
  return loss;
}

std::vector<TokenId> generate() {
  const auto model = load_model(golden_folder() / "qwen3");
  GenerateOptions options;
  options.max_tokens = 6;
  options.stop_at_eos = false;
  return TextGenerator(*model).generate(std::vector<TokenId>{1, 2, 3}, options).ids();
}

/// Loads, saves an adapter, puts it on another model, frees all.
double load_and_free() {
  const std::filesystem::path folder = test::scratch_folder(
      fmt::format("threads_{}", std::hash<std::thread::id>()(std::this_thread::get_id())));
  const auto first = load_model(golden_folder() / "llama");
  Lora::attach(*first, {.rank = 3}, 9).save(folder);
  const auto second = load_model(golden_folder() / "llama");
  return Lora::load(*second, folder).config().alpha;
}

TEST(Threads, ModelsOfTheirOwnGiveEachThreadWhatOneThreadAloneGets) {
  const double loss = train();
  const std::vector<TokenId> ids = generate();
  const double alpha = load_and_free();
  std::vector<std::thread> threads;
  std::vector<int> wrong(6, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 3; ++round) {
        const bool right = t % 3 == 0   ? train() == loss
                           : t % 3 == 1 ? generate() == ids
                                        : load_and_free() == alpha;
        wrong[t] += right ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(wrong.size(), 0));
}

/// Continues `prompt` on a model that other threads use too.
std::vector<TokenId> continue_on(Model& model, TokenId prompt) {
  GenerateOptions options;
  options.max_tokens = 6;
  options.stop_at_eos = false;
  return TextGenerator(model).generate(std::vector<TokenId>{prompt, 2, 3}, options).ids();
}

std::vector<float> embed_on(const Embedder& embedder, TokenId first) {
  return embedder.embed_ids({{first, 5, 9}, {7, first}}).to_vector<float>();
}

/// One model that several threads generate with and one embedder for several, while others train, load and
/// free.
TEST(Threads, OneModelAndOneEmbedderServeSeveralThreadsBesideTraining) {
  const auto model = load_model(golden_folder() / "qwen3");
  Lora::attach(*model, {.rank = 2}, 7);
  const Embedder embedder = Embedder::load(golden_folder() / "bert");
  const double loss = train();
  const double alpha = load_and_free();
  std::vector<std::vector<TokenId>> ids;
  std::vector<std::vector<float>> vectors;
  for (TokenId t = 0; t < 3; ++t) {
    ids.push_back(continue_on(*model, 1 + t));
    vectors.push_back(embed_on(embedder, 11 + t));
  }
  std::vector<std::thread> threads;
  std::vector<int> wrong(8, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      const auto id = static_cast<TokenId>(t % 3);
      for (int round = 0; round < 3; ++round) {
        const bool right = t < 3    ? continue_on(*model, 1 + id) == ids[t]
                           : t < 6  ? embed_on(embedder, 11 + id) == vectors[t % 3]
                           : t == 6 ? train() == loss
                                    : load_and_free() == alpha;
        wrong[t] += right ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(wrong.size(), 0));
}

/// Graphs that share a frozen tensor but no leaf: each thread's walk gives what it gives alone.
TEST(Threads, GraphsWithoutACommonLeafAreWalkedSideBySide) {
  const Tensor weight = Tensor::from_values<float>({1, -2, 3, 0.5F, 4, -1}, {2, 3});
  const auto gradient = [&](float value) {
    Tensor x = Tensor::from_values<float>({value, 2, -value}, {1, 3});
    x.set_requires_grad(true);
    backward(linear(x, weight), Tensor::from_values<float>({1, 2}, {1, 2}));
    return x.grad().to_vector<float>();
  };
  const std::vector<float> expected = gradient(3);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) count += gradient(3) == expected ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(wrong.size(), 0));
}

}  // namespace
}  // namespace candela
