#include <algorithm>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/simd_targets.h"
#include "backend/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {

template <class T>
void convert_row(const T* from, float* to, std::int64_t count) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= count; i += step) store(load(from + i), to + i);
  if (i < count) store_some(load_some(from + i, count - i), to + i, count - i);
}

void row_to_f32(const void* from, DType dtype, float* to, std::int64_t count) {
  dispatch_floating(dtype, "matmul", [&]<class T>() { convert_row(static_cast<const T*>(from), to, count); });
}

/// c[j] = alpha product[j] + beta c[j] + bias[j] for one row; null product or bias count as zero.
template <class C, class B>
void finish_row(const float* product, C* c, const B* bias, std::int64_t count, float alpha, float beta) {
  const std::int64_t step = lanes();
  const Vec scale = splat(alpha);
  const Vec keep = splat(beta);
  for (std::int64_t j = 0; j < count; j += step) {
    const bool whole = j + step <= count;
    const std::int64_t rest = count - j;
    Vec value = splat(0.0F);
    if (product != nullptr) value = hn::Mul(scale, whole ? load(product + j) : load_some(product + j, rest));
    if (beta != 0) value = hn::MulAdd(keep, whole ? load(c + j) : load_some(c + j, rest), value);
    if (bias != nullptr) value = hn::Add(value, whole ? load(bias + j) : load_some(bias + j, rest));
    if (whole) {
      store(value, c + j);
    } else {
      store_some(value, c + j, rest);
    }
  }
}

void finish_rows(const float* product, void* c, DType c_dtype, const void* bias, DType bias_dtype,
                 std::int64_t count, float alpha, float beta) {
  dispatch_floating(c_dtype, "matmul", [&]<class C>() {
    dispatch_floating(bias_dtype, "matmul", [&]<class B>() {
      finish_row(product, static_cast<C*>(c), static_cast<const B*>(bias), count, alpha, beta);
    });
  });
}

/// R rows of x (in the order of W's pairs, padded with zeros, `x_ld` apart) times C rows of w: each vector of
/// w is loaded and converted once.
template <int R, int C, class W>
HWY_INLINE void dots(const float* HWY_RESTRICT x, std::int64_t x_ld, std::int64_t k, const W* HWY_RESTRICT w,
                     std::int64_t ld, float* out, std::int64_t out_ld) {
  Vec sums[R][C];
  Vec more[R][C];  // a second set of sums, so that one product need not wait for the last
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < C; ++j) sums[r][j] = more[r][j] = splat(0.0F);
  }
  each_two(k, [&](std::int64_t p, auto extent) HWY_ATTR {
    Two columns[C];
    for (int j = 0; j < C; ++j) {
      columns[j] = take2(w + j * ld + p, extent);
      // Rows are too short for the hardware's prefetcher to get going: ask for the same place some rows on.
      ask_for(w + (j + 2 * C) * ld + p);
    }
    for (int r = 0; r < R; ++r) {
      const Two row = load2(x + r * x_ld + p);
      for (int j = 0; j < C; ++j) {
        sums[r][j] = hn::MulAdd(row.a, columns[j].a, sums[r][j]);
        Vec& other = R > 2 ? sums[r][j] : more[r][j];
        other = hn::MulAdd(row.b, columns[j].b, other);
      }
    }
  });
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < C; ++j) out[r * out_ld + j] = sum_lanes(hn::Add(sums[r][j], more[r][j]));
  }
}

template <int R, int C, class W>
HWY_INLINE void dots_of_rows(const float* x, std::int64_t x_ld, std::int64_t k, const W* w, std::int64_t ld,
                             std::int64_t begin, std::int64_t end, float* out, std::int64_t out_ld) {
  std::int64_t j = begin;
  for (; j + C <= end; j += C) dots<R, C>(x, x_ld, k, w + j * ld, ld, out + j, out_ld);
  for (; j < end; ++j) dots<R, 1>(x, x_ld, k, w + j * ld, ld, out + j, out_ld);
}

/// Columns [begin, end) of the narrow product. At most four rows of x share a reading of w.
template <class W>
void narrow_columns(const float* x, std::int64_t x_ld, std::int64_t m, std::int64_t k, const W* w,
                    std::int64_t ld, std::int64_t begin, std::int64_t end, float* out, std::int64_t out_ld) {
  // A few rows of w at a time, so that they are still in the cache for the next rows of x.
  constexpr std::int64_t kRows = 8;
  for (std::int64_t first = begin; first<end; first += m> 4 ? kRows : end - begin) {
    const std::int64_t last = m > 4 ? std::min(end, first + kRows) : end;
    std::int64_t i = 0;
    for (; i + 4 <= m; i += 4) {
      dots_of_rows<4, 4>(x + i * x_ld, x_ld, k, w, ld, first, last, out + i * out_ld, out_ld);
    }
    const float* rest = x + i * x_ld;
    float* to = out + i * out_ld;
    if (m - i == 3) dots_of_rows<3, 4>(rest, x_ld, k, w, ld, first, last, to, out_ld);
    if (m - i == 2) dots_of_rows<2, 4>(rest, x_ld, k, w, ld, first, last, to, out_ld);
    if (m - i == 1) dots_of_rows<1, 2>(rest, x_ld, k, w, ld, first, last, to, out_ld);
  }
}

