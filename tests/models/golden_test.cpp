#include "support/golden.h"

#include <gtest/gtest.h>

#include <candela/autograd/backward.h>
#include <candela/core/grad.h>
#include <candela/models/model.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>
#include <candela/ops/reduce.h>

namespace candela {
namespace {

using test::golden_folder;
using test::golden_values;
using test::relative_error;
using test::values_of;

std::int64_t trained_count(const Tensor& targets) {
  std::int64_t count = 0;
  for (const std::int64_t target : targets.to_vector<std::int64_t>()) count += target != kIgnoreIndex ? 1 : 0;
  return count;
}

/// Each model folder of the archive, computed in f32 as transformers did.
class Golden : public testing::TestWithParam<const char*> {
 protected:
  Golden()
      : folder_(golden_folder() / GetParam()),
        model_(load_model(folder_, options())),
        expected_(SafetensorsReader::open(folder_ / "expected.safetensors")) {}

  /// llama_bf16 was computed by a model that had been cast to bfloat16 as a whole and back: its rotary
  /// frequencies were rounded.
  static LoadOptions options() {
    return {.dtype = DType::F32,
            .device = Device::cpu(),
            .bf16_rope_frequencies = std::string(GetParam()) == "llama_bf16"};
  }

  std::filesystem::path folder_;
  std::unique_ptr<Model> model_;
  SafetensorsReader expected_;
};

TEST_P(Golden, LogitsAndEveryHiddenStateAgree) {
  const NoGrad guard;
  std::vector<Tensor> hidden_states;
  ForwardOptions options;
  options.hidden_states = &hidden_states;
  const Tensor hidden = model_->forward_hidden(expected_.tensor("input_ids"), options);
  EXPECT_LE(relative_error(values_of(model_->logits(hidden)), golden_values(expected_, "logits")), 1e-4);
  ASSERT_EQ(hidden_states.size(), static_cast<std::size_t>(model_->config().num_layers + 1));
  for (std::size_t i = 0; i < hidden_states.size(); ++i) {
    EXPECT_LE(
        relative_error(values_of(hidden_states[i]), golden_values(expected_, "hidden." + std::to_string(i))),
        1e-4)
        << "hidden state " << i;
  }
}

TEST_P(Golden, LossAgrees) {
  const Tensor targets = shift_labels(expected_.tensor("labels"));
  const Tensor hidden = model_->forward_hidden(expected_.tensor("input_ids"));
  const double loss = model_->loss(hidden, targets).item() / static_cast<double>(trained_count(targets));
  const double expected = golden_values(expected_, "loss")[0];
  EXPECT_LE(std::abs(loss - expected), 1e-5 * std::max(1.0, expected));
}

TEST_P(Golden, CachedForwardAgreesWithTheWholeSequence) {
  const NoGrad guard;
  const Tensor ids = expected_.tensor("input_ids");
  const std::vector<double> whole = values_of(model_->forward_hidden(ids));
  // A prompt of 20 tokens at once, then 5 at once, then one by one, in a cache that must grow.
  KvCache cache = model_->make_cache(ids.size(0), 4);
  std::vector<Tensor> parts;
  std::int64_t at = 0;
  for (const std::int64_t step : {20, 5, 1, 1, 1, 1, 1, 1, 1, 1}) {
    ForwardOptions options;
    options.cache = &cache;
    parts.push_back(model_->forward_hidden(slice(ids, 1, at, at + step), options));
    at += step;
  }
  ASSERT_EQ(at, ids.size(1));
  EXPECT_LE(relative_error(values_of(concat(parts, 1)), whole), 1e-5);
}

TEST_P(Golden, PackedSequencesEqualSeparateOnes) {
  const NoGrad guard;
  const Tensor ids = expected_.tensor("input_ids");
  const std::vector<std::int32_t> bounds = {0, 7, 8, 33, 50, 66};
  std::vector<std::int32_t> positions;
  std::vector<Tensor> separate;
  const Tensor flat = reshape(ids, {1, ids.numel()});
  for (std::size_t n = 0; n + 1 < bounds.size(); ++n) {
    for (std::int32_t t = bounds[n]; t < bounds[n + 1]; ++t) positions.push_back(t - bounds[n]);
    separate.push_back(model_->forward_hidden(slice(flat, 1, bounds[n], bounds[n + 1])));
  }
  ForwardOptions options;
  options.positions = Tensor::from_values(positions, {ids.numel()});
  options.cu_seqlens = Tensor::from_values(bounds, {static_cast<std::int64_t>(bounds.size())});
  EXPECT_LE(relative_error(values_of(model_->forward_hidden(flat, options)), values_of(concat(separate, 1))),
            1e-5);
}

/// from_pretrained(dtype=float32) keeps the rotary frequencies exact: so does the default here.
TEST(GoldenRope, ABf16CheckpointInF32HasExactFrequencies) {
  const NoGrad guard;
  const auto model = load_model(golden_folder() / "llama_bf16", {.dtype = DType::F32});
  const SafetensorsReader batch =
      SafetensorsReader::open(golden_folder() / "llama_bf16" / "expected.safetensors");
  const SafetensorsReader expected =
      SafetensorsReader::open(CANDELA_SOURCE_DIR "/tests/golden/llama_bf16_exact_rope.safetensors");
  const Tensor hidden = model->forward_hidden(batch.tensor("input_ids"));
  EXPECT_LE(relative_error(values_of(test::as_stored(model->logits(hidden), expected, "logits")),
                           golden_values(expected, "logits")),
            1e-5);
  const Tensor targets = shift_labels(batch.tensor("labels"));
  const double loss = model->loss(hidden, targets).item() / static_cast<double>(trained_count(targets));
  EXPECT_NEAR(loss, golden_values(expected, "loss")[0], 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Transformers, Golden,
                         testing::Values("gemma3_text", "llama", "llama_bf16", "mistral_sharded", "phi3",
                                         "qwen2_tied", "qwen3", "smollm3"),
                         [](const auto& param_info) { return std::string(param_info.param); });

}  // namespace
}  // namespace candela
