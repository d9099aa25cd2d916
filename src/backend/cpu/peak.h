#pragma once

#include <cstdint>

#include <candela/core/dtype.h>

/// What this machine can do at best: the yardsticks of `candela bench`.
namespace candela {

/// FLOP/s of a square product of size n by the vendor library called directly, in the layout it likes best:
/// the median of several runs.
double product_peak(DType dtype, std::int64_t n = 1024);

/// FLOP/s of one product of this shape (a [m, k] by b [k, n]) by the vendor library called directly.
double vendor_product(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k);

/// Bytes per second, read plus written, of copying memory far larger than the caches with all threads.
double copy_bandwidth();

/// Bytes per second of reading memory far larger than the caches with all threads.
double read_bandwidth();

}  // namespace candela
