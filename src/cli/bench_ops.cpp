#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>

#include <candela/core/parallel.h>

#include "backend/cpu/peak.h"
#include "backend/kernels.h"
#include "cases/measure.h"
#include "cases/op_case.h"
#include "cli/command.h"

namespace candela::cli {
namespace {

struct OpsOptions {
  std::string family;
  std::string op;
  std::vector<std::string> dtypes = {"f32", "bf16"};
  std::string device = "cpu";
  bool json = false;
  bool why = false;
};

/// One measured line: an op forward or backward.
struct Row {
  std::string name;
  std::string direction;
  std::string dtype;
  std::string shape;
  std::string implementation;  // that ran
  double seconds = 0;
  double flops_per_s = 0;
  double bytes_per_s = 0;
  double share = 0;  // of the product peak where FLOP bind, of copy bandwidth where bytes do
};

struct Yardsticks {
  double copy = 0;
  double product_f32 = 0;
  double product_bf16 = 0;

  double product(DType dtype) const { return dtype == DType::F32 ? product_f32 : product_bf16; }
};

/// More than ten FLOP per byte: the arithmetic binds, not the memory.
constexpr double kComputeBound = 10;

Row make_row(const cases::OpCase& op_case, const char* direction, DType dtype, const cases::Cost& cost,
             double seconds, const Yardsticks& best) {
  Row row{cases::full_name(op_case),           direction, std::string(to_string(dtype)),
          op_case.inputs[0].shape.to_string(), "",        seconds};
  const double bytes = cost.elements * static_cast<double>(size_of(dtype)) + cost.fixed_bytes;
  row.flops_per_s = cost.flops / seconds;
  row.bytes_per_s = bytes / seconds;
  const bool compute_bound = cost.flops > kComputeBound * bytes;
  row.share = compute_bound ? row.flops_per_s / best.product(dtype) : row.bytes_per_s / best.copy;
  return row;
}

/// Inputs and outputs rotate over more memory than the caches hold.
Row measure_row(const cases::OpCase& op_case, DType dtype, Device device, bool backward,
                const Yardsticks& best) {
  const cases::Measurement measured = cases::measure(op_case, dtype, device, backward);
  Row row = make_row(op_case, backward ? "backward" : "forward", dtype,
                     backward ? op_case.backward : op_case.forward, measured.seconds, best);
  row.implementation = measured.implementation;
  return row;
}

std::string format_rate(const Row& row) {
  if (row.flops_per_s > kComputeBound * row.bytes_per_s)
    return fmt::format("{:8.1f} GFLOP/s", row.flops_per_s / 1e9);
  return fmt::format("{:8.1f} GB/s   ", row.bytes_per_s / 1e9);
}

void print_row(const Row& row) {
  fmt::print("{:<34} {:<9} {:<5} {:<22} {:>10.1f} us {}  {:>4.0f} %  {}\n", row.name, row.direction,
             row.dtype, row.shape, row.seconds * 1e6, format_rate(row), row.share * 100, row.implementation);
  std::fflush(stdout);
}

nlohmann::json to_json(const Row& row) {
  return {{"name", row.name},
          {"direction", row.direction},
          {"dtype", row.dtype},
          {"shape", row.shape},
          {"implementation", row.implementation},
          {"microseconds", row.seconds * 1e6},
          {"gflop_per_s", row.flops_per_s / 1e9},
          {"gb_per_s", row.bytes_per_s / 1e9},
          {"share_of_limit", row.share}};
}

/// Which implementation of which op ran, and how often, since the program began.
void print_choices(Device device) {
  auto& table = const_cast<KernelTable&>(backend(device).kernels());  // visited, not changed
  fmt::print("\nimplementations that ran on {}:\n", to_string(device));
  table.for_each_with(table, [](const auto& list, const auto&) {
    for (const auto& kernel : list.kernels) {
      if (const auto runs = kernel.runs->load(); runs > 0)
        fmt::print("  {:<24} {:<16} {:>10} times\n", list.op, kernel.name, runs);
    }
  });
}

void bench_ops(const OpsOptions& options) {
  const Device device = parse_device(options.device);
  const Yardsticks best{copy_bandwidth(), product_peak(DType::F32), product_peak(DType::BF16)};
  nlohmann::json rows = nlohmann::json::array();
  if (!options.json) {
    fmt::print(
        "{}\nmeasured limits: copy {:.1f} GB/s, product f32 {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s (vendor "
        "library, n = 1024)\n\n",
        device_interface(device).description(), best.copy / 1e9, best.product_f32 / 1e9,
        best.product_bf16 / 1e9);
  }
  const auto take = [&](const Row& row) {
    if (options.json) {
      rows.push_back(to_json(row));
    } else {
      print_row(row);
    }
  };
  std::size_t measured = 0;
  for (const cases::Family& family : cases::families()) {
    if (!options.family.empty() && options.family != family.name) continue;
    for (const cases::OpCase& op_case : cases::cases_of(family.name)) {
      if (!op_case.bench || (!options.op.empty() && options.op != op_case.op)) continue;
      for (const std::string& name : options.dtypes) {
        const DType dtype = parse_dtype(name);
        if (std::find(op_case.dtypes.begin(), op_case.dtypes.end(), dtype) == op_case.dtypes.end()) continue;
        take(measure_row(op_case, dtype, device, false, best));
        if (op_case.backward.elements > 0 || op_case.backward.flops > 0) {
          take(measure_row(op_case, dtype, device, true, best));
        }
        ++measured;
      }
    }
  }
  require(measured > 0, "bench ops: no case matches family \"{}\" and op \"{}\"", options.family, options.op);
  if (options.json) {
    fmt::print("{}\n", nlohmann::json{{"device", device_interface(device).description()},
                                      {"copy_gb_per_s", best.copy / 1e9},
                                      {"product_f32_gflop_per_s", best.product_f32 / 1e9},
                                      {"product_bf16_gflop_per_s", best.product_bf16 / 1e9},
                                      {"rows", rows}}
                           .dump(2));
  }
  if (options.why) print_choices(device);
}

}  // namespace

void add_bench_ops(CLI::App& bench, Action& action) {
  auto options = std::make_shared<OpsOptions>();
  CLI::App* command =
      bench.add_subcommand("ops", "Every op: time, rate, and the share of what the machine can do");
  command->add_option("--family", options->family, "Only this family: softmax, norm, matmul, ...");
  command->add_option("--op", options->op, "Only this op: softmax, rms_norm, ...");
  command->add_option("--dtype", options->dtypes, "Element types")
      ->capture_default_str()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--device", options->device, "Where to run; `candela devices` lists what there is")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON instead of a table");
  command->add_flag("--why", options->why, "Also print which implementation of each op ran");
  command->footer(
      "Example:\n  candela bench ops --family norm --dtype f32 --why\n"
      "The last column: share of the measured product peak where arithmetic binds, of copy bandwidth where "
      "memory does.");
  command->callback([&action, options] { action = [options] { bench_ops(*options); }; });
}

}  // namespace candela::cli
