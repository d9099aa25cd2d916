#include "backend/tuning.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>

#include <candela/core/error.h>

namespace candela {

Tuning& Tuning::instance() {
  static Tuning tuning;
  return tuning;
}

void Tuning::enable(TuningTable table, std::function<void(const TuningTable&)> keep) {
  const std::lock_guard lock(mutex_);
  enabled_ = true;
  table_ = std::move(table);
  keep_ = std::move(keep);
}

void Tuning::disable() {
  const std::lock_guard lock(mutex_);
  enabled_ = false;
  table_.clear();
  keep_ = nullptr;
}

std::optional<TunedChoice> Tuning::find(const std::string& device, const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto on_device = table_.find(device);
  if (on_device == table_.end()) return std::nullopt;
  const auto found = on_device->second.find(key);
  if (found == on_device->second.end()) return std::nullopt;
  return found->second;
}

void Tuning::store(const std::string& device, const std::string& key, TunedChoice choice) {
  const std::lock_guard lock(mutex_);
  table_[device][key] = std::move(choice);
  if (keep_) keep_(table_);
}

TuningTable Tuning::table() const {
  const std::lock_guard lock(mutex_);
  return table_;
}

std::size_t tune(const std::string& device, const std::string& key,
                 const std::vector<TuningCandidate>& candidates) {
  using Clock = std::chrono::steady_clock;
  constexpr int kMostRounds = 5;
  constexpr double kBudgetSeconds = 0.2;
  std::vector<double> best(candidates.size(), 0);
  double spent = 0;
  // The first round warms up: what an implementation compiles or allocates once does not count. Each gets its
  // least time of the rest, since what disturbs a run only ever makes it longer.
  for (int round = 0; round <= kMostRounds && (round < 2 || spent < kBudgetSeconds); ++round) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const auto start = Clock::now();
      candidates[i].run();
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      spent += seconds;
      if (round == 1 || (round > 1 && seconds < best[i])) best[i] = seconds;
    }
  }
  const auto fastest = static_cast<std::size_t>(std::min_element(best.begin(), best.end()) - best.begin());
  TunedChoice choice{std::string(candidates[fastest].name), {}};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    choice.nanoseconds[std::string(candidates[i].name)] = std::llround(best[i] * 1e9);
  }
  Tuning::instance().store(device, key, std::move(choice));
  return fastest;
}

namespace {

std::uint64_t bucket(std::int64_t size) {
  return std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1)));
}

/// How the last two dimensions lie in memory: n: rows, t: columns, s: neither.
char layout(const TensorArg& x) {
  if (x.strides[x.rank - 1] == 1 || x.shape[x.rank - 1] == 1) return 'n';
  return x.strides[x.rank - 2] == 1 || x.shape[x.rank - 2] == 1 ? 't' : 's';
}

/// The same of a matrix [rows, cols].
char layout(const Matrix& x, std::int64_t rows, std::int64_t cols) {
  if (x.col_stride == 1 || cols == 1) return 'n';
  return x.row_stride == 1 || rows == 1 ? 't' : 's';
}

}  // namespace

std::string tuning_key(const GemmArgs& args) {
  if (args.beta != 0 || args.m == 0 || args.n == 0 || args.k == 0) return {};
  return fmt::format("matmul {} to {} {}{}{} b1 m{} n{} k{}{}", to_string(args.a.dtype),
                     to_string(args.c.dtype), layout(args.a, args.m, args.k), layout(args.b, args.k, args.n),
                     layout(args.c, args.m, args.n), bucket(args.m), bucket(args.n), bucket(args.k),
                     args.bias.data != nullptr ? " bias" : "");
}

std::string tuning_key(const MatmulArgs& args) {
  if (args.beta != 0) return {};
  const int r = args.out.rank;
  const std::int64_t m = args.out.shape[r - 2];
  const std::int64_t n = args.out.shape[r - 1];
  const std::int64_t batches = m * n == 0 ? 0 : args.out.numel() / (m * n);
  if (batches == 0 || args.a.shape[r - 1] == 0) return {};
  return fmt::format("matmul {} to {} {}{}{} b{} m{} n{} k{}{}", to_string(args.a.dtype),
                     to_string(args.out.dtype), layout(args.a), layout(args.b), layout(args.out),
                     bucket(batches), bucket(m), bucket(n), bucket(args.a.shape[r - 1]),
                     args.bias.data != nullptr || args.bias.present() ? " bias" : "");
}

std::string tuning_key(const SoftmaxArgs& args) {
  if (args.out.storage == args.x.storage) return {};
  return fmt::format("{} {} {} rows{} d{}", args.log ? "log_softmax" : "softmax", to_string(args.x.dtype),
                     args.dim == args.x.rank - 1 ? "last" : "other",
                     bucket(args.x.numel() / std::max<std::int64_t>(args.x.shape[args.dim], 1)),
                     bucket(args.x.shape[args.dim]));
}

std::string tuning_key(const SoftmaxGradArgs& args) {
  if (args.dx.storage == args.y.storage || args.dx.storage == args.dy.storage) return {};
  return fmt::format("{}_grad {} {} rows{} d{}", args.log ? "log_softmax" : "softmax",
                     to_string(args.y.dtype), args.dim == args.y.rank - 1 ? "last" : "other",
                     bucket(args.y.numel() / std::max<std::int64_t>(args.y.shape[args.dim], 1)),
                     bucket(args.y.shape[args.dim]));
}

std::string tuning_key(const TopkArgs& args) {
  return fmt::format("topk {} rows{} d{} k{}", to_string(args.x.dtype), bucket(args.x.rows()),
                     bucket(args.x.last()), bucket(args.k));
}

std::string tuning_key(const LoraLinearArgs& args) {
  std::string key =
      fmt::format("lora_linear {} n{} i{} r{}", to_string(args.x.dtype), bucket(args.x.shape[0]),
                  bucket(args.x.shape[1]), args.a.present() ? bucket(args.a.shape[0]) : 0);
  key += fmt::format(" o{}", bucket(args.weight.shape[0]));
  for (int i = 0; i < args.branch_count; ++i) key += fmt::format(" b{}", bucket(args.branches[i].outputs));
  return key;
}

}  // namespace candela
