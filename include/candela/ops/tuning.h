#pragma once

#include <filesystem>

/// Choosing implementations by measurement, remembered from run to run.
namespace candela {

/// $CANDELA_CACHE/tuning.tsv, or else candela/tuning.tsv in $XDG_CACHE_HOME or ~/.cache.
std::filesystem::path default_tuning_file();

/// From now on, an op that more than one implementation can run (products, softmax and its gradient, top-k,
/// lora_linear) measures them once per device, dtype and bucket of shapes and runs the fastest. What was
/// measured is read from `file` and kept there. The first runs are slower for it, and results may differ in
/// the last bits from those of the preferred implementation. IoError if `file` exists and is not a tuning
/// file, naming what is wrong (delete it to start anew), or if there is none and none can be made. A file
/// that can be read but not written, now or later on, is used, and told of on standard error, once; what is
/// measured then lasts as long as the process. Processes that share a file keep each other's measurements,
/// but for those that two write at the same moment: the earlier ones may be lost, and are measured anew. To
/// be called while no other thread runs ops; which thread measures then does not matter.
void enable_tuning(const std::filesystem::path& file = default_tuning_file());

/// Back to the preferred implementation of each op.
void disable_tuning();
bool tuning_enabled();

}  // namespace candela
