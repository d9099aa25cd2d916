#include "backend/cpu/gemm_cut.h"

#include <limits>

namespace candela::gemm_detail {
namespace {

/// Multiply-adds of a piece that are worth a thread: some microseconds.
constexpr std::int64_t kPieceWork = std::int64_t{1} << 18U;
/// Pieces begin at multiples of these, so that the kernels' blocks are whole.
constexpr std::int64_t kRowUnit = 16;
constexpr std::int64_t kColUnit = 64;
/// Multiply-adds that bringing one element of an operand to the kernel costs: b is packed, a is read.
constexpr std::int64_t kPackCost = 24;
constexpr std::int64_t kReadCost = 8;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// The length of one of `parts` parts of `size`, a multiple of `unit`.
std::int64_t part(std::int64_t size, std::int64_t parts, std::int64_t unit) {
  return std::min(size, ceil_div(ceil_div(size, parts), unit) * unit);
}

/// What the busiest thread has to do, in multiply-adds per unit of depth.
std::int64_t cost_of(const Cut& cut, std::int64_t m, std::int64_t n, int threads) {
  const std::int64_t rounds = ceil_div(cut.pieces(m, n), threads);
  return rounds * (cut.rows * cut.cols + kPackCost * cut.cols + kReadCost * cut.rows);
}

}  // namespace

Cut cut_product(std::int64_t m, std::int64_t n, std::int64_t k, int threads) {
  Cut best = {m, n};
  const std::int64_t worth = m * n / ceil_div(kPieceWork, std::max<std::int64_t>(k, 1));
  const std::int64_t most = std::min<std::int64_t>(2 * std::int64_t{threads}, worth);
  if (threads <= 1 || most <= 1) return best;
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t down = 1; down <= most; ++down) {
    const Cut rows = {part(m, down, kRowUnit), n};
    for (std::int64_t across = 1; across * down <= most; ++across) {
      const Cut cut = {rows.rows, part(n, across, kColUnit)};
      const std::int64_t cost = cost_of(cut, m, n, threads);
      if (cost >= least) continue;
      least = cost;
      best = cut;
    }
  }
  return best;
}

}  // namespace candela::gemm_detail
