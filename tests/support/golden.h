#pragma once

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include <candela/core/tensor.h>
#include <candela/io/safetensors.h>

/// What transformers and peft computed for tiny random models: tests/golden.
namespace candela::test {

/// An adapter of the archive and the model it goes with, both folders.
struct GoldenCase {
  const char* model;
  const char* adapter;

  std::string name() const { return std::string(model) + "_" + adapter; }
  friend void PrintTo(const GoldenCase& shown, std::ostream* out) { *out << shown.name(); }
};
inline constexpr GoldenCase kGoldenAdapters[] = {
    {"llama", "lora_qv"}, {"llama", "lora_all_rs"}, {"qwen2_tied", "lora_all"},  {"llama", "lora_v"},
    {"llama", "lora_up"}, {"llama", "lora_head"},   {"qwen2_tied", "lora_head"}, {"gemma3_text", "lora_all"},
};

/// The folder with what the archives hold. All tests read it: none may write into it.
std::filesystem::path golden_folder();

/// A folder of its own for this test process, removed at its end.
std::filesystem::path scratch_folder(const std::string& name);

/// The tensor `name` of a safetensors file, as f32 or f64 values in f64.
std::vector<double> golden_values(const SafetensorsReader& reader, const std::string& name);
std::vector<double> values_of(const Tensor& tensor);

/// Of `tensor` [B, T, ...], the positions that `name` holds: all, or every n-th, the first included.
Tensor as_stored(const Tensor& tensor, const SafetensorsReader& reader, const std::string& name);

/// The largest difference, as a share of the largest magnitude expected. Infinite if the sizes differ or a
/// value is not finite.
double relative_error(const std::vector<double>& actual, const std::vector<double>& expected);

}  // namespace candela::test
