#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include <candela/core/grad.h>
#include <candela/core/parallel.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/lora.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/random.h>
#include <candela/ops/softmax.h>

#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/options.h"

namespace candela::cli {
namespace {

struct TableBench {
  ComputeOptions compute;
  std::string dtype = "f32";
  double seconds = 0.2;
  bool json = false;
};

/// One line of the table: an op as a user would call it, on tensors that stay in the caches.
struct Line {
  std::string name, shape;
  std::function<Tensor()> call;
  double flops;
  /// read and written, of lines that memory bounds; 0: not told
  double bytes = 0;
};

class Table {
 public:
  Table(DType dtype, Device device) : dtype_(dtype), device_(device) {}

  /// The product alone that an adapter adds, and a linear layer with it: x (4, 16, d), weight (d, d).
  void add_lora(std::int64_t d, std::int64_t rank, bool layer) {
    const Tensor x = random({4, 16, d});
    const Tensor a = random({rank, d});
    const Tensor b = random({d, rank});
    const double rows = 4 * 16;
    const auto size = static_cast<double>(d);
    const double flops = 4 * rows * size * static_cast<double>(rank);
    const std::string shape = fmt::format("(4,16,{}) r={}", d, rank);
    if (!layer) {
      const Tensor left = transpose(a, 0, 1);
      const Tensor right = transpose(b, 0, 1);
      lines_.push_back({"LoRA delta", shape, [=] { return matmul(matmul(x, left), right) * 2.0; }, flops});
      return;
    }
    const Weight linear(random({d, d}));
    lines_.push_back({"LoRA layer", shape,
                      [=] {
                        const LowRank adapter{a, b, 2.0, 0};
                        return lora_linear(x, linear, {}, std::span(&adapter, 1));
                      },
                      flops + 2 * rows * size * size});
  }

  void add_rows(const Shape& shape) {
    const Tensor x = random(shape);
    const Tensor weight = random({shape.back()});
    const Tensor bias = random({shape.back()});
    const std::string text = fmt::format("({})", fmt::join(shape, ","));
    // Beyond the caches a call is bounded by reading and writing x once.
    const double size = 2.0 * static_cast<double>(x.numel()) * static_cast<double>(size_of(dtype_));
    const double bytes = size > 1e8 ? size : 0;
    lines_.push_back({"softmax", text, [=] { return softmax(x); }, 0, bytes});
    lines_.push_back({"layer norm", text, [=] { return layer_norm(x, weight, bias, 1e-5); }, 0, bytes});
    lines_.push_back({"RMS norm", text, [=] { return rms_norm(x, weight, 1e-5); }, 0, bytes});
  }

  void add_product(std::int64_t n) {
    const Tensor a = random({n, n});
    const Tensor b = random({n, n});
    const auto size = static_cast<double>(n);
    lines_.push_back(
        {"product", fmt::format("{0} x {0} x {0}", n), [=] { return matmul(a, b); }, 2 * size * size * size});
  }

  const std::vector<Line>& lines() const { return lines_; }

 private:
  Tensor random(const Shape& shape) { return normal(shape, generator_, 0, 1, dtype_, device_); }

