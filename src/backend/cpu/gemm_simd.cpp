#include <algorithm>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/simd_targets.h"
#include "backend/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_simd.cpp"
#include <hwy/cache_control.h>
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

/// R rows of x times 4 rows of w: each vector of w is loaded and converted once.
template <int R, class W>
HWY_INLINE void dot_4(const float* HWY_RESTRICT x, std::int64_t k, const W* HWY_RESTRICT w, std::int64_t ld,
                      float* out, std::int64_t out_ld) {
  const std::int64_t step = lanes();
  Vec sums[R][4];
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < 4; ++j) sums[r][j] = splat(0.0F);
  }
  std::int64_t p = 0;
  for (; p + step <= k; p += step) {
    Vec columns[4];
    for (int j = 0; j < 4; ++j) {
      columns[j] = load(w + j * ld + p);
      // Rows are too short for the hardware's prefetcher to get going: ask for the same place four rows on.
      hwy::Prefetch(w + (j + 4) * ld + p);
    }
    for (int r = 0; r < R; ++r) {
      const Vec row = load(x + r * k + p);
      for (int j = 0; j < 4; ++j) sums[r][j] = hn::MulAdd(row, columns[j], sums[r][j]);
    }
  }
  if (p < k) {
    const std::int64_t rest = k - p;
    Vec columns[4];
    for (int j = 0; j < 4; ++j) columns[j] = load_some(w + j * ld + p, rest);
    for (int r = 0; r < R; ++r) {
      const Vec row = load_some(x + r * k + p, rest);
      for (int j = 0; j < 4; ++j) sums[r][j] = hn::MulAdd(row, columns[j], sums[r][j]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < 4; ++j) out[r * out_ld + j] = sum_lanes(sums[r][j]);
  }
}

template <class W>
HWY_INLINE void dot_1(const float* x, std::int64_t k, const W* w, float* out) {
  const std::int64_t step = lanes();
  Vec sum = splat(0.0F);
  std::int64_t p = 0;
  for (; p + step <= k; p += step) sum = hn::MulAdd(load(x + p), load(w + p), sum);
  if (p < k) {
    const std::int64_t rest = k - p;
    sum = hn::MulAdd(load_some(x + p, rest), load_some(w + p, rest), sum);
  }
  *out = sum_lanes(sum);
}

/// Columns [begin, end) of the narrow product.
template <class W>
void narrow_columns(const float* x, std::int64_t m, std::int64_t k, const W* w, std::int64_t ld,
                    std::int64_t begin, std::int64_t end, float* out, std::int64_t out_ld) {
  std::int64_t j = begin;
  for (; j + 4 <= end; j += 4) {
    std::int64_t i = 0;
    for (; i + 4 <= m; i += 4) dot_4<4>(x + i * k, k, w + j * ld, ld, out + i * out_ld + j, out_ld);
    for (; i + 2 <= m; i += 2) dot_4<2>(x + i * k, k, w + j * ld, ld, out + i * out_ld + j, out_ld);
    if (i < m) dot_4<1>(x + i * k, k, w + j * ld, ld, out + i * out_ld + j, out_ld);
  }
  for (; j < end; ++j) {
    for (std::int64_t i = 0; i < m; ++i) dot_1(x + i * k, k, w + j * ld, out + i * out_ld + j);
  }
}

void narrow_range(const float* x, std::int64_t m, std::int64_t k, const Matrix& w, std::int64_t begin,
                  std::int64_t end, float* out, std::int64_t out_ld) {
  dispatch_floating(w.dtype, "matmul", [&]<class W>() {
    narrow_columns(x, m, k, static_cast<const W*>(w.data), w.row_stride, begin, end, out, out_ld);
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
  // Ranges are cut at multiples of 4 columns so that the result does not depend on the number of threads.
  const std::int64_t groups = (n + 3) / 4;
  parallel_for(groups, std::max<std::int64_t>(1, kGrain / (4 * std::max<std::int64_t>(k, 1))),
               [&](std::int64_t begin, std::int64_t end) {
                 HWY_DYNAMIC_DISPATCH(narrow_range)(x, m, k, w, begin * 4, std::min(n, end * 4), product, n);
               });
}

}  // namespace candela::gemm_detail
#endif
