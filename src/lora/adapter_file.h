#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <candela/lora/config.h>
#include <candela/models/model.h>

/// The peft adapter folder: adapter_config.json and adapter_model.safetensors.
namespace candela {

inline constexpr const char* kAdapterConfigName = "adapter_config.json";
inline constexpr const char* kAdapterWeightsName = "adapter_model.safetensors";

struct AdapterFile {
  struct Entry {
    Linear* layer;
    /// f32, on the model's device
    Tensor a, b;
    double scale;
  };
  LoraConfig config;
  /// base_model_name_or_path; empty: not given
  std::string base_model;
  std::vector<Entry> entries;
  std::vector<std::string> notes;
};

/// Reads the folder and fits it to the model; errors as Lora::load says.
AdapterFile read_adapter(const std::filesystem::path& folder, Model& model);

/// Writes both files as one: whenever the process is killed or the power goes, read_adapter() gives the
/// earlier adapter or this one. IoError names what could not be written.
void write_adapter(const std::filesystem::path& folder, const LoraConfig& config,
                   const std::vector<NamedTensor>& parameters, const std::string& base_model);

/// The entry of the weights' metadata that ties them to their configuration.
inline constexpr const char* kAdapterMark = "candela_adapter";

/// What `config` makes of the adapted layers among `names`, the tensors of an adapter: a digest of each
/// layer's path, rank and scale. Equal for configurations that compute the same, however they are written.
std::string adapter_digest(const std::vector<std::string>& names, const LoraConfig& config);

/// Whether the folder's weights were written by write_adapter().
bool is_own_adapter(const std::filesystem::path& folder);

/// "base_model.model." + path + "." + part + ".weight".
std::string adapter_key(const std::string& path, const std::string& part);

/// The text of the configuration that belongs to the weights in `folder`: adapter_config.json, or where a
/// save was cut short between its two renames, the one that it left aside.
struct AdapterConfigText {
  std::string text;
  /// read from `text` already, where it was checked against the weights
  std::optional<LoraConfig> config;
  /// what a person should know; mostly empty
  std::string note;
  /// the weights say that they belong to another configuration
  bool mismatched = false;
};
AdapterConfigText find_adapter_config(const std::filesystem::path& folder);

/// Of adapter_config.json: far above any that there is, such as one that names the layers one by one.
inline constexpr std::size_t kMostAdapterConfigBytes = std::size_t{1} << 24U;

/// adapter_config.json, both ways. `source` stands for the file in errors.
LoraConfig parse_adapter_config(const std::string& text, const std::string& source);
/// base_model_name_or_path of an adapter_config.json; empty if there is none.
std::string parse_base_model(const std::string& text, const std::string& source);
std::string format_adapter_config(const LoraConfig& config, const std::string& base_model);

}  // namespace candela
