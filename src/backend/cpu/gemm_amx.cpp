#include <algorithm>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/cpu/gemm.h"
#include "backend/cpu/instruction_limit.h"
#include "backend/cpu/workspace_slots.h"

#if defined(__x86_64__) && defined(__linux__)

#if !defined(__clang__)
// GCC's own header leaves the pass-through operand of unmasked intrinsics undefined on purpose, and warns
// about it.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/// bf16 products on the tile unit: C (16 x 16 f32) += A (16 x 32 bf16) B (32 x 16 bf16) is one instruction.
/// B is packed once per product into tiles of 1 KiB, which hold pairs of k next to each other for 16 columns.
/// A's tiles are rows of 32 elements along k: they are read where they lie, or packed if A is stored
/// otherwise. What lies beyond the edges is zero.
namespace candela::gemm_detail {
namespace {

constexpr std::int64_t kTile = 16;
constexpr std::int64_t kTileDepth = 32;
constexpr std::int64_t kTileElements = 512;
/// Rows or columns that the inner kernel handles at once: two tiles.
constexpr std::int64_t kPanel = 2 * kTile;
/// Depth of one pass over the tiles: a panel of A is 32 KiB then and stays in the first cache, while those of
/// B stream by.
constexpr std::int64_t kDepth = 512;
/// Panels per task and side, at most.
constexpr std::int64_t kTaskPanels = 8;
/// Elements of one packed operand at a time: 16 MiB.
constexpr std::int64_t kPackedElements = std::int64_t{1} << 23U;

/// The vector instructions that packing uses; every processor with tiles has them.
#define CANDELA_TILE_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,amx-tile,amx-bf16")))

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

__mmask32 first_lanes(std::int64_t count) {
  return count >= 32 ? ~__mmask32{0}
                     : static_cast<__mmask32>((std::uint64_t{1} << std::max<std::int64_t>(count, 0)) - 1);
}

const std::uint16_t* element(const Matrix& x, std::int64_t i, std::int64_t j) {
  return static_cast<const std::uint16_t*>(x.data) + i * x.row_stride + j * x.col_stride;
}

/// Any strides: element (i, j) of a tile of x [rows, cols] starting at (row, col), zero beyond the edges.
std::uint16_t element_or_zero(const Matrix& x, std::int64_t rows, std::int64_t cols, std::int64_t i,
                              std::int64_t j) {
  return i < rows && j < cols ? *element(x, i, j) : std::uint16_t{0};
}

/// Transposes 16 x 16 words of 32 bits.
CANDELA_TILE_TARGET void transpose_words(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

/// Words (i, i + 1) of 16 elements side by side: element (row, q) in the low half, (row, q + 1) in the high
/// half. x's rows are contiguous; what lies beyond its `rows` rows is zero.
CANDELA_TILE_TARGET __m512i pairs_of_rows(const Matrix& x, std::int64_t rows, std::int64_t row,
                                          std::int64_t col, __mmask16 lanes) {
  const auto load = [&](std::int64_t at) CANDELA_TILE_TARGET {
    return at < rows ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, element(x, at, col)))
                     : _mm512_setzero_si512();
  };
  return _mm512_or_si512(load(row), _mm512_slli_epi32(load(row + 1), 16));
}

__mmask16 lanes_of(std::int64_t count) {
  return static_cast<__mmask16>(first_lanes(std::min(count, kTile)));
}

/// A tile: rows [row, row + 16), depth [p, p + 32) of a [m, k].
CANDELA_TILE_TARGET void pack_left(const Matrix& a, std::int64_t m, std::int64_t k, std::int64_t row,
                                   std::int64_t p, std::uint16_t* to) {
  if (a.row_stride == 1 && a.col_stride != 1) {
    const Matrix along = a.transposed();
    __m512i words[16];
    for (std::int64_t q = 0; q < kTile; ++q)
      words[q] = pairs_of_rows(along, k, p + 2 * q, row, lanes_of(m - row));
    transpose_words(words);
    for (std::int64_t i = 0; i < kTile; ++i) _mm512_storeu_si512(to + i * kTileDepth, words[i]);
    return;
  }
  for (std::int64_t i = 0; i < kTile; ++i) {
    std::uint16_t* out = to + i * kTileDepth;
    if (row + i < m && a.col_stride == 1) {
      _mm512_storeu_si512(out, _mm512_maskz_loadu_epi16(first_lanes(k - p), element(a, row + i, p)));
      continue;
    }
    for (std::int64_t q = 0; q < kTileDepth; ++q) out[q] = element_or_zero(a, m, k, row + i, p + q);
  }
}

/// B tile: depth [p, p + 32), columns [col, col + 16) of b [k, n]; row q of the tile holds the pairs (2 q, 2
/// q + 1) of each column.
CANDELA_TILE_TARGET void pack_right(const Matrix& b, std::int64_t k, std::int64_t n, std::int64_t p,
                                    std::int64_t col, std::uint16_t* to) {
  if (b.row_stride == 1) {
    __m512i columns[16];
    for (std::int64_t j = 0; j < kTile; ++j) {
      columns[j] = col + j < n ? _mm512_maskz_loadu_epi16(first_lanes(k - p), element(b, p, col + j))
                               : _mm512_setzero_si512();
    }
    transpose_words(columns);
    for (std::int64_t q = 0; q < kTile; ++q) _mm512_storeu_si512(to + q * kTileDepth, columns[q]);
    return;
  }
  for (std::int64_t q = 0; q < kTile; ++q) {
    std::uint16_t* out = to + q * kTileDepth;
    const std::int64_t depth = p + 2 * q;
    if (b.col_stride == 1) {
      _mm512_storeu_si512(out, pairs_of_rows(b, k, depth, col, lanes_of(n - col)));
      continue;
    }
    for (std::int64_t j = 0; j < kTile; ++j) {
      out[2 * j] = element_or_zero(b, k, n, depth, col + j);
      out[2 * j + 1] = element_or_zero(b, k, n, depth + 1, col + j);
    }
  }
}

/// Where the tiles of one panel of the left operand lie: two below each other at each step of depth.
struct LeftPanel {
  const std::uint16_t* tiles;
  /// elements from the upper tile to the lower
  std::int64_t below;
  /// elements from one step of depth to the next
  std::int64_t step;
  /// from one row of a tile to the next
  std::int64_t row_bytes;
};

/// An operand, or a block of one, as tiles: panel by panel, along k, two tiles each.
struct Packed {
  std::int64_t depth_tiles;
  std::uint16_t* tiles;

