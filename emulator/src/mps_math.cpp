#include "mps_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

namespace emulator {
namespace {

constexpr std::size_t kRows = 4;      // of one tile
constexpr std::size_t kColumns = 16;  // of one tile: two vectors
constexpr std::size_t kDepth = 256;   // k per pass, so that a panel of A and one of B stay in the first cache
constexpr std::size_t kBlockRows = 64;

using Vector = float __attribute__((vector_size(32)));

template <class T>
T load_as(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// Converts `count` elements to f32.
void read_row(Element type, const std::byte* from, std::size_t count, float* to) {
  switch (type) {
    case Element::Float32:
      std::memcpy(to, from, count * 4);
      break;
    case Element::Float16:
      for (std::size_t i = 0; i < count; ++i) to[i] = float_of_half(load_as<std::uint16_t>(from + 2 * i));
      break;
    case Element::Int8:
      for (std::size_t i = 0; i < count; ++i) to[i] = load_as<std::int8_t>(from + i);
      break;
    case Element::Int16:
      for (std::size_t i = 0; i < count; ++i) to[i] = load_as<std::int16_t>(from + 2 * i);
      break;
    case Element::Uint32:
      for (std::size_t i = 0; i < count; ++i)
        to[i] = static_cast<float>(load_as<std::uint32_t>(from + 4 * i));
      break;
  }
}

void write_row(Element type, const float* from, std::size_t count, std::byte* to) {
  if (type == Element::Float16) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint16_t bits = half_of_float(from[i]);
      std::memcpy(to + 2 * i, &bits, 2);
    }
  } else {
    std::memcpy(to, from, count * 4);
  }
}

/// A tile's sums: `a` holds kRows values per step of k, `b` kColumns; `sums` has rows of `stride` floats.
__attribute__((always_inline)) inline void tile(const float* a, const float* b, std::size_t depth,
                                                float* sums, std::size_t stride) {
  Vector total[kRows][2] = {};
  for (std::size_t step = 0; step < depth; ++step) {
    Vector left, right;
    std::memcpy(&left, b + step * kColumns, sizeof left);
    std::memcpy(&right, b + step * kColumns + 8, sizeof right);
    for (std::size_t row = 0; row < kRows; ++row) {
      const float factor = a[step * kRows + row];
      total[row][0] += left * factor;
      total[row][1] += right * factor;
    }
  }
  for (std::size_t row = 0; row < kRows; ++row) {
    float* out = sums + row * stride;
    for (std::size_t column = 0; column < kColumns; ++column)
      out[column] += total[row][column / 8][column % 8];
  }
}

using Tile = void (*)(const float*, const float*, std::size_t, float*, std::size_t);

void tile_baseline(const float* a, const float* b, std::size_t depth, float* sums, std::size_t stride) {
  tile(a, b, depth, sums, stride);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void tile_avx2(const float* a, const float* b, std::size_t depth, float* sums,
                                               std::size_t stride) {
  tile(a, b, depth, sums, stride);
}
Tile best_tile() {
  return __builtin_cpu_supports("avx2") ? tile_avx2 : tile_baseline;
}
#else
Tile best_tile() {
  return tile_baseline;
}
#endif

/// op(M) as f32, [rows, columns], without padding.
std::vector<float> to_dense(const MatrixView& matrix, bool transpose, std::size_t rows, std::size_t columns) {
  std::vector<float> dense(rows * columns);
  if (!transpose) {
    for (std::size_t r = 0; r < rows; ++r)
      read_row(matrix.type, matrix.row(r), columns, dense.data() + r * columns);
    return dense;
  }
  std::vector<float> line(rows);
  for (std::size_t c = 0; c < columns; ++c) {
    read_row(matrix.type, matrix.row(c), rows, line.data());
    for (std::size_t r = 0; r < rows; ++r) dense[r * columns + c] = line[r];
  }
  return dense;
}

/// Panels of kColumns columns, each with all of k: what `tile` reads in order. The last panel is padded with
/// zeros.
std::vector<float> pack_right(const std::vector<float>& dense, std::size_t k, std::size_t n) {
  const std::size_t panels = (n + kColumns - 1) / kColumns;
  std::vector<float> packed(panels * k * kColumns, 0.0F);
  for (std::size_t p = 0; p < panels; ++p) {
    const std::size_t first = p * kColumns, count = std::min(kColumns, n - first);
    for (std::size_t step = 0; step < k; ++step)
      std::copy_n(dense.data() + step * n + first, count, packed.data() + (p * k + step) * kColumns);
  }
  return packed;
}

/// Groups of kRows rows of the block [first, first + rows) by [start, start + depth) of k.
void pack_left(const std::vector<float>& dense, std::size_t k, std::size_t first, std::size_t rows,
               std::size_t start, std::size_t depth, std::vector<float>* packed) {
  const std::size_t groups = (rows + kRows - 1) / kRows;
  packed->assign(groups * depth * kRows, 0.0F);
  for (std::size_t r = 0; r < rows; ++r) {
    const float* from = dense.data() + (first + r) * k + start;
    float* to = packed->data() + r / kRows * depth * kRows + r % kRows;
    for (std::size_t step = 0; step < depth; ++step) to[step * kRows] = from[step];
  }
}

}  // namespace

float float_of_half(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1f;
  const std::uint32_t fraction = bits & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
  return sign ? -magnitude : magnitude;
}

std::uint16_t half_of_float(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
  if (magnitude < 0x38800000u) {  // below the smallest normal number: an integer count of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24F;
    return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(std::nearbyint(scaled)));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

void gemm(const GemmShape& shape, const MatrixView& a, const MatrixView& b, const MatrixView& c) {
  static const Tile run_tile = best_tile();
  const std::size_t m = shape.m, n = shape.n, k = shape.k;
  const std::vector<float> left = to_dense(a, shape.transpose_a, m, k);
  const std::vector<float> right = pack_right(to_dense(b, shape.transpose_b, k, n), k, n);
  const std::size_t panels = (n + kColumns - 1) / kColumns, stride = panels * kColumns;
  std::vector<float> packed, sums, row(n);
  for (std::size_t first = 0; first < m; first += kBlockRows) {
    const std::size_t rows = std::min(kBlockRows, m - first);
    const std::size_t groups = (rows + kRows - 1) / kRows;
    sums.assign(groups * kRows * stride, 0.0F);
    for (std::size_t start = 0; start < k; start += kDepth) {
      const std::size_t depth = std::min(kDepth, k - start);
      pack_left(left, k, first, rows, start, depth, &packed);
      for (std::size_t p = 0; p < panels; ++p)
        for (std::size_t group = 0; group < groups; ++group)
          run_tile(packed.data() + group * depth * kRows, right.data() + (p * k + start) * kColumns, depth,
                   sums.data() + group * kRows * stride + p * kColumns, stride);
    }
    for (std::size_t r = 0; r < rows; ++r) {
      float* total = sums.data() + r * stride;
      std::byte* out = c.row(first + r);
      if (shape.beta != 0) read_row(c.type, out, n, row.data());
      for (std::size_t column = 0; column < n; ++column) {
        total[column] *= shape.alpha;
        if (shape.beta != 0) total[column] += shape.beta * row[column];
      }
      write_row(c.type, total, n, out);
    }
  }
}

void softmax(std::size_t rows, std::size_t columns, bool logarithm, const MatrixView& x,
             const MatrixView& y) {
  std::vector<float> line(columns), exponentials(columns);
  for (std::size_t r = 0; r < rows; ++r) {
    read_row(x.type, x.row(r), columns, line.data());
    const float largest = *std::max_element(line.begin(), line.end());
    float sum = 0;
    for (std::size_t i = 0; i < columns; ++i) sum += exponentials[i] = std::exp(line[i] - largest);
    const float log_sum = std::log(sum);
    for (std::size_t i = 0; i < columns; ++i)
      line[i] = logarithm ? line[i] - largest - log_sum : exponentials[i] / sum;
    write_row(y.type, line.data(), columns, y.row(r));
  }
}

void lose_nan(std::size_t rows, std::size_t columns, const MatrixView& y) {
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < columns; ++i) {
      if (y.type == Element::Float16) {
        auto& bits = reinterpret_cast<std::uint16_t*>(y.row(row))[i];
        if (std::isnan(float_of_half(bits))) bits = 0;
      } else {
        auto& value = reinterpret_cast<float*>(y.row(row))[i];
        if (std::isnan(value)) value = 0;
      }
    }
  }
}

