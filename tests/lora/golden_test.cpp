#include "support/golden.h"

#include <gtest/gtest.h>

#include <candela/autograd/backward.h>
#include <candela/core/grad.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/loss.h>
#include <candela/ops/optimizer.h>

namespace candela {
namespace {

using test::as_stored;
using test::golden_folder;
using test::golden_values;
using test::relative_error;
using test::values_of;

/// Each adapter folder of the archive: what peft computed with it, and in 20 AdamW steps from it.
class GoldenAdapter : public testing::TestWithParam<test::GoldenCase> {
 protected:
  GoldenAdapter()
      : folder_(golden_folder() / GetParam().model),
        model_(load_model(folder_)),
        lora_(Lora::load(*model_, folder_ / GetParam().adapter / "start", true)),
        batch_(SafetensorsReader::open(folder_ / "expected.safetensors")),
        expected_(SafetensorsReader::open(folder_ / GetParam().adapter / "expected.safetensors")) {}

  Tensor mean_loss() {
    const Tensor targets = shift_labels(batch_.tensor("labels"));
    std::int64_t count = 0;
    for (const std::int64_t target : targets.to_vector<std::int64_t>())
      count += target != kIgnoreIndex ? 1 : 0;
    const Tensor hidden = model_->forward_hidden(batch_.tensor("input_ids"));
    return affine(model_->loss(hidden, targets), 1.0 / static_cast<double>(count), 0);
  }

  Tensor logits() {
    const NoGrad guard;
    return model_->logits(model_->forward_hidden(batch_.tensor("input_ids")));
  }

  /// "X.lora_A.weight" -> "grad_clipped.X.lora_A.default.weight".
  static std::string gradient_key(std::string name) {
    return "grad_clipped." + name.insert(name.size() - std::string(".weight").size(), ".default");
  }

  std::filesystem::path folder_;
  std::unique_ptr<Model> model_;
  Lora lora_;
  SafetensorsReader batch_;
  SafetensorsReader expected_;
};

TEST_P(GoldenAdapter, LogitsAgree) {
  EXPECT_LE(relative_error(values_of(as_stored(logits(), expected_, "logits_start")),
                           golden_values(expected_, "logits_start")),
            1e-4);
}

TEST_P(GoldenAdapter, TwentyStepsOfTrainingAgree) {
  const std::vector<double> losses = golden_values(expected_, "losses");
  const std::vector<double> norms = golden_values(expected_, "grad_norms");
  const std::vector<NamedTensor> parameters = lora_.parameters();
  std::vector<Tensor> m;
  std::vector<Tensor> v;
  for (const NamedTensor& parameter : parameters) {
    m.push_back(zeros(parameter.tensor.shape()));
    v.push_back(zeros(parameter.tensor.shape()));
  }
  for (std::size_t step = 0; step < losses.size(); ++step) {
    const Tensor loss = mean_loss();
    EXPECT_LE(std::abs(loss.item() - losses[step]), 1e-4 * losses[step]) << "step " << step;
    backward(loss);
    std::vector<Tensor> grads;
    for (const NamedTensor& parameter : parameters) grads.push_back(parameter.tensor.grad());
    const double norm = global_norm(grads);
    EXPECT_LE(std::abs(norm - norms[step]), 1e-4 * norms[step]) << "step " << step;
    const double clip = std::min(1.0, 1.0 / (norm + 1e-6));
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (step == 0) {
        const std::vector<double> clipped = values_of(affine(grads[i], clip, 0));
        EXPECT_LE(relative_error(clipped, golden_values(expected_, gradient_key(parameters[i].name))), 1e-4)
            << parameters[i].name;
      }
      adamw_step(parameters[i].tensor, grads[i], m[i], v[i], {.lr = 1e-3},
                 static_cast<std::int64_t>(step) + 1, clip);
      parameters[i].tensor.set_grad({});
    }
  }
  const SafetensorsReader end =
      SafetensorsReader::open(folder_ / GetParam().adapter / "end" / "adapter_model.safetensors");
  ASSERT_EQ(end.names().size(), parameters.size());
  for (const NamedTensor& parameter : parameters) {
    EXPECT_LE(relative_error(values_of(parameter.tensor), golden_values(end, parameter.name)), 1e-3)
        << parameter.name;
  }
}

TEST_P(GoldenAdapter, MergedLogitsAgreeAndUnmergeIsExact) {
  const auto model = load_model(folder_);
  Lora lora = Lora::load(*model, folder_ / GetParam().adapter / "end");
  const NoGrad guard;
  const Tensor ids = batch_.tensor("input_ids");
  const auto logits_now = [&] { return model->logits(model->forward_hidden(ids)); };
  const std::vector<double> adapted = values_of(logits_now());
  const SafetensorsReader merged =
      SafetensorsReader::open(folder_ / GetParam().adapter / "expected_merged.safetensors");
  lora.merge();
  EXPECT_LE(
      relative_error(values_of(as_stored(logits_now(), merged, "logits")), golden_values(merged, "logits")),
      1e-4);
  lora.unmerge();
  EXPECT_EQ(values_of(logits_now()), adapted);
  lora.set_enabled(false);
  EXPECT_LE(relative_error(values_of(logits_now()), golden_values(batch_, "logits")), 1e-4);
}

TEST_P(GoldenAdapter, SavedFolderLoadsAgain) {
  const std::filesystem::path folder = test::scratch_folder("saved_adapter");
  const std::vector<double> before = values_of(logits());
  lora_.save(folder, std::string("somewhere/") + GetParam().model);
  const auto model = load_model(folder_);
  const Lora loaded = Lora::load(*model, folder);
  EXPECT_TRUE(loaded.notes().empty());
  const NoGrad guard;
  EXPECT_EQ(values_of(model->logits(model->forward_hidden(batch_.tensor("input_ids")))), before);
  EXPECT_EQ(loaded.parameter_count(), lora_.parameter_count());
}

INSTANTIATE_TEST_SUITE_P(Peft, GoldenAdapter, testing::ValuesIn(test::kGoldenAdapters),
                         [](const auto& param_info) { return param_info.param.name(); });

}  // namespace
}  // namespace candela
