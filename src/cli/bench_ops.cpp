#include <algorithm>
#include <cstdio>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include <candela/core/parallel.h>
#include <candela/ops/tuning.h>

#include "backend/kernels.h"
#include "backend/tuning.h"
#include "cases/measure.h"
#include "cases/op_case.h"
#include "cases/peak.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

struct OpsOptions {
  std::string family;
  std::string op;
  /// of a case
  std::string name;
  std::vector<std::string> dtypes = {"f32", "bf16"};
  ComputeOptions compute;
  bool json = false;
  bool why = false;
  bool batched = false;
  double seconds = 0.5;
};

/// Calls between two waits where --batched asks for many; fewer where they would fill the memory.
constexpr int kBatchedCalls = 16;
/// at least, of so many calls each
constexpr int kBatchedRuns = 3;

/// One measured line: an op forward or backward.
struct Row {
  std::string name;
  std::string direction;
  std::string dtype;
  std::string shape;
  std::string implementation;  // that ran
  double seconds = 0;
  int calls = 1;  // between two waits
  double flops_per_s = 0;
  double bytes_per_s = 0;
  double limit_per_s =
      0;  // FLOP/s of a product where FLOP bind, bytes/s of a copy where bytes do, measured in between
  double share = 0;  // of that
};

/// More than ten FLOP per byte: the arithmetic binds, not the memory.
constexpr double kComputeBound = 10;

/// What ops are compared with: products of their dtype where the arithmetic binds, copies where the memory
/// does.
class Yardsticks {
 public:
  cases::ProductYardstick& product(DType dtype) {
    std::unique_ptr<cases::ProductYardstick>& made = products_[dtype];
    if (!made) made = std::make_unique<cases::ProductYardstick>(dtype);
    return *made;
  }
  cases::MemoryYardstick& memory() {
    if (!memory_) memory_.emplace();
    return *memory_;
  }

 private:
  std::optional<cases::MemoryYardstick> memory_;  // a GiB, and a product needs none of it
  std::map<DType, std::unique_ptr<cases::ProductYardstick>> products_;
};

/// Measures one op forward or backward, and what it is compared with in between.
Row measure_row(const cases::OpCase& op_case, DType dtype, Device device, bool backward,
                const OpsOptions& ops, Yardsticks& yardsticks) {
  const cases::Cost& cost = backward ? op_case.backward : op_case.forward;
  const double bytes = cost.elements * static_cast<double>(size_of(dtype)) + cost.fixed_bytes;
  const bool compute_bound = cost.flops > kComputeBound * bytes;
  cases::MeasureOptions options;
  options.min_seconds = ops.seconds;
  if (ops.batched) {
    options.calls = kBatchedCalls;
    options.min_runs = kBatchedRuns;
  }
  options.yardstick = [&] {
    compute_bound ? yardsticks.product(dtype).run_own() : yardsticks.memory().copy();
  };
  const cases::Measurement measured = cases::measure(op_case, dtype, device, backward, options);
  Row row{cases::full_name(op_case),
          backward ? "backward" : "forward",
          std::string(to_string(dtype)),
          op_case.inputs[0].shape.to_string(),
          measured.implementation,
          measured.seconds,
          measured.calls};
  row.flops_per_s = cost.flops / measured.seconds;
  row.bytes_per_s = bytes / measured.seconds;
  row.limit_per_s =
      (compute_bound ? cases::ProductYardstick::flops() : cases::MemoryYardstick::bytes_copied()) /
      measured.yardstick_seconds;
  row.share = (compute_bound ? row.flops_per_s : row.bytes_per_s) / row.limit_per_s;
  return row;
}

std::string format_rate(const Row& row) {
  if (row.flops_per_s > kComputeBound * row.bytes_per_s)
    return fmt::format("{:8.1f} GFLOP/s", row.flops_per_s / 1e9);
  return fmt::format("{:8.1f} GB/s   ", row.bytes_per_s / 1e9);
}

void print_row(const Row& row) {
  fmt::print("{:<34} {:<9} {:<5} {:<22} {:>10.1f} us {} {:>4.0f} % of {:>5.1f}  {}\n", row.name,
             row.direction, row.dtype, row.shape, row.seconds * 1e6, format_rate(row), row.share * 100,
             row.limit_per_s / 1e9, row.implementation);
  std::fflush(stdout);
}

nlohmann::json to_json(const Row& row) {
  return {{"name", row.name},
          {"direction", row.direction},
          {"dtype", row.dtype},
          {"shape", row.shape},
          {"implementation", row.implementation},
          {"microseconds", row.seconds * 1e6},
          {"calls_per_wait", row.calls},
          {"gflop_per_s", row.flops_per_s / 1e9},
          {"gb_per_s", row.bytes_per_s / 1e9},
          {"limit_g_per_s", row.limit_per_s / 1e9},
          {"share_of_limit", row.share}};
}

/// Which implementation of which op ran, and how often, since the program began.
void print_choices(Device device) {
  fmt::print("\nimplementations that ran on {}:\n", device);
  KernelTable::for_each_list([&]<auto kList>() {
    const auto& list = backend(device).kernels().*kList;
    for (const auto& kernel : list.kernels) {
      if (const auto runs = kernel.runs->load(); runs > 0)
        fmt::print("  {:<24} {:<16} {:>10} times\n", list.op, kernel.name, runs);
    }
  });
}

