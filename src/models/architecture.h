#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <candela/models/backbone.h>
#include <candela/models/config.h>

#include "io/json.h"
#include "models/parameters.h"

/// What a model_type is: each is defined in the file of its name, and listed once in architectures.cpp.
namespace candela {

struct Architecture {
  /// in config.json
  std::string_view model_type;
  /// Reads the fields of config.json beside those that all have (dtype, special ids), see config_reader.h.
  void (*read)(const io::JsonObject& json, ModelConfig& config);
  /// Declares the weights and makes the layers.
  std::unique_ptr<Backbone> (*make)(const ModelConfig& config, Parameters& parameters);
  /// In front of the names of the backbone's weights where the file holds a head too; names without it are
  /// found as well.
  std::string_view prefix = "model.";
  std::string_view embedding = "model.embed_tokens.weight";
  /// Whether it has an output layer, lm_head.
  bool causal = true;
  /// Starts of the names, without the prefix, of weights that checkpoints hold and nothing here reads.
  const char* unread[6] = {};
};

/// "gemma3_text, llama, ...".
std::string architecture_names();

/// Null if none has this name.
const Architecture* find_architecture(std::string_view model_type);

}  // namespace candela
