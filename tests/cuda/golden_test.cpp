#include "support/golden.h"

#include <cmath>

#include <candela/autograd/backward.h>
#include <candela/core/grad.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/loss.h>
#include <candela/ops/optimizer.h>

#include "cuda/gpu.h"

namespace candela {
namespace {

using test::golden_folder;
using test::golden_values;
using test::kCuda;
using test::relative_error;
using test::values_of;

/// What transformers computed, as tests/models/golden_test.cpp asks of the CPU.
class CudaGoldenModel : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!test::has_gpu()) GTEST_SKIP() << "no NVIDIA GPU here";
  }
};

TEST_P(CudaGoldenModel, LogitsAgree) {
  const NoGrad guard;
  const auto folder = golden_folder() / GetParam();
  const auto model = load_model(folder, {.dtype = DType::F32, .device = kCuda});
  const SafetensorsReader expected = SafetensorsReader::open(folder / "expected.safetensors");
  const Tensor hidden = model->forward_hidden(to_device(expected.tensor("input_ids"), kCuda));
  EXPECT_LE(relative_error(values_of(to_device(model->logits(hidden), Device::cpu())),
                           golden_values(expected, "logits")),
            1e-4);
}
INSTANTIATE_TEST_SUITE_P(Models, CudaGoldenModel,
                         testing::Values("llama", "qwen2_tied", "qwen3", "mistral_sharded"),
                         [](const auto& shown) { return std::string(shown.param); });

/// What peft computed in 20 steps of AdamW, as tests/lora/golden_test.cpp asks of the CPU.
class CudaGoldenAdapter : public testing::TestWithParam<test::GoldenCase> {
 protected:
  void SetUp() override {
    if (!test::has_gpu()) GTEST_SKIP() << "no NVIDIA GPU here";
  }
};

TEST_P(CudaGoldenAdapter, TwentyStepsOfTrainingAgree) {
  const auto folder = golden_folder() / GetParam().model;
  const auto model = load_model(folder, {.dtype = DType::F32, .device = kCuda});
  Lora lora = Lora::load(*model, folder / GetParam().adapter / "start", true);
  const SafetensorsReader batch = SafetensorsReader::open(folder / "expected.safetensors");
  const SafetensorsReader expected =
      SafetensorsReader::open(folder / GetParam().adapter / "expected.safetensors");
  const Tensor ids = to_device(batch.tensor("input_ids"), kCuda);
  const Tensor labels = shift_labels(batch.tensor("labels"));
  std::int64_t count = 0;
  for (const std::int64_t target : labels.to_vector<std::int64_t>()) count += target != kIgnoreIndex ? 1 : 0;
  const Tensor targets = to_device(labels, kCuda);
  const std::vector<NamedTensor> parameters = lora.parameters();
  std::vector<Tensor> m;
  std::vector<Tensor> v;
  for (const NamedTensor& parameter : parameters) {
    m.push_back(zeros(parameter.tensor.shape(), DType::F32, kCuda));
    v.push_back(zeros(parameter.tensor.shape(), DType::F32, kCuda));
  }
  const std::vector<double> losses = golden_values(expected, "losses");
  const std::vector<double> norms = golden_values(expected, "grad_norms");
  for (std::size_t step = 0; step < losses.size(); ++step) {
    const Tensor loss =
        affine(model->loss(model->forward_hidden(ids), targets), 1.0 / static_cast<double>(count), 0);
    EXPECT_LE(std::abs(loss.item() - losses[step]), 1e-4 * losses[step]) << "step " << step;
    backward(loss);
    std::vector<Tensor> grads;
    for (const NamedTensor& parameter : parameters) grads.push_back(parameter.tensor.grad());
    const double norm = global_norm(grads);
    EXPECT_LE(std::abs(norm - norms[step]), 1e-4 * norms[step]) << "step " << step;
    const double scale = std::min(1.0, 1.0 / (norm + 1e-6));
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      adamw_step(parameters[i].tensor.detach(), grads[i], m[i], v[i], {.lr = 1e-3},
                 static_cast<std::int64_t>(step) + 1, scale);
      parameters[i].tensor.set_grad({});
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Adapters, CudaGoldenAdapter, testing::ValuesIn(test::kGoldenAdapters),
                         [](const auto& shown) { return shown.param.name(); });

}  // namespace
}  // namespace candela
