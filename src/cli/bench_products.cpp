#include <cstdio>
#include <fmt/format.h>
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
  double own = 0;
  double vendor = 0;           // 0 where the library has no such product
  double packed = 0;           // 0 where it has no layout of its own
  std::string vendor_refusal;  // why `vendor` is 0
};

Comparison compare(const Product& p, DType dtype, bool transposed, double seconds_to_spend) {
  Generator generator(1);
  const Tensor a = normal({p.m, p.k}, generator, 0, 1, dtype);
  const Tensor stored = normal(transposed ? Shape{p.n, p.k} : Shape{p.k, p.n}, generator, 0, 1, dtype);
  const Tensor b = transposed ? transpose(stored, 0, 1) : stored;
  Tensor c;
  using cases::VendorProduct;
  using Layout = VendorProduct::Layout;
  const Layout layout = transposed ? Layout::Transposed : Layout::Same;
  Comparison found;
  std::vector<cases::Contender> calls = {{[&] { c = matmul(a, b); }}};
  std::vector<double*> rates = {&found.own};
  std::vector<std::unique_ptr<VendorProduct>> vendors;
  const auto add = [&](Layout wanted, double& rate) {
    vendors.push_back(std::make_unique<VendorProduct>(dtype, p.m, p.n, p.k, wanted));
    calls.push_back({[product = vendors.back().get()] { product->run(); }, true});
    rates.push_back(&rate);
  };
  found.vendor_refusal = VendorProduct::supports(dtype, layout);
  if (found.vendor_refusal.empty()) add(layout, found.vendor);
  if (VendorProduct::supports(dtype, Layout::Packed).empty()) add(Layout::Packed, found.packed);
  const std::vector<double> seconds = cases::median_seconds_in_turn(calls, seconds_to_spend, 9);
  const double gflop = 2e-9 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  for (std::size_t i = 0; i < rates.size(); ++i) *rates[i] = gflop / seconds[i];
  return found;
}

nlohmann::json to_json(const Comparison& found, const std::string& shape, DType dtype, bool transposed) {
  nlohmann::json row = {{"shape", shape},
                        {"b_transposed", transposed},
                        {"dtype", to_string(dtype)},
                        {"gflop_per_s", found.own}};
  if (found.vendor > 0) row["vendor_gflop_per_s"] = found.vendor;
  if (found.packed > 0) row["vendor_packed_gflop_per_s"] = found.packed;
  if (!found.vendor_refusal.empty()) row["vendor_absent"] = found.vendor_refusal;
  return row;
}

void print_line(const Comparison& found, const std::string& shape, DType dtype, bool transposed) {
  fmt::print("{:<18} {:<4} {:<5} {:>8.1f}", shape, transposed ? "b^T" : "b", to_string(dtype), found.own);
  if (found.vendor > 0) fmt::print(" {:>8.1f} {:>6.2f}", found.vendor, found.own / found.vendor);
  if (found.packed > 0) fmt::print(" {:>8.1f} {:>6.2f}", found.packed, found.own / found.packed);
  if (!found.vendor_refusal.empty()) fmt::print("  no vendor: {}", found.vendor_refusal);
  fmt::print("\n");
  std::fflush(stdout);
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
    for (const Product& p : products) {
      for (const bool transposed : {false, true}) {
        const Comparison found = compare(p, dtype, transposed, options.seconds);
        const std::string shape = fmt::format("{} x {} x {}", p.m, p.n, p.k);
        if (options.json) {
          rows.push_back(to_json(found, shape, dtype, transposed));
        } else {
          print_line(found, shape, dtype, transposed);
        }
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
