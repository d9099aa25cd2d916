#pragma once

#include <memory>
#include <string>

#include <candela/models/model.h>

namespace candela::cli {

/// The --model of benches that can do without one.
inline constexpr const char* kBenchModelHelp =
    "Model folder; without it, random weights in the geometry of Qwen2.5-0.5B";

/// The model in `folder`; if that is empty, one of random weights in the geometry of Qwen2.5-0.5B.
std::unique_ptr<Model> bench_model(const std::string& folder, const LoadOptions& options);

/// How reports name it.
std::string bench_model_name(const std::string& folder);

}  // namespace candela::cli
