#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include <candela/lora/lora.h>
#include <candela/models/model.h>

namespace candela::cli {

/// The options that say where to compute and with what; every command that computes shares them.
struct ComputeOptions {
  std::string device = "auto";
  int threads = 0;
  /// enable_tuning()
  bool tune = false;
};

/// Declares --device, --threads and --tune.
void declare_compute_options(CLI::App& command, ComputeOptions& options);

/// The options that say which model to use and where; every command that loads one shares them.
struct ModelOptions : ComputeOptions {
  std::string model;
  std::string adapter;
  std::string dtype = "auto";
  /// LoadOptions::bf16_rope_frequencies
  bool bf16_rope = false;
};

/// Declares --dtype and the options of ComputeOptions.
void declare_arithmetic(CLI::App& command, ModelOptions& options);
/// Declares --model and --dtype, and the options of ComputeOptions: for commands that put no adapter of the
/// user's on the model.
void declare_base_model(CLI::App& command, ModelOptions& options);
/// The same and --adapter.
void declare_model_files(CLI::App& command, ModelOptions& options);
/// The same and --bf16-rope: for commands that compute with the model's positions.
void declare_model_options(CLI::App& command, ModelOptions& options);

/// What --dtype says; "auto": where the model computes (`computing`) on the CPU, f32, so that training, eval,
/// logits and generate agree; else as stored.
std::optional<DType> wanted_dtype(const ModelOptions& options, bool computing);

/// How to load the model on `device`.
LoadOptions load_options(const ModelOptions& options, bool computing, Device device);

/// Sets the threads: `asked`, or 0 for as many as OMP_NUM_THREADS says or else every core; never more than
/// cores.
void use_threads(int asked);

/// Sets what the process computes with: the threads, and choosing by measurement if asked for.
void set_up_compute(const ComputeOptions& options);

/// A model with its adapter, if one was asked for.
struct LoadedModel {
  std::unique_ptr<Model> model;
  std::optional<Lora> lora;
};

/// Sets up computing, loads the model and the adapter; what a person should know goes to standard error.
LoadedModel load(const ModelOptions& options, bool computing = true);

}  // namespace candela::cli
