#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <candela/io/dataset.h>
#include <candela/models/config.h>
#include <candela/train/trainer.h>

/// The two ways in which rows become batches, as `finetune` and `data check` choose and tell of them.
namespace candela::cli {

/// The pack length that suits where none is asked for: `max_length` (--max-length), or, where that is 0, the
/// model's context up to kUsualPack tokens; never less than the longest row.
inline constexpr std::int64_t kUsualPack = 2048;
std::int64_t usual_pack_length(std::int64_t max_length, const ModelConfig& config, std::size_t longest);

/// `rows`, whose batches are of rows, with packs: as many of them as hold the tokens of batch_size rows of
/// mean length, at least one. A step then sees about as much as before, at the same learning rate.
TrainOptions packed_options(const TrainOptions& rows, std::int64_t pack_length,
                            const DatasetStatistics& statistics);

/// "935 of 8 rows x 2 passes", "310 of 8 packs of 512 tokens": the steps of a run and what each takes.
std::string describe_steps(const TrainOptions& options, const TrainLength& length);

/// The same with the share of padding.
std::string describe_batches(const TrainOptions& options, std::span<const Sample> samples);

/// Share of the positions of all packs that rows fill.
double pack_fill(std::span<const Sample> samples, std::int64_t pack_length);

}  // namespace candela::cli
