#include <cmath>

#include <candela/core/error.h>
#include <candela/ops/copy.h>
#include <candela/ops/rope.h>

#include "ops/op_cases.h"

namespace candela::cases {

INSTANTIATE_TEST_SUITE_P(rope, Forward, testing::ValuesIn(tested("rope")), test_name);
INSTANTIATE_TEST_SUITE_P(rope, Backward, testing::ValuesIn(tested("rope")), test_name);
INSTANTIATE_TEST_SUITE_P(rope, ReferenceGradient, testing::ValuesIn(with_reference_gradient("rope")),
                         test_name);

/// `inv_freq` and `attention_scaling` of transformers 5.24.0 for a head of 16 and rope_theta 500000, from
/// ROPE_INIT_FUNCTIONS[rope_type](LlamaConfig(...), seq_len=length); transformers 4.57.6 gives the same to
/// the last bit. It computes them in f32.
struct RecordedRope {
  const char* name;
  RopeConfig config;
  std::int64_t length;
  std::vector<double> inverse;
  double attention_scale;
};

using Frequencies = std::vector<double>;

const Frequencies kPlain = {1,
                            0.193922758,
                            0.0376060307,
                            0.00729266508,
                            0.00141421345,
                            0.000274248188,
                            5.31829573e-05,
                            1.03133852e-05};

RopeConfig rope_of(const std::string& type, std::int64_t max_positions, double factor = 1,
                   std::int64_t original_max_positions = 0) {
  RopeConfig config{.type = type, .theta = 500000, .rotary_dim = 16, .max_positions = max_positions};
  config.factor = factor;
  config.original_max_positions = original_max_positions;
  return config;
}

std::vector<RecordedRope> recorded_ropes() {
  // `dynamic` looks at max_position_embeddings alone, whatever original_max_position_embeddings says.
  const RopeConfig dynamic = rope_of("dynamic", 64, 2, 16);
  return {
      {"default", rope_of("default", 64), 64, kPlain, 1},
      {"linear",
       rope_of("linear", 64, 4),
       64,
       {0.25, 0.0484806895, 0.00940150768, 0.00182316627, 0.000353553361, 6.85620471e-05, 1.32957393e-05,
        2.57834631e-06},
       1},
      {"dynamic_below", dynamic, 40, kPlain, 1},
      {"dynamic_at", dynamic, 64, kPlain, 1},
      {"dynamic_above",
       dynamic,
       160,
       {1, 0.159081683, 0.0253069829, 0.00402587745, 0.000640443352, 0.000101882812, 1.62076885e-05,
        2.57834654e-06},
       1},
      {"llama3",
       rope_of("llama3", 4096, 8, 512),
       4096,
       {1, 0.193922758, 0.0273441337, 0.000911583134, 0.000176776681, 3.42810235e-05, 6.64786967e-06,
        1.28917316e-06},
       1},
  };
}

std::vector<RecordedRope> recorded_yarn_ropes() {
  const Frequencies truncated = {1,
                                 0.145442069,
                                 0.0188030154,
                                 0.00182316627,
                                 0.000353553361,
                                 6.85620471e-05,
                                 1.32957393e-05,
                                 2.57834631e-06};
  RopeConfig untruncated = rope_of("yarn", 1024, 4, 256);
  untruncated.truncate = false;
  RopeConfig given_attention = rope_of("yarn", 1024, 4, 256);
  given_attention.attention_factor = 1.25;
  RopeConfig mscale = rope_of("yarn", 163840, 40, 4096);
  mscale.mscale = 1;
  mscale.mscale_all_dim = 0.8;
  mscale.beta_fast = 16;
  mscale.beta_slow = 2;
  RopeConfig mscale_alone = rope_of("yarn", 163840, 40, 4096);
  mscale_alone.mscale = 0.7;
  return {
      {"yarn", rope_of("yarn", 1024, 4, 256), 1024, truncated, 1.1386294361119891},
      {"yarn_untruncated",
       untruncated,
       1024,
       {1, 0.135224015, 0.0128741162, 0.00182316627, 0.000353553361, 6.85620471e-05, 1.32957393e-05,
        2.57834631e-06},
       1.1386294361119891},
      {"yarn_without_original",
       rope_of("yarn", 1024, 4),
       1024,
       {1, 0.157562241, 0.0235037692, 0.00319054094, 0.000353553361, 6.85620471e-05, 1.32957393e-05,
        2.57834631e-06},
       1.1386294361119891},
      {"yarn_attention_factor", given_attention, 1024, truncated, 1.25},
      // factor null: 1024 / 128, as the configuration's reader derives it
      {"yarn_derived_factor",
       rope_of("yarn", 1024, 8, 128),
       1024,
       {1, 0.109081551, 0.00470075384, 0.000911583134, 0.000176776681, 3.42810235e-05, 6.64786967e-06,
        1.28917316e-06},
       1.2079441541679836},
      {"yarn_mscale",
       mscale,
       163840,
       {1, 0.193922758, 0.0376060307, 0.00373749086, 3.53553369e-05, 6.85620444e-06, 1.32957393e-06,
        2.57834614e-07},
       1.0569662567531275},
      {"yarn_mscale_alone",
       mscale_alone,
       163840,
       {1, 0.193922758, 0.0253840704, 0.00255243247, 3.53553369e-05, 6.85620444e-06, 1.32957393e-06,
        2.57834614e-07},
       1.3688879454113936},
  };
}

TEST(Rope, FrequenciesAreThoseOfTransformers) {
  std::vector<RecordedRope> all = recorded_ropes();
  for (const RecordedRope& yarn : recorded_yarn_ropes()) all.push_back(yarn);
  for (const RecordedRope& recorded : all) {
    const RopeFrequencies found = rope_frequencies(recorded.config, recorded.length);
    EXPECT_NEAR(found.attention_scale, recorded.attention_scale, 1e-12) << recorded.name;
    ASSERT_EQ(found.inverse.size(), recorded.inverse.size()) << recorded.name;
    for (std::size_t i = 0; i < recorded.inverse.size(); ++i) {
      EXPECT_NEAR(found.inverse[i], recorded.inverse[i], 1e-6 * recorded.inverse[i])
          << recorded.name << " at " << i;
    }
  }
}

TEST(Rope, TablesAreF32) {
  RopeConfig config;
  config.rotary_dim = 4;
  RopeTable table = rope_table(config, 8);
  const Tensor x = Tensor::from_values(std::vector<float>(8, 1.0F), {1, 2, 1, 4});
  const Tensor positions = Tensor::from_values(std::vector<std::int32_t>{0, 1}, {2});
  table.cos = cast(table.cos, DType::BF16);
  EXPECT_THROW(rope(x, table, positions), InvalidArgument);
  table = {rope_table(config, 8).cos, cast(rope_table(config, 8).sin, DType::F64)};
  EXPECT_THROW(rope(x, table, positions), InvalidArgument);
}

TEST(Rope, ATableThatRequiresAGradientIsRefused) {
  RopeConfig config;
  config.rotary_dim = 4;
  const Tensor x = Tensor::from_values(std::vector<float>(8, 1.0F), {1, 2, 1, 4});
  const Tensor positions = Tensor::from_values(std::vector<std::int32_t>{0, 1}, {2});
  RopeTable table = rope_table(config, 8);
  table.sin.set_requires_grad(true);
  EXPECT_THROW(rope(x, table, positions), Unsupported);
  table.sin.set_requires_grad(false);
  EXPECT_NO_THROW(rope(x, table, positions));
}

TEST(Rope, FrequenciesCanBeRoundedToBf16) {
  RopeConfig config;
  config.rotary_dim = 4;
  const Tensor rounded = rope_table(config, 8, Device::cpu(), true).cos;
  // theta^(-2 / 4) = 0.01, which bf16 holds as 0.010009765625.
  EXPECT_EQ(rounded.to_vector<float>()[15], static_cast<float>(std::cos(7 * 0.010009765625)));
  EXPECT_EQ(rope_table(config, 8).cos.to_vector<float>()[15], static_cast<float>(std::cos(7 * 0.01)));
}

TEST(Rope, RefusesPositionsBeyondTheTable) {
  RopeConfig config;
  config.rotary_dim = 4;
  const RopeTable table = rope_table(config, 8);
  const Tensor x = Tensor::from_values(std::vector<float>(8, 1.0F), {1, 2, 1, 4});
  for (const std::int32_t position : {8, -1}) {
    EXPECT_THROW(rope(x, table, Tensor::from_values(std::vector<std::int32_t>{0, position}, {2})),
                 InvalidArgument);
  }
}

}  // namespace candela::cases
