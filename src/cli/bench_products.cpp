#include <cstdio>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>

#include "cases/peak.h"
#include "cli/command.h"
#include "cli/options.h"

namespace candela::cli {
namespace {

constexpr double kMostSize = 32768;

struct ProductOptions {
  std::vector<std::int64_t> sizes = {256, 512, 1024, 2048};
  double seconds = 1;
  bool json = false;
};

struct Product {
  std::int64_t m, n, k;
};

/// GFLOP/s of Candela and of the vendor's library on one product, measured in turn.
struct Comparison {
  double own = 0, vendor = 0, packed = 0;  // packed: 0 where the library has no layout of its own
};

Comparison compare(const Product& p, DType dtype, bool transposed, double seconds_to_spend) {
  Generator generator(1);
  const Tensor a = normal({p.m, p.k}, generator, 0, 1, dtype);
  const Tensor stored = normal(transposed ? Shape{p.n, p.k} : Shape{p.k, p.n}, generator, 0, 1, dtype);
  const Tensor b = transposed ? transpose(stored, 0, 1) : stored;
  Tensor c;
  using Layout = cases::VendorProduct::Layout;
  cases::VendorProduct vendor(dtype, p.m, p.n, p.k, transposed ? Layout::Transposed : Layout::Same);
  std::vector<std::function<void()>> calls = {[&] { c = matmul(a, b); }, [&] { vendor.run(); }};
  std::unique_ptr<cases::VendorProduct> packed;
  if (cases::VendorProduct::supports(dtype, Layout::Packed).empty()) {
    packed = std::make_unique<cases::VendorProduct>(dtype, p.m, p.n, p.k, Layout::Packed);
    calls.emplace_back([&] { packed->run(); });
  }
  const std::vector<double> seconds = cases::median_seconds_in_turn(calls, seconds_to_spend, 9);
  const double gflop = 2e-9 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  return {gflop / seconds[0], gflop / seconds[1], packed ? gflop / seconds[2] : 0};
}

void bench_products(const ProductOptions& options) {
  const NoGrad guard;
  std::vector<Product> products;
  for (const std::int64_t n : options.sizes) products.push_back({n, n, n});
  products.push_back({128, 4096, 4096});
  products.push_back({2048, 768, 256});
  products.push_back({2048, 16, 256});
  nlohmann::json rows = nlohmann::json::array();
  if (!options.json) {
    fmt::print(
        "GFLOP/s; vendor: the library called directly on the same operands; packed: on operands brought into "
        "its\n"
        "own layout beforehand. b^T: b is stored as its transpose, as the weights of a linear layer are.\n\n"
        "{:<18} {:<4} {:<5} {:>8} {:>8} {:>6} {:>8} {:>6}\n",
        "m x n x k", "", "dtype", "candela", "vendor", "ratio", "packed", "ratio");
  }
  for (const DType dtype : {DType::F32, DType::BF16}) {
    if (const std::string refusal = cases::VendorProduct::supports(dtype, cases::VendorProduct::Layout::Same);
        !refusal.empty()) {
      fmt::print(stderr, "bench products: {} is left out: {}\n", to_string(dtype), refusal);
      continue;
    }
    for (const Product& p : products) {
      for (const bool transposed : {false, true}) {
        const Comparison found = compare(p, dtype, transposed, options.seconds);
        const std::string shape = fmt::format("{} x {} x {}", p.m, p.n, p.k);
        if (options.json) {
          rows.push_back({{"shape", shape},
                          {"b_transposed", transposed},
                          {"dtype", to_string(dtype)},
                          {"gflop_per_s", found.own},
                          {"vendor_gflop_per_s", found.vendor},
                          {"vendor_packed_gflop_per_s", found.packed}});
          continue;
        }
        fmt::print("{:<18} {:<4} {:<5} {:>8.1f} {:>8.1f} {:>6.2f}", shape, transposed ? "b^T" : "b",
                   to_string(dtype), found.own, found.vendor, found.own / found.vendor);
        if (found.packed > 0) fmt::print(" {:>8.1f} {:>6.2f}", found.packed, found.own / found.packed);
        fmt::print("\n");
        std::fflush(stdout);
      }
    }
  }
  if (options.json) fmt::print("{}\n", rows.dump(2));
}

}  // namespace

void add_bench_products(CLI::App& bench, Action& action) {
  auto options = std::make_shared<ProductOptions>();
  CLI::App* command =
      bench.add_subcommand("products", "Matrix products against the vendor library called directly");
  command->add_option("--size", options->sizes, "Sizes of the square products")
      ->check(number_within({1, kMostSize}, true))
      ->capture_default_str()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_number(*command, "--seconds", options->seconds, {0, 3600, true}, "How long to measure each line");
  command->add_flag("--json", options->json, "Print JSON instead of a table");
  command->footer("Example:\n  candela bench products --size 1024");
  command->callback([&action, options] { action = [options] { bench_products(*options); }; });
}

}  // namespace candela::cli
