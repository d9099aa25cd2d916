#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <vector>

#include <candela/core/device.h>
#include <candela/lora/lora.h>
#include <candela/ops/loss.h>
#include <candela/train/trainer.h>

#include "support/tiny_models.h"
#include "train/pass_recorder.h"

namespace candela {
namespace {

/// Two rows of 20 and 13 inputs, of which some are trained.
HostBatch batch_of_two() {
  std::vector<Sample> samples(2);
  Generator generator(3);
  for (int length : {21, 14}) {
    Sample& sample = samples[length == 21 ? 0 : 1];
    for (int t = 0; t < length; ++t) {
      sample.ids.push_back(static_cast<TokenId>(generator.next_below(50)));
      sample.trained.push_back(t > 4 ? 1 : 0);
    }
  }
  const std::size_t rows[] = {0, 1};
  return make_host_batch(samples, rows, 7);
}

TEST(Bucket, RoundsLengthAndTrainedPositionsUp) {
  const HostBatch given = batch_of_two();
  const HostBatch bucket = bucketed(given, 7);
  ASSERT_EQ(given.length, 20);
  EXPECT_EQ(bucket.length, 32);
  EXPECT_EQ(bucket.rows, given.rows);
  EXPECT_EQ(bucket.tokens, given.tokens);
  EXPECT_EQ(bucket.trained_tokens(), given.trained_tokens());
  EXPECT_EQ(bucket.targets.size(), 32U) << "25 trained positions";
  for (std::int64_t row = 0; row < 2; ++row) {
    for (std::int64_t t = 0; t < bucket.length; ++t) {
      const std::int32_t id = bucket.ids[static_cast<std::size_t>(row * bucket.length + t)];
      EXPECT_EQ(id, t < given.length ? given.ids[static_cast<std::size_t>(row * given.length + t)] : 7);
    }
  }
  EXPECT_EQ(std::set<std::int32_t>(bucket.positions.begin(), bucket.positions.end()).size(),
            bucket.positions.size());
  for (std::size_t i = 0; i < given.targets.size(); ++i) {
    EXPECT_EQ(bucket.targets[i], given.targets[i]);
    EXPECT_EQ(bucket.ids[static_cast<std::size_t>(bucket.positions[i])],
              given.ids[static_cast<std::size_t>(given.positions[i])]);
  }
  for (std::size_t i = given.targets.size(); i < bucket.targets.size(); ++i)
    EXPECT_EQ(bucket.targets[i], kIgnoreIndex);
}

TEST(Bucket, TakesNoMorePositionsThanThereAre) {
  HostBatch batch = batch_of_two();
  batch.targets.assign(static_cast<std::size_t>(batch.computed()), 1);
  batch.positions.resize(batch.targets.size());
  for (std::size_t i = 0; i < batch.positions.size(); ++i) batch.positions[i] = static_cast<std::int32_t>(i);
  const HostBatch bucket = bucketed(batch, 7);
  EXPECT_LE(static_cast<std::int64_t>(bucket.targets.size()), bucket.computed());
  EXPECT_EQ(bucket.trained_tokens(), batch.computed());
}

TEST(Bucket, LeavesPackedBatchesAsTheyAre) {
  HostBatch batch = batch_of_two();
  batch.cu_seqlens = {0, 20, 40};
  EXPECT_EQ(bucketed(batch, 7).ids, batch.ids);
}

TEST(Bucket, TrainsAsTheBatchItIsMadeOf) {
  const auto outcome = [](const HostBatch& batch) {
    auto model = make_model(test::tiny_config("llama"), {DType::F32, Device::cpu()}, 3);
    LoraConfig lora;
    lora.rank = 4;
    Lora::attach(*model, lora, 5);
    Trainer trainer(*model, {});
    const Batch uploaded = batch.upload(Device::cpu());
    trainer.step(std::span(&uploaded, 1), 1e-2);
    return trainer.step(std::span(&uploaded, 1), 1e-2);
  };
  const Trainer::StepOutcome given = outcome(batch_of_two());
  const Trainer::StepOutcome bucket = outcome(bucketed(batch_of_two(), 7));
  EXPECT_NEAR(bucket.loss, given.loss, 1e-6 * given.loss);
  EXPECT_NEAR(bucket.norm, given.norm, 1e-5 * given.norm);
}

TEST(DefaultDevice, IsNoStandIn) {
  const Device device = parse_device("auto");
  EXPECT_EQ(device, default_device());
  EXPECT_FALSE(device_interface(device).stand_in());
  EXPECT_TRUE(device.type == DeviceType::Cpu || device.type == DeviceType::Cuda ||
              device.type == DeviceType::Metal);
}

}  // namespace
}  // namespace candela
