#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include <candela/lora/config.h>
#include <candela/models/model.h>

/// The peft adapter folder: adapter_config.json and adapter_model.safetensors.
namespace candela {

struct AdapterFile {
  struct Entry {
    Linear* layer;
    Tensor a, b;  ///< f32, on the model's device
    double scale;
  };
  LoraConfig config;
  std::string base_model;  ///< base_model_name_or_path; empty: not given
  std::vector<Entry> entries;
  std::vector<std::string> notes;
};

/// Reads the folder and fits it to the model; errors as Lora::load says.
AdapterFile read_adapter(const std::filesystem::path& folder, Model& model);

void write_adapter(const std::filesystem::path& folder, const LoraConfig& config,
                   const std::vector<NamedTensor>& parameters, const std::string& base_model);

/// "base_model.model." + path + "." + part + ".weight".
std::string adapter_key(const std::string& path, const std::string& part);

/// Of adapter_config.json: far above any that there is, such as one that names the layers one by one.
inline constexpr std::size_t kMostAdapterConfigBytes = std::size_t{1} << 24U;

/// adapter_config.json, both ways. `source` stands for the file in errors.
LoraConfig parse_adapter_config(const std::string& text, const std::string& source);
/// base_model_name_or_path of an adapter_config.json; empty if there is none.
std::string parse_base_model(const std::string& text, const std::string& source);
std::string format_adapter_config(const LoraConfig& config, const std::string& base_model);

}  // namespace candela