/// What was measured, where tuning is on: the choice of each op and bucket of shapes, and the times behind
/// it.
void print_tuning(Device device) {
  const TuningTable table = Tuning::instance().table();
  const auto found = table.find(device_interface(device).description());
  if (found == table.end()) return;
  fmt::print("\nchosen by measurement on {} (kept in {}):\n", device, default_tuning_file().string());
  for (const auto& [key, choice] : found->second) {
    std::string times;
    for (const auto& [name, nanoseconds] : choice.nanoseconds)
      times += fmt::format("  {} {:.1f} us", name, static_cast<double>(nanoseconds) / 1e3);
    fmt::print("  {:<48} {:<10}{}\n", key, choice.implementation, times);
  }
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const cases::Family& family : cases::families()) names.emplace_back(family.name);
  return names;
}

/// The ops that have a case to measure.
std::vector<std::string> op_names() {
  std::set<std::string> names;
  for (const cases::Family& family : cases::families()) {
    for (const cases::OpCase& op_case : cases::cases_of(family.name)) {
      if (op_case.bench) names.emplace(op_case.op);
    }
  }
  return {names.begin(), names.end()};
}

/// A case in one of its dtypes.
struct Chosen {
  const cases::OpCase* op_case;
  DType dtype;
};

/// The cases and dtypes that the options ask for.
std::vector<Chosen> choose_cases(const OpsOptions& options) {
  std::vector<Chosen> chosen;
  for (const cases::Family& family : cases::families()) {
    if (!options.family.empty() && options.family != family.name) continue;
    for (const cases::OpCase& op_case : cases::cases_of(family.name)) {
      if (!op_case.bench || (!options.op.empty() && options.op != op_case.op)) continue;
      if (!options.name.empty() && options.name != op_case.name) continue;
      for (const std::string& name : options.dtypes) {
        const DType dtype = parse_dtype(name);
        if (std::find(op_case.dtypes.begin(), op_case.dtypes.end(), dtype) != op_case.dtypes.end())
          chosen.push_back({&op_case, dtype});
      }
    }
  }
  require<UsageError>(
      !chosen.empty(),
      "bench ops: there is no case of --family {}, --op {}, --case {} and --dtype {} to measure",
      options.family.empty() ? "any" : options.family, options.op.empty() ? "any" : options.op,
      options.name.empty() ? "any" : options.name, fmt::join(options.dtypes, " "));
  return chosen;
}

void bench_ops(const OpsOptions& options) {
  const std::vector<Chosen> chosen = choose_cases(options);
  set_up_compute(options.compute);
  const Device device = parse_device(options.compute.device);
  Yardsticks yardsticks;
  nlohmann::json rows = nlohmann::json::array();
  if (!options.json) {
    fmt::print(
        "{}\nThe share is of a 1024-wide product where arithmetic binds (GFLOP/s), of a memcpy where memory "
        "does "
        "(GB/s), measured in between.\nTimes are {}.\n\n",
        device_interface(device).description(),
        options.batched
            ? fmt::format("batched: of one of up to {} calls with one wait after them", kBatchedCalls)
            : "single: of one call and the wait for it");
  }
  const auto take = [&](const Row& row) {
    if (options.json) {
      rows.push_back(to_json(row));
    } else {
      print_row(row);
    }
  };
  for (const auto& [op_case, dtype] : chosen) {
    take(measure_row(*op_case, dtype, device, false, options, yardsticks));
    if (op_case->backward.elements > 0 || op_case->backward.flops > 0)
      take(measure_row(*op_case, dtype, device, true, options, yardsticks));
  }
  if (options.json) {
    fmt::print("{}\n",
               nlohmann::json{{"device", device_interface(device).description()}, {"rows", rows}}.dump(2));
  }
  if (options.why) {
    print_choices(device);
    print_tuning(device);
  }
}

}  // namespace

void add_bench_ops(CLI::App& bench, Action& action) {
  auto options = std::make_shared<OpsOptions>();
  CLI::App* command =
      bench.add_subcommand("ops", "Every op: time, rate, and the share of what the machine can do");
  command->add_option("--family", options->family, "Only this family: softmax, norm, matmul, ...")
      ->check(one_of(family_names()));
  command->add_option("--op", options->op, "Only this op: softmax, rms_norm, ...")
      ->check(CLI::Validator([](std::string& op) { return one_of(op_names())(op); }, ""));
  command->add_option("--case", options->name,
                      "Only this case, as the table names it behind the op: bench_1024, ...");
  command->add_option("--dtype", options->dtypes, "Element types")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  declare_compute_options(*command, options->compute);
  command->add_flag("--batched", options->batched,
                    "Wait once after many calls, as a training step does, not after each");
  add_number(*command, "--seconds", options->seconds, {0, 3600, true}, "How long to measure each line");
  CLI::Option* json = command->add_flag("--json", options->json, "Print JSON instead of a table");
  command
      ->add_flag("--why", options->why, "Also print which implementation of each op ran, and what chose it")
      ->excludes(json);
  command->footer(
      "Example:\n  candela bench ops --family norm --dtype f32 --why\n"
      "The share is of a product measured in between where arithmetic binds, of a memcpy where memory does.");
  command->callback([&action, options] { action = [options] { bench_ops(*options); }; });
}

}  // namespace candela::cli