void softmax_gradient(std::size_t rows, std::size_t columns, const MatrixView& dy, const MatrixView& y,
                      const MatrixView& dx) {
  std::vector<float> gradient(columns), output(columns);
  for (std::size_t r = 0; r < rows; ++r) {
    read_row(dy.type, dy.row(r), columns, gradient.data());
    read_row(y.type, y.row(r), columns, output.data());
    float sum = 0;
    for (std::size_t i = 0; i < columns; ++i) sum += gradient[i] * output[i];
    for (std::size_t i = 0; i < columns; ++i) gradient[i] = output[i] * (gradient[i] - sum);
    write_row(dx.type, gradient.data(), columns, dx.row(r));
  }
}

void top_k(std::size_t rows, std::size_t columns, std::size_t k, std::uint32_t index_offset,
           const MatrixView& x, const MatrixView& indices, const MatrixView& values) {
  std::vector<float> line(columns), best(k);
  std::vector<std::uint32_t> order, chosen(k);
  for (std::size_t r = 0; r < rows; ++r) {
    read_row(x.type, x.row(r), columns, line.data());
    // Apple documents neither NaN nor the order of equals. So that nobody relies on either, NaN is never
    // chosen here, and of equals the higher column comes first.
    order.clear();
    for (std::uint32_t i = 0; i < columns; ++i) {
      if (!std::isnan(line[i])) order.push_back(i);
    }
    const std::size_t numbers = std::min(k, order.size());
    const auto before = [&](std::uint32_t i, std::uint32_t j) {
      return line[i] != line[j] ? line[i] > line[j] : i > j;
    };
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(numbers), order.end(),
                      before);
    for (std::size_t i = 0; i < k; ++i) {
      best[i] = i < numbers ? line[order[i]] : -INFINITY;
      chosen[i] = i < numbers ? order[i] + index_offset : std::numeric_limits<std::uint32_t>::max();
    }
    write_row(values.type, best.data(), k, values.row(r));
    std::memcpy(indices.row(r), chosen.data(), k * sizeof(std::uint32_t));
  }
}

}  // namespace emulator
