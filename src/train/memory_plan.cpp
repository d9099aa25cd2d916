#include <algorithm>
#include <array>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/process.h>
#include <candela/train/memory_plan.h>

#include "train/pass_recorder.h"

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

double mib(std::size_t bytes) {
  return static_cast<double>(bytes) / (1024.0 * 1024.0);
}

}  // namespace

MemoryPlan plan_memory(const std::function<Model&()>& prepare, const TrainOptions& options,
                       const BatchSource& source, const BatchSource* valid, Device target) {
  MemoryPlan plan;
  plan.runtime = process_memory().resident + kTouchedCode + kCompiledCode + kHeapPieces;
  plan.available = device_interface(target).memory().free;
  Allocator& allocator = device_interface(Device::plan(target)).allocator();
  allocator.trim();
  allocator.reset_peaks();
  const MemoryStats before = allocator.stats();
  Model& model = prepare();
  for (const NamedTensor& parameter : model.named_parameters()) plan.weights += bytes_of(parameter.tensor);
  // Weights used where the file is mapped are not the allocator's; adapters are, and are no weights.
  std::size_t others = before.allocated;
  for (const Tensor& trained : trainable_parameters(model)) others += bytes_of(trained);
  const std::size_t now = allocator.stats().allocated;
  const std::size_t loaded = now - std::min(now, others);
  const std::size_t mapped = plan.weights - std::min(plan.weights, loaded);
  Trainer trainer(model, options);
  plan.adapters = trainer.optimizer().bytes();
  const std::vector<HostBatch> batches = source.planned();
  require(!batches.empty(), "memory: there are no batches to plan with");
  // A device that records runs batches as their buckets.
  const bool records = device_interface(target).records() && !options.objective;
  const auto step = [&](const HostBatch& given) {
    const HostBatch host = records ? bucketed(given, options.pad_id) : given;
    if (host.trained_tokens() > 0)
      trainer.step(std::vector<Batch>(source.planned_passes(), host.upload(model.device())),
                   options.adamw.lr);
  };
  for (const HostBatch& host : batches) step(host);
  step(batches.front());
  if (valid != nullptr) trainer.rehearse_validation(*valid);
  const std::size_t peak = allocator.stats().peak_reserved - before.reserved + mapped;
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
      {{"activations", plan.activations, "a smaller --batch-size or --max-length, or --checkpoint layer"},
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