  Packed(std::int64_t panels, std::int64_t k, Workspace& memory)
      : depth_tiles(ceil_div(k, kTileDepth)),
        tiles(memory.take<std::uint16_t>(panels * depth_tiles * 2 * kTileElements)) {}
  std::uint16_t* panel(std::int64_t index) const { return tiles + index * depth_tiles * 2 * kTileElements; }
};

/// Panels of a [m, k] that are read where they lie: whole ones of rows with whole tiles. Rows a multiple of a
/// page apart would share one set of the cache.
std::int64_t panels_in_place(const Matrix& a, std::int64_t m, std::int64_t k) {
  constexpr std::int64_t kPageElements = 2048;
  return a.col_stride == 1 && k % kTileDepth == 0 && a.row_stride % kPageElements != 0 ? m / kPanel : 0;
}

/// The left operand: its first panels where they lie, the others packed.
struct Left {
  Matrix a;
  std::int64_t rows, in_place;
  const Packed& packed;

  Left(const Matrix& of, std::int64_t m, std::int64_t k, const Packed& packed_here)
      : a(of), rows(m), in_place(panels_in_place(of, m, k)), packed(packed_here) {}

  std::int64_t packed_panels() const { return ceil_div(rows, kPanel) - in_place; }

  LeftPanel panel(std::int64_t index) const {
    if (index < in_place) {
      return {element(a, index * kPanel, 0), kTile * a.row_stride, kTileDepth,
              a.row_stride * static_cast<std::int64_t>(sizeof(std::uint16_t))};
    }
    return {packed.panel(index - in_place), kTileElements, 2 * kTileElements, 64};
  }
};

/// Packs b [k, n], and of `left` what is not in place (null: nothing), in one parallel loop: a piece is one
/// panel by kDepth of depth.
void pack(const Left* left, const Matrix& b, std::int64_t k, std::int64_t n, const Packed& right) {
  constexpr std::int64_t kStep = kDepth / kTileDepth;
  const std::int64_t steps = ceil_div(right.depth_tiles, kStep);
  const std::int64_t left_panels = left != nullptr ? left->packed_panels() : 0;
  const std::int64_t panels = left_panels + ceil_div(n, kPanel);
  // Elements of a packed panel that are worth a thread.
  constexpr std::int64_t kGrain = std::int64_t{1} << 14U;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / (kPanel * std::min(k, kDepth)));
  parallel_for(panels * steps, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const std::int64_t panel = piece / steps;
      const std::int64_t first = piece % steps * kStep;
      const std::int64_t last = std::min(first + kStep, right.depth_tiles);
      for (std::int64_t t = 2 * first; t < 2 * last; ++t) {
        const std::int64_t depth = t / 2 * kTileDepth;
        if (panel < left_panels) {
          pack_left(left->a, left->rows, k, (left->in_place + panel) * kPanel + t % 2 * kTile, depth,
                    left->packed.panel(panel) + t * kTileElements);
        } else {
          const std::int64_t j = panel - left_panels;
          pack_right(b, k, n, depth, j * kPanel + t % 2 * kTile, right.panel(j) + t * kTileElements);
        }
      }
    }
  });
}

