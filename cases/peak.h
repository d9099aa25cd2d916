#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <candela/core/dtype.h>
#include <candela/core/tensor.h>

/// What this machine can do at best: the yardsticks of `candela bench`. Machines are shared and their speed
/// wanders, so each yardstick is a call that can be timed between the calls it is compared with.
namespace candela::cases {

/// A call to be timed.
struct Contender {
  std::function<void()> call;
  /// Whether it has a team of threads of its own. Those are started by a call before the one that is timed,
  /// and ended behind it: spinning, they would slow down the next contender.
  bool own_threads = false;
};

/// Median seconds of each of `calls`, run in turn: what disturbs one disturbs the others too. After two
/// rounds to warm up, at least `min_rounds` rounds and about `budget_s` seconds in all.
std::vector<double> median_seconds_in_turn(const std::vector<Contender>& calls, double budget_s,
                                           int min_rounds = 5);

/// One product a [m, k] by b [k, n] by the vendor's library called directly: oneDNN's matmul primitive, or
/// Accelerate's BLAS on macOS.
class VendorProduct {
 public:
  enum class Layout : std::uint8_t {
    /// the operands as Candela is given them
    Same,
    /// the same, b stored as its transpose, as the weights of a linear layer are
    Transposed,
    /// operands brought beforehand into the layout that the library likes best
    Packed,
  };

  /// Why the library cannot multiply `dtype` in this layout; empty if it can.
  static std::string supports(DType dtype, Layout layout);
  VendorProduct(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k, Layout layout);
  VendorProduct(const VendorProduct&) = delete;
  VendorProduct& operator=(const VendorProduct&) = delete;
  ~VendorProduct();
  void run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A square product of size 1024, by the vendor's library where it multiplies `dtype` and by Candela's own
/// kernel.
class ProductYardstick {
 public:
  explicit ProductYardstick(DType dtype);
  void run_own();
  /// Only where vendor_refusal() is empty.
  void run_vendor();
  /// Why the vendor's library has no such product here; empty if it has.
  const std::string& vendor_refusal() const { return vendor_refusal_; }
  /// FLOP of one product.
  static double flops();

 private:
  Tensor a_, b_, c_;
  std::string vendor_refusal_;
  std::unique_ptr<VendorProduct> vendor_;
};

/// Memory far larger than the caches, copied and read with all threads.
class MemoryYardstick {
 public:
  MemoryYardstick();
  /// the C library's memcpy
  void copy();
  void read();
  /// by one copy(), read plus written
  static double bytes_copied();
  static double bytes_read();

 private:
  Tensor from_, to_;
};

}  // namespace candela::cases
