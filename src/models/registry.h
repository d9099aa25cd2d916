#pragma once

#include <memory>

#include "models/parameters.h"

namespace candela {

/// The model of config.model_type with weights from `source`; throws Unsupported for a type that is not
/// known.
std::unique_ptr<Model> build_model(const ModelConfig& config, WeightSource& source);

}  // namespace candela