/// Layout of the eight tile registers: 16 rows of 64 bytes each.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

/// The tile unit, set up for this thread while it lives.
class TileUnit {
 public:
  CANDELA_TILE_TARGET TileUnit() { _tile_loadconfig(&config_); }
  CANDELA_TILE_TARGET ~TileUnit() { _tile_release(); }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;

 private:
  TileConfig config_;
};

/// c [32, 32] (f32, `ld` floats from row to row) = or += the product of `count` pairs of tiles, from the
/// left panel's step `first` on.
CANDELA_TILE_TARGET void multiply_panels(const LeftPanel& left, std::int64_t first, const std::uint16_t* b,
                                         std::int64_t count, float* c, std::int64_t ld, bool add) {
  const std::uint16_t* a = left.tiles + first * left.step;
  float* below = c + kTile * ld;
  const std::int64_t bytes = ld * static_cast<std::int64_t>(sizeof(float));
  if (add) {
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, c + kTile, bytes);
    _tile_loadd(2, below, bytes);
    _tile_loadd(3, below + kTile, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::int64_t t = 0; t < count; ++t) {
    _tile_loadd(4, a, left.row_bytes);
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + kTileElements, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + left.below, left.row_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    a += left.step;
    b += 2 * kTileElements;
  }
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + kTile, bytes);
  _tile_stored(2, below, bytes);
  _tile_stored(3, below + kTile, bytes);
}

/// Panels of one task on each side: fewer where there would be too few tasks for the threads, but no task
/// below kTaskWork multiply-adds, which take as long as to wake a thread.
struct TaskShape {
  static constexpr std::int64_t kTaskWork = std::int64_t{1} << 20U;
  std::int64_t rows, cols;

  TaskShape(std::int64_t row_panels, std::int64_t col_panels, std::int64_t k)
      : rows(std::min(kTaskPanels, row_panels)), cols(std::min(kTaskPanels, col_panels)) {
    while (tasks(row_panels, col_panels) < 2 * thread_count() && elements() * k >= 2 * kTaskWork &&
           (rows > 1 || cols > 1)) {
      std::int64_t& longer = cols >= rows ? cols : rows;
      longer = ceil_div(longer, 2);
    }
  }
  std::int64_t tasks(std::int64_t row_panels, std::int64_t col_panels) const {
    return ceil_div(row_panels, rows) * ceil_div(col_panels, cols);
  }
  /// Of a task's sums.
  std::int64_t elements() const { return rows * kPanel * cols * kPanel; }
};

/// Panels of an operand that are packed at once: `size` rows of the left or columns of the right.
std::int64_t packed_panels(std::int64_t size, std::int64_t k) {
  return std::min(
      ceil_div(size, kPanel),
      std::max<std::int64_t>(1, kPackedElements / (kPanel * ceil_div(k, kTileDepth) * kTileDepth)));
}

