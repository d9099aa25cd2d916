#pragma once

#include <algorithm>

#include <candela/core/parallel.h>

#include "backend/cpu/gemm.h"

/// How a product is cut into pieces that threads compute side by side, each by one call of a library that
/// works on the calling thread alone.
namespace candela::gemm_detail {

/// Size of a piece [rows, cols] of c; those at the lower and right edge are smaller.
struct Cut {
  std::int64_t rows = 0, cols = 0;

  std::int64_t across(std::int64_t n) const { return (n + cols - 1) / cols; }
  std::int64_t pieces(std::int64_t m, std::int64_t n) const { return (m + rows - 1) / rows * across(n); }
};

/// The cut of a product [m, n] of depth k for `threads` threads. It follows from these numbers alone.
Cut cut_product(std::int64_t m, std::int64_t n, std::int64_t k, int threads);

/// The cut of p for the threads that can work on it here.
inline Cut cut_for(const GemmArgs& p) {
  return in_parallel() ? Cut{p.m, p.n} : cut_product(p.m, p.n, p.k, thread_count());
}

/// Calls multiply(piece) for each piece of p.
template <class Multiply>
void for_each_piece(const GemmArgs& p, const Cut& cut, Multiply&& multiply) {
  const std::int64_t across = cut.across(p.n);
  parallel_for(cut.pieces(p.m, p.n), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const std::int64_t i = piece / across * cut.rows;
      const std::int64_t j = piece % across * cut.cols;
      GemmArgs part = p;
      part.m = std::min(cut.rows, p.m - i);
      part.n = std::min(cut.cols, p.n - j);
      part.a = p.a.at(i, 0);
      part.b = p.b.at(0, j);
      part.c = p.c.at(i, j);
      part.bias = p.bias.from(j);
      multiply(part);
    }
  });
}

}  // namespace candela::gemm_detail
