#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/args/lora.h"
#include "backend/args/matmul.h"
#include "backend/args/softmax.h"
#include "backend/args/topk.h"

/// Which implementation of an op is the fastest on this device, as measured. Off unless switched on: then an
/// op whose arguments have a tuning_key() and that more than one implementation takes runs each of them once
/// the key is first met, and the fastest from then on.
namespace candela {

/// What was measured for one op, dtype and bucket of shapes on one device.
struct TunedChoice {
  std::string implementation;
  /// of every implementation that was measured
  std::map<std::string, std::int64_t> nanoseconds;

  bool operator==(const TunedChoice&) const = default;
};

/// By device, then by key.
using TuningTable = std::map<std::string, std::map<std::string, TunedChoice>>;

class Tuning {
 public:
  /// The one of the process.
  static Tuning& instance();

  bool enabled() const { return enabled_.load(std::memory_order_relaxed); }
  /// Starts from `table`; `keep` is called with the whole table after every new choice, which an op has just
  /// made: it must not throw (empty: nothing is kept).
  void enable(TuningTable table, std::function<void(const TuningTable&)> keep);
  void disable();

  std::optional<TunedChoice> find(const std::string& device, const std::string& key) const;
  void store(const std::string& device, const std::string& key, TunedChoice choice);
  TuningTable table() const;

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> enabled_{false};
  TuningTable table_;
  std::function<void(const TuningTable&)> keep_;
};

/// One implementation to be measured.
struct TuningCandidate {
  std::string_view name;
  /// runs it to the end: the results are there when it returns
  std::function<void()> run;
};

/// Measures the candidates in turn, stores the fastest under `key`, and returns its index.
std::size_t tune(const std::string& device, const std::string& key,
                 const std::vector<TuningCandidate>& candidates);

/// What a choice depends on: the op, dtypes, layouts, and sizes rounded up to powers of two. Empty where the
/// op can not be run several times over (it adds to its result) or has nothing to choose.
std::string tuning_key(const MatmulArgs& args);
std::string tuning_key(const GemmArgs& args);
std::string tuning_key(const SoftmaxArgs& args);
std::string tuning_key(const SoftmaxGradArgs& args);
std::string tuning_key(const TopkArgs& args);
std::string tuning_key(const LoraLinearArgs& args);
template <class Args>
std::string tuning_key(const Args&) {
  return {};
}

}  // namespace candela