/// c [m, n] from packed operands.
void multiply_packed(const Left& left, const Packed& right, const TaskShape& shape, WorkspaceSlots& slots,
                     std::int64_t m, std::int64_t n, const Matrix& c, double alpha, double beta,
                     const RowBias& bias) {
  const std::int64_t row_panels = ceil_div(m, kPanel);
  const std::int64_t col_panels = ceil_div(n, kPanel);
  const std::int64_t across = ceil_div(col_panels, shape.cols);
  parallel_for(shape.tasks(row_panels, col_panels), 1, [&](std::int64_t begin, std::int64_t end) {
    const TileUnit unit;
    const std::int64_t ld = shape.cols * kPanel;
    const WorkspaceSlots::Slot slot(slots);
    auto* sums = slot.array<float>(shape.elements());
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t row = task / across * shape.rows;
      const std::int64_t col = task % across * shape.cols;
      const std::int64_t rows = std::min(shape.rows, row_panels - row);
      const std::int64_t cols = std::min(shape.cols, col_panels - col);
      for (std::int64_t t = 0; t < right.depth_tiles; t += kDepth / kTileDepth) {
        const std::int64_t count = std::min(kDepth / kTileDepth, right.depth_tiles - t);
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < cols; ++j) {
            multiply_panels(left.panel(row + i), t, right.panel(col + j) + t * 2 * kTileElements, count,
                            sums + i * kPanel * ld + j * kPanel, ld, t > 0);
          }
        }
      }
      finish(sums, ld, std::min(rows * kPanel, m - row * kPanel), std::min(cols * kPanel, n - col * kPanel),
             c.at(row * kPanel, col * kPanel), alpha, beta, bias.from(col * kPanel));
    }
  });
}

/// Asks the system for the tile registers, which Linux gives to a process on request only.
bool request_tiles() {
  if (instruction_limit() != InstructionLimit::None) return false;
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool bf16 = (d >> 22U & 1U) != 0;
  const bool tiles = (d >> 24U & 1U) != 0;
  const bool vectors = __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  return bf16 && tiles && vectors && ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

std::string_view amx_refusal(const GemmArgs& p) {
  static const bool available = request_tiles();
  if (!available) return "this processor has no tile unit";
  return p.a.dtype == DType::BF16 && p.b.dtype == DType::BF16 ? "" : "takes bf16 only";
}

namespace {

/// Panels of rows of the left operand that are multiplied at once: all, if they need no packing.
std::int64_t left_panels(const GemmArgs& p) {
  return panels_in_place(p.a, p.m, p.k) > 0 ? ceil_div(p.m, kPanel) : packed_panels(p.m, p.k);
}

}  // namespace

void amx(const GemmArgs& p, Workspace memory) {
  const std::int64_t row_panels = left_panels(p);
  const std::int64_t col_panels = packed_panels(p.n, p.k);
  const Packed right(col_panels, p.k, memory);
  const Packed left_packed(row_panels - panels_in_place(p.a, std::min(row_panels * kPanel, p.m), p.k), p.k,
                           memory);
  const TaskShape shape(row_panels, col_panels, p.k);
  WorkspaceSlots sums(memory, concurrent_bodies(shape.tasks(row_panels, col_panels), 1),
                      static_cast<std::size_t>(shape.elements()) * sizeof(float));
  if (memory.measuring()) return;
  for (std::int64_t i = 0; i < p.m; i += row_panels * kPanel) {
    const std::int64_t rows = std::min(row_panels * kPanel, p.m - i);
    const Left left(p.a.at(i, 0), rows, p.k, left_packed);
    for (std::int64_t j = 0; j < p.n; j += col_panels * kPanel) {
      const std::int64_t cols = std::min(col_panels * kPanel, p.n - j);
      pack(j == 0 ? &left : nullptr, p.b.at(0, j), p.k, cols, right);
      multiply_packed(left, right, shape, sums, rows, cols, p.c.at(i, j), p.alpha, p.beta, p.bias.from(j));
    }
  }
}

}  // namespace candela::gemm_detail

#else

namespace candela::gemm_detail {

std::string_view amx_refusal(const GemmArgs&) {
  return "this build has no tile unit";
}

void amx(const GemmArgs&, Workspace) {}

}  // namespace candela::gemm_detail

#endif
