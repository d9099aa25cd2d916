#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <thread>

#include <candela/generate/generate.h>
#include <candela/lora/lora.h>
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

}  // namespace
}  // namespace candela
