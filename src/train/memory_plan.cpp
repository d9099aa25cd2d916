#include <algorithm>
#include <array>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/process.h>
#include <candela/train/memory_plan.h>

#include "train/step_batches.h"

namespace candela {
namespace {

std::size_t bytes_of(const Tensor& tensor) {
  return static_cast<std::size_t>(tensor.numel()) * size_of(tensor.dtype());
}

/// Code, tables and stacks that the first step touches beyond what is resident before it; what oneDNN
/// compiles and keeps for products (cpu/gemm_onednn.cpp bounds how many); free pieces of the heap.
constexpr std::size_t kTouchedCode = std::size_t{8} << 20U;
constexpr std::size_t kCompiledCode = std::size_t{5} << 20U;
constexpr std::size_t kHeapPieces = std::size_t{2} << 20U;

/// Batches of different lengths that are planned: enough to leave blocks of every size class in the cache.
constexpr std::size_t kPlannedLengths = 12;

/// Positions that a batch computes, padding included.
std::size_t positions(std::span<const Sample> samples, std::span<const std::size_t> rows) {
  std::size_t longest = 0;
  for (const std::size_t row : rows) longest = std::max(longest, samples[row].ids.size());
  return longest * rows.size();
}

/// At most kPlannedLengths batches, from long rows to short ones, none beyond the worst: a run of few steps
/// does not meet the longest rows.
std::vector<std::vector<std::size_t>> batches_of_all_lengths(std::span<const Sample> samples,
                                                             std::span<const std::size_t> worst,
                                                             std::size_t batch_size) {
  auto sorted = sorted_batches(samples, batch_size);
  const std::size_t most = positions(samples, worst);
  std::erase_if(sorted, [&](const auto& rows) { return positions(samples, rows) > most; });
  std::vector<std::vector<std::size_t>> picked;
  const std::size_t count = std::min(sorted.size(), kPlannedLengths);
  for (std::size_t i = 0; i < count; ++i) picked.push_back(sorted[i * sorted.size() / count]);
  return picked;
}

double mib(std::size_t bytes) {
  return static_cast<double>(bytes) / (1024.0 * 1024.0);
}

}  // namespace

MemoryPlan plan_memory(const std::function<std::unique_ptr<Model>(Device)>& prepare,
                       const TrainOptions& options, std::span<const Sample> samples,
                       std::span<const std::size_t> worst_batch, std::span<const Sample> valid) {
  MemoryPlan plan;
  plan.runtime = process_memory().resident + kTouchedCode + kCompiledCode + kHeapPieces;
  plan.available = available_memory();
  Allocator& allocator = device_interface(Device::plan()).allocator();
  allocator.trim();
  allocator.reset_peaks();
  const std::size_t before = allocator.stats().reserved;
  const std::unique_ptr<Model> model = prepare(Device::plan());
  for (const NamedTensor& parameter : model->named_parameters()) plan.weights += bytes_of(parameter.tensor);
  // Weights used where the file is mapped are not the allocator's.
  const std::size_t loaded = allocator.stats().allocated - std::min(allocator.stats().allocated, before);
  const std::size_t mapped = plan.weights - std::min(plan.weights, loaded);
  Trainer trainer(*model, options);
  for (const Tensor& parameter : trainer.parameters()) {
    plan.adapters += bytes_of(parameter) + 2 * static_cast<std::size_t>(parameter.numel()) * sizeof(float);
  }
  const auto step = [&](std::span<const std::size_t> rows) {
    const Batch batch = make_batch(samples, rows, options.pad_id, Device::plan());
    // The gradients of the first pass of a step are there while the next one runs.
    const std::size_t passes = StepBatches::accumulates(samples.size(), options) ? 2 : 1;
    if (batch.trained_tokens > 0) trainer.step(std::vector<Batch>(passes, batch), options.adamw.lr);
  };
  step(worst_batch);
  for (const auto& rows :
       batches_of_all_lengths(samples, worst_batch, static_cast<std::size_t>(options.batch_size)))
    step(rows);
  step(worst_batch);
  trainer.rehearse_validation(valid);
  const std::size_t peak = allocator.stats().peak_reserved - before + mapped;
  plan.activations = peak - std::min(peak, plan.weights + plan.adapters);
  return plan;
}

void check_fits(const MemoryPlan& plan) {
  if (plan.available == 0 || plan.needed() <= plan.available) return;
  struct Term {
    const char* name;
    std::size_t bytes;
    const char* remedy;
  };
  const std::array<Term, 3> terms = {
      {{"activations", plan.activations, "a smaller --batch-size or --max-length"},
       {"weights", plan.weights, "--dtype bf16, or a smaller model"},
       {"adapters", plan.adapters, "a smaller --rank or fewer --target-modules"}}};
  const Term& largest = *std::max_element(terms.begin(), terms.end(),
                                          [](const Term& a, const Term& b) { return a.bytes < b.bytes; });
  throw DeviceError(
      fmt::format("memory: training needs {:.0f} MiB and {:.0f} MiB are available; the largest part is {} "
                  "with {:.0f} MiB: use {}",
                  mib(plan.needed()), mib(plan.available), largest.name, mib(largest.bytes), largest.remedy));
}

}  // namespace candela
