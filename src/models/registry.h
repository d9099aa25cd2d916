#pragma once

#include <memory>

#include <candela/models/model.h>

#include "models/parameters.h"

namespace candela {

/// The model of config.model_type with weights from `source`, without its head if `backbone_only`; throws
/// Unsupported for a type that is not known.
std::unique_ptr<Model> build_model(const ModelConfig& config, WeightSource& source, bool backbone_only);

}  // namespace candela
