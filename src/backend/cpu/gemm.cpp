#include "backend/cpu/gemm.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include <candela/core/parallel.h>

#include "backend/cpu/table.h"
#include "backend/selector.h"

namespace candela {
namespace gemm_detail {
namespace {

/// x [m, k] (few rows) times b, whose columns are contiguous.
bool narrow_fits(std::int64_t m, std::int64_t k, const Matrix& b) {
  return m <= kNarrowRows && (b.row_stride == 1 || k == 1);
}

/// Whether narrow_product takes the rows where they are.
bool as_they_lie(const GemmArgs& p) {
  return (p.a.col_stride == 1 || p.k == 1) && p.a.dtype == p.b.dtype;
}

void narrow_rows(const GemmArgs& p, Workspace memory) {
  const bool as_is = as_they_lie(p);
  auto* product = memory.take<float>(p.m * p.n);
  auto* packed = memory.take<float>(as_is ? 0 : p.m * p.k);
  auto* ordered =
      memory.take<float>(narrow_product_elements(as_is ? p.a.dtype : DType::F32, p.m, p.k, p.b.dtype));
  if (memory.measuring()) return;
  Matrix x = p.a;
  if (!as_is) {
    x = {packed, DType::F32, p.k, 1};
    // Packing in row order: a matrix with unit row stride would come out transposed.
    for (std::int64_t i = 0; i < p.m; ++i) pack_f32(p.a.at(i, 0), 1, p.k, packed + i * p.k);
  }
  narrow_product(x, p.m, p.k, p.b.transposed(), p.n, ordered, product);
  finish(product, p.n, p.m, p.n, p.c, p.alpha, p.beta, p.bias);
}

/// c^T = b^T a^T: the same memory, read with rows and columns swapped.
GemmArgs transposed(const GemmArgs& p) {
  return {p.n, p.m, p.k, p.b.transposed(), p.a.transposed(), p.c.transposed(), p.alpha, p.beta, {}};
}

/// Whether BLAS can read `x` as f32 where it lies.
bool as_f32(const Matrix& x, std::int64_t rows, std::int64_t cols, BlasMatrix& out) {
  return x.dtype == DType::F32 && as_blas(x, rows, cols, out);
}

void multiply_f32(const GemmArgs& p) {
  onednn_refusal(p).empty() ? onednn(p) : sgemm(p);
}

/// Elements of what blocked() works with.
struct Blocks {
  std::int64_t rows, cols, depth;
  std::int64_t packed_a, packed_b, product;

  explicit Blocks(const GemmArgs& p)
      : rows(std::min(p.m, kRows)), cols(std::min(p.n, kRows)), depth(std::min(p.k, kDepth)) {
    BlasMatrix probe;
    packed_a = as_f32(p.a, p.m, p.k, probe) ? 0 : rows * depth;
    packed_b = as_f32(p.b, p.k, p.n, probe) ? 0 : cols * depth;
    product = rows * cols;
  }

