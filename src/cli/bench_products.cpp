#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>

#include "backend/cpu/peak.h"
#include "cli/command.h"
#include "cli/timing.h"

namespace candela::cli {
namespace {

struct ProductOptions {
  std::vector<std::int64_t> sizes = {256, 512, 1024, 2048};
  bool json = false;
};

struct Product {
  std::int64_t m, n, k;
};

void bench_products(const ProductOptions& options) {
  const NoGrad guard;
  std::vector<Product> products;
  for (const std::int64_t n : options.sizes) products.push_back({n, n, n});
  products.push_back({128, 4096, 4096});
  products.push_back({2048, 768, 256});
  nlohmann::json rows = nlohmann::json::array();
  if (!options.json)
    fmt::print("{:<18} {:<5} {:>14} {:>18} {:>8}\n", "m x n x k", "dtype", "candela", "vendor, direct",
               "ratio");
  Generator generator(1);
  for (const DType dtype : {DType::F32, DType::BF16}) {
    for (const Product& p : products) {
      const Tensor a = normal({p.m, p.k}, generator, 0, 1, dtype);
      const Tensor b = normal({p.k, p.n}, generator, 0, 1, dtype);
      Tensor c;
      const double flops =
          2.0 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
      const double own = flops / median_seconds([&] { c = matmul(a, b); });
      const double vendor = vendor_product(dtype, p.m, p.n, p.k);
      const std::string shape = fmt::format("{} x {} x {}", p.m, p.n, p.k);
      if (options.json) {
        rows.push_back({{"shape", shape},
                        {"dtype", to_string(dtype)},
                        {"gflop_per_s", own / 1e9},
                        {"vendor_gflop_per_s", vendor / 1e9}});
      } else {
        fmt::print("{:<18} {:<5} {:>6.1f} GFLOP/s {:>10.1f} GFLOP/s {:>7.2f}\n", shape, to_string(dtype),
                   own / 1e9, vendor / 1e9, own / vendor);
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
      ->capture_default_str()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_flag("--json", options->json, "Print JSON instead of a table");
  command->footer("Example:\n  candela bench products --size 1024");
  command->callback([&action, options] { action = [options] { bench_products(*options); }; });
}

}  // namespace candela::cli
