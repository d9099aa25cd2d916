#pragma once

#include <filesystem>

#include <candela/train/trainer.h>

/// What a checkpoint holds beside the adapter, so that a run goes on from it to the same bits: the
/// optimizer's moments (optimizer.safetensors) and the RunState (trainer_state.json).
namespace candela {

inline constexpr const char* kOptimizerFileName = "optimizer.safetensors";
inline constexpr const char* kRunStateFileName = "trainer_state.json";

/// Tells base models apart: the bytes of all parameters that are not trained, and a digest of their names,
/// dtypes, shapes and of four rows of each, spread evenly. Weights that differ in other rows only pass for
/// the same. Reads some hundredths of the weights; the bits are those of the dtype in memory.
std::string base_fingerprint(const Model& model);

/// Writes both into `folder`, which is there. Throws IoError.
void save_run_state(const std::filesystem::path& folder, const Trainer& trainer);

/// Takes both from `folder` into a trainer of the same parameters and options, whose parameters are those of
/// the checkpoint's adapter already. Throws IoError naming file and field or tensor for what is missing or
/// does not fit, or if the base model's fingerprint is another.
void load_run_state(const std::filesystem::path& folder, Trainer& trainer);

/// The RunState alone. Throws IoError.
RunState read_run_state(const std::filesystem::path& folder);

}  // namespace candela
