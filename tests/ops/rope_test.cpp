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

std::vector<RecordedRope> recorded_ropes() {
  const std::vector<double> plain = {1,
                                     0.193922758,
                                     0.0376060307,
                                     0.00729266508,
                                     0.00141421345,
                                     0.000274248188,
                                     5.31829573e-05,
                                     1.03133852e-05};
  const std::vector<double> yarn = {1,
                                    0.145442069,
                                    0.0188030154,
                                    0.00182316627,
                                    0.000353553361,
                                    6.85620471e-05,
                                    1.32957393e-05,
                                    2.57834631e-06};
  const RopeConfig of_64{.theta = 500000, .rotary_dim = 16, .max_positions = 64};
  RopeConfig linear = of_64;
  linear.type = "linear";
  linear.factor = 4;
  // `dynamic` looks at max_position_embeddings alone; an original_max_position_embeddings beside it is
  // ignored.
  RopeConfig dynamic = of_64;
  dynamic.type = "dynamic";
  dynamic.factor = 2;
  dynamic.original_max_positions = 16;
  RopeConfig llama3{.type = "llama3", .theta = 500000, .rotary_dim = 16, .max_positions = 4096};
  llama3.factor = 8;
  llama3.original_max_positions = 512;
  RopeConfig yarn_of_256{.type = "yarn", .theta = 500000, .rotary_dim = 16, .max_positions = 1024};
  yarn_of_256.factor = 4;
  yarn_of_256.original_max_positions = 256;
  RopeConfig untruncated = yarn_of_256;
  untruncated.truncate = false;
  RopeConfig without_original = yarn_of_256;
  without_original.original_max_positions = 0;
  RopeConfig given_attention = yarn_of_256;
  given_attention.attention_factor = 1.25;
  RopeConfig derived_factor = yarn_of_256;  // factor null: 1024 / 128
  derived_factor.factor = 8;
  derived_factor.original_max_positions = 128;
  RopeConfig mscale{.type = "yarn", .theta = 500000, .rotary_dim = 16, .max_positions = 163840};
  mscale.factor = 40;
  mscale.original_max_positions = 4096;
  RopeConfig mscale_alone = mscale;
  mscale_alone.mscale = 0.7;
  mscale.mscale = 1;
  mscale.mscale_all_dim = 0.8;
  mscale.beta_fast = 16;
  mscale.beta_slow = 2;
  return {
      {"default", of_64, 64, plain, 1},
      {"linear",
       linear,
       64,
       {0.25, 0.0484806895, 0.00940150768, 0.00182316627, 0.000353553361, 6.85620471e-05, 1.32957393e-05,
        2.57834631e-06},
       1},
      {"dynamic_below", dynamic, 40, plain, 1},
      {"dynamic_at", dynamic, 64, plain, 1},
      {"dynamic_above",
       dynamic,
       160,
       {1, 0.159081683, 0.0253069829, 0.00402587745, 0.000640443352, 0.000101882812, 1.62076885e-05,
        2.57834654e-06},
       1},
      {"llama3",
       llama3,
       4096,
       {1, 0.193922758, 0.0273441337, 0.000911583134, 0.000176776681, 3.42810235e-05, 6.64786967e-06,
        1.28917316e-06},
       1},
      {"yarn", yarn_of_256, 1024, yarn, 1.1386294361119891},
      {"yarn_untruncated",
       untruncated,
       1024,
       {1, 0.135224015, 0.0128741162, 0.00182316627, 0.000353553361, 6.85620471e-05, 1.32957393e-05,
        2.57834631e-06},
       1.1386294361119891},
      {"yarn_without_original",
       without_original,
       1024,
       {1, 0.157562241, 0.0235037692, 0.00319054094, 0.000353553361, 6.85620471e-05, 1.32957393e-05,
        2.57834631e-06},
       1.1386294361119891},
      {"yarn_attention_factor", given_attention, 1024, yarn, 1.25},
      {"yarn_derived_factor",
       derived_factor,
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
  for (const RecordedRope& recorded : recorded_ropes()) {
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