void narrow_range(const float* x, std::int64_t x_ld, std::int64_t m, std::int64_t k, const Matrix& w,
                  std::int64_t begin, std::int64_t end, float* out, std::int64_t out_ld) {
  dispatch_floating(w.dtype, "matmul", [&]<class W>() {
    narrow_columns(x, x_ld, m, k, static_cast<const W*>(w.data), w.row_stride, begin, end, out, out_ld);
  });
}

void order_rows(DType dtype, const float* x, std::int64_t m, std::int64_t k, float* out,
                std::int64_t out_ld) {
  dispatch_floating(dtype, "matmul", [&]<class W>() {
    for (std::int64_t i = 0; i < m; ++i) to_order<W>(x + i * k, out + i * out_ld, k, 0);
  });
}

}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela::gemm_detail {
namespace {

HWY_EXPORT(row_to_f32);
HWY_EXPORT(finish_rows);
HWY_EXPORT(narrow_range);
HWY_EXPORT(order_rows);

/// Elements below which a second thread is not worth waking.
constexpr std::int64_t kGrain = 1 << 14;

std::int64_t rows_grain(std::int64_t cols) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(cols, 1));
}

}  // namespace

void finish(const float* product, std::int64_t ld, std::int64_t m, std::int64_t n, const Matrix& c,
            double alpha, double beta, const RowBias& bias) {
  const auto scale = static_cast<float>(alpha);
  const auto keep = static_cast<float>(beta);
  const bool unit = (c.col_stride == 1 || n == 1) && (bias.stride == 1 || n == 1);
  if (unit) {
    parallel_for(m, rows_grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        HWY_DYNAMIC_DISPATCH(finish_rows)
        (product == nullptr ? nullptr : product + i * ld, c.at(i, 0).data, c.dtype, bias.data, bias.dtype, n,
         scale, keep);
      }
    });
    return;
  }
  dispatch_floating(c.dtype, "matmul", [&]<class C>() {
    dispatch_floating(bias.dtype, "matmul", [&]<class B>() {
      auto* out = static_cast<C*>(c.data);
      const auto* added = static_cast<const B*>(bias.data);
      parallel_for(m, rows_grain(n), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            C& target = out[i * c.row_stride + j * c.col_stride];
            float value = product == nullptr ? 0 : scale * product[i * ld + j];
            if (keep != 0) value += keep * convert<float>(target);
            if (added != nullptr) value += convert<float>(added[j * bias.stride]);
            target = convert<C>(value);
          }
        }
      });
    });
  });
}

Matrix pack_f32(const Matrix& x, std::int64_t rows, std::int64_t cols, float* to) {
  if (x.col_stride != 1 && x.row_stride == 1 && rows > 1)
    return pack_f32(x.transposed(), cols, rows, to).transposed();
  parallel_for(rows, rows_grain(cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (x.col_stride == 1 || cols == 1) {
        HWY_DYNAMIC_DISPATCH(row_to_f32)(x.at(i, 0).data, x.dtype, to + i * cols, cols);
        continue;
      }
      dispatch_floating(x.dtype, "matmul", [&]<class T>() {
        const auto* from = static_cast<const T*>(x.at(i, 0).data);
        for (std::int64_t j = 0; j < cols; ++j) to[i * cols + j] = convert<float>(from[j * x.col_stride]);
      });
    }
  });
  return {to, DType::F32, cols, 1};
}

void narrow_product(const float* x, std::int64_t m, std::int64_t k, const Matrix& w, std::int64_t n,
                    float* product) {
  constexpr std::int64_t kPair = 128;  // floats: no machine's pair of vectors is longer
  const std::int64_t x_ld = (k + kPair - 1) / kPair * kPair;
  const Scratch<float> ordered(m * x_ld);
  HWY_DYNAMIC_DISPATCH(order_rows)(w.dtype, x, m, k, ordered.data(), x_ld);
  // Ranges are cut at multiples of 8 columns so that the result does not depend on the number of threads.
  constexpr std::int64_t kGroup = 8;
  const std::int64_t groups = (n + kGroup - 1) / kGroup;
  parallel_for(groups, std::max<std::int64_t>(1, kGrain / (kGroup * std::max<std::int64_t>(k, 1))),
               [&](std::int64_t begin, std::int64_t end) {
                 HWY_DYNAMIC_DISPATCH(narrow_range)
                 (ordered.data(), x_ld, m, k, w, begin * kGroup, std::min(n, end * kGroup), product, n);
               });
}

}  // namespace candela::gemm_detail
#endif