  DType dtype_;
  Device device_;
  Generator generator_{1};
  std::vector<Line> lines_;
};

Table table_of(DType dtype, Device device) {
  Table table(dtype, device);
  for (const bool layer : {false, true}) {
    for (const std::int64_t d : {512, 1024, 2048}) table.add_lora(d, 8, layer);
    for (const std::int64_t rank : {4, 16, 32, 64}) table.add_lora(1024, rank, layer);
  }
  table.add_rows({4, 16, 1024});
  table.add_rows({1024, 1024});
  for (const std::int64_t n : {64, 128, 256, 512, 1024, 2048}) table.add_product(n);
  // Rows for a device with memory of its own.
  if (!device_interface(device).host_accessible()) {
    for (const Shape& shape : {Shape{16384, 4096}, {65536, 4096}, {8192, 32768}, {4096, 128256}})
      table.add_rows(shape);
  }
  return table;
}

struct Times {
  double median = 0, least = 0;
};

/// Calls of one recording, on devices that record: so many that its own launch does not count.
constexpr int kRecordedCalls = 200;

/// Seconds of one call, of batches of calls that last a while each, so that reading the clock does not count.
Times time_calls(const std::function<void()>& call, Device device, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_of = [&](int calls) {
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) call();
    device_interface(device).synchronize();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  constexpr double kMostWarmUps = 20;
  constexpr double kWarmUpSeconds = 1e-2;
  constexpr double kBatchSeconds = 1e-3;
  constexpr std::size_t kLeastBatches = 5;
  const int warm_ups = static_cast<int>(std::clamp(kWarmUpSeconds / seconds_of(1), 1.0, kMostWarmUps));
  const int calls = std::max(1, static_cast<int>(kBatchSeconds * warm_ups / seconds_of(warm_ups)));
  std::vector<double> times;
  for (double spent = 0; times.size() < kLeastBatches || spent < seconds;) {
    const double batch = seconds_of(calls);
    times.push_back(batch / calls);
    spent += batch;
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[0]};
}

/// Of a line: its calls as a program makes them, or replayed where the device records.
Times time_line(const Line& line, Device device, double seconds) {
  DeviceInterface& on = device_interface(device);
  if (!on.records()) return time_calls([&] { line.call(); }, device, seconds);
  line.call();  // what is made once
  const int calls = line.bytes > 1e8 ? 4 : kRecordedCalls;
  const auto recording = on.record([&] {
    for (int i = 0; i < calls; ++i) line.call();
  });
  Times times = time_calls([&] { recording->replay(); }, device, seconds);
  times.median /= calls;
  times.least /= calls;
  return times;
}

void bench_table(const TableBench& options) {
  const NoGrad guard;
  set_up_compute(options.compute);
  const Device device = parse_device(options.compute.device);
  const Table table = table_of(parse_dtype(options.dtype), device);
  nlohmann::json rows = nlohmann::json::array();
  if (!options.json) {
    fmt::print(
        "{}, {}; microseconds of a call, small inputs in the caches\n\n{:<11} {:<19} {:>9} {:>9} {:>9}\n",
        options.dtype,
        device_interface(device).records() ? fmt::format("replayed on {}", device)
                                           : fmt::format("{} threads", thread_count()),
        "op", "x", "median", "least", "GFLOP/s");
  }
  for (const Line& line : table.lines()) {
    const Times times = time_line(line, device, options.seconds);
    if (options.json) {
      rows.push_back({{"op", line.name},
                      {"shape", line.shape},
                      {"dtype", options.dtype},
                      {"threads", thread_count()},
                      {"median_us", 1e6 * times.median},
                      {"least_us", 1e6 * times.least}});
      if (line.bytes > 0) rows.back()["gb_per_s"] = 1e-9 * line.bytes / times.median;
      continue;
    }
    fmt::print("{:<11} {:<19} {:>9.1f} {:>9.1f}", line.name, line.shape, 1e6 * times.median,
               1e6 * times.least);
    if (line.flops > 0) fmt::print(" {:>9.1f}", 1e-9 * line.flops / times.median);
    if (line.bytes > 0) fmt::print(" {:>9} {:.0f} GB/s", "", 1e-9 * line.bytes / times.median);
    fmt::print("\n");
    std::fflush(stdout);
  }
  if (options.json) fmt::print("{}\n", rows.dump(2));
}

}  // namespace

void add_bench_table(CLI::App& bench, Action& action) {
  auto options = std::make_shared<TableBench>();
  CLI::App* command = bench.add_subcommand(
      "table", "Small ops as a program calls them: LoRA, softmax, norms and products, in microseconds");
  add_choice(*command, "--dtype", options->dtype, {"f32", "bf16", "f16"}, "Of all tensors");
  declare_compute_options(*command, options->compute);
  add_number(*command, "--seconds", options->seconds, {0, 3600, true}, "How long to measure each line");
  command->add_flag("--json", options->json, "Print JSON instead of a table");
  command->footer("Example:\n  candela bench table --threads 2");
  command->callback([&action, options] { action = [options] { bench_table(*options); }; });
}

}  // namespace candela::cli