 private:
  static constexpr std::int64_t kRows = 1024;
  static constexpr std::int64_t kDepth = 2048;
};

}  // namespace

bool as_blas(const Matrix& x, std::int64_t rows, std::int64_t cols, BlasMatrix& out) {
  // A stride along a dimension of size 1 is never used: any leading dimension will do.
  const bool unit_cols = x.col_stride == 1 || cols == 1;
  const bool unit_rows = x.row_stride == 1 || rows == 1;
  if (unit_cols && (rows == 1 || x.row_stride >= cols)) {
    out = {x.data, false, rows == 1 ? std::max<std::int64_t>(cols, 1) : x.row_stride};
    return true;
  }
  if (unit_rows && (cols == 1 || x.col_stride >= rows)) {
    out = {x.data, true, cols == 1 ? std::max<std::int64_t>(rows, 1) : x.col_stride};
    return true;
  }
  return false;
}

std::string_view narrow_refusal(const GemmArgs& p) {
  if (narrow_fits(p.m, p.k, p.b)) return {};
  if (p.m > kNarrowRows && p.bias.data == nullptr && narrow_fits(p.n, p.k, p.a.transposed())) return {};
  static_assert(kNarrowRows == 8);
  return "takes at most 8 rows by a transposed matrix, or the mirror image without a bias";
}

void narrow(const GemmArgs& p, Workspace memory) {
  narrow_rows(narrow_fits(p.m, p.k, p.b) ? p : transposed(p), memory);
}

namespace {

/// One block of a product in f32: product [rows, cols] = or += a [rows, depth] b [depth, cols]. `last`: with
/// it the sums are complete.
struct F32Block {
  std::int64_t rows, cols, depth;
  Matrix a, b;
  float* packed_a;
  float* packed_b;
  float* product;
  bool add, last;
};

Matrix as_f32_block(const Matrix& x, std::int64_t rows, std::int64_t cols, float* to) {
  BlasMatrix out;
  return as_f32(x, rows, cols, out) ? x : pack_f32(x, rows, cols, to);
}

/// Elements of the smaller operand up to which slim() is better: it stays in a core's second cache.
constexpr std::int64_t kSlimElements = std::int64_t{1} << 16U;

bool is_slim(const F32Block& block) {
  return std::min(block.rows, block.cols) * block.depth <= kSlimElements;
}

/// The smaller operand is converted first. Then the longer side is cut, and each piece converted, multiplied
/// and finished by one thread: what it converted is in its own caches, and the threads meet once.
template <class Finish>
void slim(const F32Block& block, Finish&& finish_part) {
  constexpr std::int64_t kUnit = 16;
  constexpr std::int64_t kPieceWork = std::int64_t{1} << 17U;
  const bool by_rows = block.rows >= block.cols;
  const std::int64_t length = by_rows ? block.rows : block.cols;
  const std::int64_t other = by_rows ? block.cols : block.rows;
  const Matrix small = by_rows ? as_f32_block(block.b, block.depth, block.cols, block.packed_b)
                               : as_f32_block(block.a, block.rows, block.depth, block.packed_a);
  const std::int64_t units = (length + kUnit - 1) / kUnit;
  const std::int64_t even = units / (2 * std::int64_t{thread_count()});
  const std::int64_t grain = std::max({std::int64_t{1}, even, kPieceWork / (kUnit * other * block.depth)});
  parallel_for(units, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * kUnit;
    const std::int64_t count = std::min(end * kUnit, length) - first;
    const double beta = block.add ? 1 : 0;
    if (by_rows) {
      const Matrix a = as_f32_block(block.a.at(first, 0), count, block.depth,
                                    block.packed_a + (block.packed_a != nullptr ? first * block.depth : 0));
      float* const product = block.product + first * block.cols;
      multiply_f32(
          {count, block.cols, block.depth, a, small, {product, DType::F32, block.cols, 1}, 1, beta, {}});
      if (block.last) finish_part(first, 0, count, block.cols, product);
    } else {
      const Matrix b = as_f32_block(block.b.at(0, first), block.depth, count,
                                    block.packed_b + (block.packed_b != nullptr ? first * block.depth : 0));
      float* const product = block.product + first;
      multiply_f32(
          {block.rows, count, block.depth, small, b, {product, DType::F32, block.cols, 1}, 1, beta, {}});
      if (block.last) finish_part(0, first, block.rows, count, product);
    }
  });
}

}  // namespace

void blocked(const GemmArgs& p, Workspace memory) {
  const Blocks blocks(p);
  const std::int64_t mb = blocks.rows;
  const std::int64_t nb = blocks.cols;
  const std::int64_t kb = blocks.depth;
  auto* packed_a = memory.take<float>(blocks.packed_a);
  auto* packed_b = memory.take<float>(blocks.packed_b);
  auto* product = memory.take<float>(blocks.product);
  if (memory.measuring()) return;
  for (std::int64_t j = 0; j < p.n; j += nb) {
    const std::int64_t cols = std::min(nb, p.n - j);
    for (std::int64_t i = 0; i < p.m; i += mb) {
      const std::int64_t rows = std::min(mb, p.m - i);
      const auto finish_part = [&](std::int64_t row, std::int64_t col, std::int64_t part_rows,
                                   std::int64_t part_cols, const float* from) {
        finish(from, cols, part_rows, part_cols, p.c.at(i + row, j + col), p.alpha, p.beta,
               p.bias.from(j + col));
      };
      for (std::int64_t d = 0; d < p.k; d += kb) {
        const std::int64_t depth = std::min(kb, p.k - d);
        const F32Block block{rows,     cols,     depth,   p.a.at(i, d), p.b.at(d, j),
                             packed_a, packed_b, product, d > 0,        d + depth == p.k};
        if (is_slim(block)) {
          slim(block, finish_part);
          continue;
        }
        multiply_f32({rows,
                      cols,
                      depth,
                      as_f32_block(block.a, rows, depth, packed_a),
                      as_f32_block(block.b, depth, cols, packed_b),
                      {product, DType::F32, cols, 1},
                      1,
                      block.add ? 1.0 : 0.0,
                      {}});
        if (block.last) finish_part(0, 0, rows, cols, product);
      }
    }
  }
}

namespace {

struct Implementation {
  std::string_view name;
  std::string_view (*refusal)(const GemmArgs&);
  void (*multiply)(const GemmArgs&, Workspace);
};

std::string_view blocked_refusal(const GemmArgs&) {
  return {};
}

/// The preferred one first; KernelTable::gemm lists them in the same order.
constexpr Implementation kImplementations[] = {
    {"narrow", narrow_refusal, narrow},    {"amx", amx_refusal, amx},
    {"onednn", onednn_refusal, onednn},    {"sgemm", sgemm_refusal, sgemm},
    {"blocked", blocked_refusal, blocked},
};

/// As an entry of the kernel table, for choices by measurement and for the counters.
template <std::size_t kIndex>
void add_to(KernelList<GemmArgs>& list) {
  list.add_measured<kImplementations[kIndex].multiply>(
      kImplementations[kIndex].name,
      [](const GemmArgs& product) { return std::string(kImplementations[kIndex].refusal(product)); });
}

}  // namespace

void fill_gemm(KernelTable& table) {
  [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    (add_to<kIndex>(table.gemm), ...);
  }
  (std::make_index_sequence<std::size(kImplementations)>());
}

}  // namespace gemm_detail

void gemm(const GemmArgs& product, Workspace memory) {
  if (product.m <= 0 || product.n <= 0) return;
  if (product.k <= 0) {
    if (!memory.measuring())
      gemm_detail::finish(nullptr, 0, product.m, product.n, product.c, 0, product.beta, product.bias);
    return;
  }
  Backend& cpu = backend(Device::cpu());
  if (Tuning::instance().enabled()) return run_within(&KernelTable::gemm, cpu, product, memory);
  for (std::size_t i = 0; i < std::size(gemm_detail::kImplementations); ++i) {
    const gemm_detail::Implementation& one = gemm_detail::kImplementations[i];
    if (!one.refusal(product).empty()) continue;
    if (!memory.measuring()) cpu.kernels().gemm.kernels[i].runs->fetch_add(1, std::memory_order_relaxed);
    return one.multiply(product, memory);
  }
}

}  // namespace candela
