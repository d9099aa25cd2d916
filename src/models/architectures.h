#pragma once

#include <memory>

#include "models/parameters.h"

/// One factory per architecture, each in the file that bears the name of its `model_type`.
namespace candela {

std::unique_ptr<Model> make_llama(const ModelConfig& config, WeightSource& source);
std::unique_ptr<Model> make_mistral(const ModelConfig& config, WeightSource& source);
std::unique_ptr<Model> make_qwen2(const ModelConfig& config, WeightSource& source);
std::unique_ptr<Model> make_qwen3(const ModelConfig& config, WeightSource& source);

}  // namespace candela
