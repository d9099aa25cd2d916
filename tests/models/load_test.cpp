#include <fstream>
#include <gtest/gtest.h>
#include <string>

#include <candela/core/grad.h>
#include <candela/core/process.h>
#include <candela/io/safetensors.h>
#include <candela/models/model.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/reduce.h>

#include "support/golden.h"

namespace candela {
namespace {

constexpr const char* kConfig = R"({"model_type": "llama", "vocab_size": 131072, "hidden_size": 256,
  "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
  "torch_dtype": "bfloat16"})";

/// A folder with a model of 64 MiB in bf16, nearly all of it the embedding.
std::filesystem::path write_large_model() {
  const std::filesystem::path folder = test::scratch_folder("large_model");
  std::ofstream(folder / "config.json") << kConfig;
  const auto model = make_model(ModelConfig::parse(kConfig, "large"), {DType::BF16}, 1);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const NamedTensor& parameter : model->named_parameters())
    tensors.emplace_back(parameter.name, parameter.tensor);
  write_safetensors(folder / "model.safetensors", tensors);
  return folder;
}

TEST(LoadModel, ConvertsEveryWeightAsCastDoes) {
  const NoGrad guard;
  const std::filesystem::path folder = write_large_model();
  const auto model = load_model(folder, {DType::F32});
  const SafetensorsReader stored = SafetensorsReader::open(folder);
  for (const NamedTensor& parameter : model->named_parameters()) {
    const Tensor expected = cast(stored.tensor(parameter.name), DType::F32);
    ASSERT_EQ(parameter.tensor.shape(), expected.shape()) << parameter.name;
    EXPECT_EQ(max(abs(parameter.tensor - expected)).item(), 0) << parameter.name;
  }
}

#if defined(__linux__)
/// "VmHWM: 12345 kB" of /proc/self/status, in bytes.
std::size_t memory_of(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoul(line.substr(field.size() + 1)) << 10U;
  }
  return 0;
}

/// The pages of the file that were read do not stay beside the weights that were made of them.
TEST(LoadModel, TakesTheMemoryOfTheResultAndOnePiece) {
  constexpr std::size_t kMiB = std::size_t{1} << 20U;
  const std::filesystem::path folder = write_large_model();
  std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM from here on
  const std::size_t before = memory_of("VmRSS");
  const std::size_t file_before = memory_of("RssFile");
  const auto model = load_model(folder, {DType::F32});
  EXPECT_LE(memory_of("RssFile"), file_before + 4 * kMiB);
  EXPECT_LE(memory_of("VmHWM"), before + (128 + 16 + 8) * kMiB);
}
#endif

}  // namespace
}  // namespace candela
