#pragma once

#include <memory>

#include "models/architecture.h"

/// The parts of RoBERTa, which XLM-RoBERTa shares.
namespace candela {

void read_roberta(const io::JsonObject& json, ModelConfig& config);
std::unique_ptr<Backbone> make_roberta(const ModelConfig& config, Parameters& parameters);

}  // namespace candela
