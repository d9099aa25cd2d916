#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include <candela/lora/lora.h>
#include <candela/models/model.h>

namespace candela::cli {

/// The options that say which model to use and where; every command that loads one shares them.
struct ModelOptions {
  std::string model;
  std::string adapter;
  std::string dtype = "auto";
  std::string device = "cpu";
  int threads = 0;
  bool bf16_rope = false;  ///< LoadOptions::bf16_rope_frequencies
};

/// Declares --model, --dtype, --device, --threads, and --adapter if `with_adapter`.
void declare_model_options(CLI::App& command, ModelOptions& options, bool with_adapter);

/// What --dtype says; "auto": f32 for a model stored in f32 or trained on the CPU, else as stored.
std::optional<DType> wanted_dtype(const ModelOptions& options, bool training);

/// A model with its adapter, if one was asked for.
struct LoadedModel {
  std::unique_ptr<Model> model;
  std::optional<Lora> lora;
};

/// Sets the threads, loads the model and the adapter; what a person should know goes to standard error.
LoadedModel load(const ModelOptions& options);

}  // namespace candela::cli
