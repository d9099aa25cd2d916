#include <algorithm>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/simd_targets.h"
#include "backend/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {

namespace {

/// Elements below which a second thread is not worth waking.
constexpr std::int64_t kGrain = 1 << 14;

std::int64_t rows_grain(std::int64_t cols) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(cols, 1));
}

/// c[j] = alpha product[j] + beta c[j] + bias[j] for one row; null product or bias count as zero.
template <class C, class B>
void finish_row(const float* product, C* c, const B* bias, std::int64_t count, float alpha, float beta) {
  const std::int64_t step = lanes();
  const Vec scale = splat(alpha);
  const Vec keep = splat(beta);
  for (std::int64_t j = 0; j < count; j += step) {
    const bool whole = j + step <= count;
    const std::int64_t left = count - j;
    Vec value = splat(0.0F);
    if (product != nullptr) value = hn::Mul(scale, whole ? load(product + j) : load_some(product + j, left));
    if (beta != 0) value = hn::MulAdd(keep, whole ? load(c + j) : load_some(c + j, left), value);
    if (bias != nullptr) value = hn::Add(value, whole ? load(bias + j) : load_some(bias + j, left));
    if (whole) {
      store(value, c + j);
    } else {
      store_some(value, c + j, left);
    }
  }
}

/// finish() for elements of C and a bias of B.
template <class C, class B>
void finish_as(const float* product, std::int64_t ld, std::int64_t m, std::int64_t n, const Matrix& c,
               float alpha, float beta, const RowBias& bias) {
  const bool unit = (c.col_stride == 1 || n == 1) && (bias.stride == 1 || n == 1);
  const auto* added = static_cast<const B*>(bias.data);
  parallel_for(m, rows_grain(n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      C* row = static_cast<C*>(c.at(i, 0).data);
      const float* sums = product == nullptr ? nullptr : product + i * ld;
      if (unit) {
        finish_row(sums, row, added, n, alpha, beta);
        continue;
      }
      for (std::int64_t j = 0; j < n; ++j) {
        C& target = row[j * c.col_stride];
        float value = sums == nullptr ? 0 : alpha * sums[j];
        if (beta != 0) value += beta * convert<float>(target);
        if (added != nullptr) value += convert<float>(added[j * bias.stride]);
        target = convert<C>(value);
      }
    }
  });
}

void finish(const float* product, std::int64_t ld, std::int64_t m, std::int64_t n, const Matrix& c,
            double alpha, double beta, const RowBias& bias) {
  dispatch_floating(c.dtype, "matmul", [&]<class C>() {
    dispatch_floating(bias.dtype, "matmul", [&]<class B>() {
      finish_as<C, B>(product, ld, m, n, c, static_cast<float>(alpha), static_cast<float>(beta), bias);
    });
  });
}

/// `x` [rows, cols] as rows of floats in `to`.
void pack_rows(const Matrix& x, std::int64_t rows, std::int64_t cols, float* to) {
  dispatch_floating(x.dtype, "matmul", [&]<class T>() {
    parallel_for(rows, rows_grain(cols), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* from = static_cast<const T*>(x.at(i, 0).data);
        if (x.col_stride == 1 || cols == 1) {
          convert_span(from, to + i * cols, cols);
        } else {
          read_floats(from, x.col_stride, cols, to + i * cols);
        }
      }
    });
  });
}

/// Bytes that w is prefetched ahead, across the ends of rows. The hardware's prefetchers stop at the ends of
/// pages, and one core then has too few reads under way to keep its share of memory busy.
constexpr std::int64_t kAhead = 4096;

/// R rows of x, `x_ld` apart, times one row of w: each vector of w is loaded and converted once. x is of w's
/// type, or f32 in the order of its pairs and padded with zeros to whole ones.
template <int R, class X, class W>
HWY_INLINE void dots(const X* HWY_RESTRICT x, std::int64_t x_ld, std::int64_t k, const W* HWY_RESTRICT w,
                     float* out, std::int64_t out_ld) {
  Vec sums[R];
  Vec more[R];  // a second set of sums, so that one product need not wait for the last
  for (int r = 0; r < R; ++r) sums[r] = more[r] = splat(0.0F);
  each_pair(k, [&](std::int64_t p, auto extent) HWY_ATTR {
    prefetch(w + p + kAhead / static_cast<std::int64_t>(sizeof(W)));
    const VecPair column = take2(w + p, extent);
    for (int r = 0; r < R; ++r) {
      VecPair row;
      if constexpr (std::is_same_v<X, W>) {
        row = take2(x + r * x_ld + p, extent);
      } else {
        row = load2(x + r * x_ld + p);
      }
      sums[r] = hn::MulAdd(row.a, column.a, sums[r]);
      more[r] = hn::MulAdd(row.b, column.b, more[r]);
    }
  });
  for (int r = 0; r < R; ++r) out[r * out_ld] = sum_lanes(hn::Add(sums[r], more[r]));
}

/// Columns [begin, end) of the narrow product. At most four rows of x share a reading of w, which goes
/// through its rows one after the other: one stream per thread, which the hardware fetches ahead as fast as
/// memory allows. VecPair rows side by side get two thirds of that.
template <class X, class W>
void narrow_columns(const X* x, std::int64_t x_ld, std::int64_t m, std::int64_t k, const W* w,
                    std::int64_t ld, std::int64_t begin, std::int64_t end, float* out, std::int64_t out_ld) {
  for (std::int64_t j = begin; j < end; ++j) {
    const W* column = w + j * ld;
    std::int64_t i = 0;
    for (; i + 4 <= m; i += 4) dots<4>(x + i * x_ld, x_ld, k, column, out + i * out_ld + j, out_ld);
    const X* remaining = x + i * x_ld;
    float* to = out + i * out_ld + j;
    if (m - i == 3) dots<3>(remaining, x_ld, k, column, to, out_ld);
    if (m - i == 2) dots<2>(remaining, x_ld, k, column, to, out_ld);
    if (m - i == 1) dots<1>(remaining, x_ld, k, column, to, out_ld);
  }
}

/// product [m, n] = rows (x_ld apart) times the transpose of w.
template <class X, class W>
void multiply_rows(const X* rows, std::int64_t x_ld, std::int64_t m, std::int64_t k, const Matrix& w,
                   std::int64_t n, float* product) {
  parallel_for(n, rows_grain(k), [&](std::int64_t begin, std::int64_t end) {
    narrow_columns(rows, x_ld, m, k, static_cast<const W*>(w.data), w.row_stride, begin, end, product, n);
  });
}

void narrow_product(const Matrix& x, std::int64_t m, std::int64_t k, const Matrix& w, std::int64_t n,
                    float* ordered, float* product) {
  dispatch_floating(w.dtype, "matmul", [&]<class W>() {
    if (x.dtype == w.dtype) {
      multiply_rows<W, W>(static_cast<const W*>(x.data), x.row_stride, m, k, w, n, product);
      return;
    }
    const std::int64_t ld = padded(k);
    for (std::int64_t i = 0; i < m; ++i)
      to_order<W>(static_cast<const float*>(x.at(i, 0).data), ordered + i * ld, k, 0);
    multiply_rows<float, W>(ordered, ld, m, k, w, n, product);
  });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela::gemm_detail {
namespace {

HWY_EXPORT(finish);
HWY_EXPORT(pack_rows);
HWY_EXPORT(narrow_product);

}  // namespace

void finish(const float* product, std::int64_t ld, std::int64_t m, std::int64_t n, const Matrix& c,
            double alpha, double beta, const RowBias& bias) {
  HWY_DYNAMIC_DISPATCH(finish)(product, ld, m, n, c, alpha, beta, bias);
}

Matrix pack_f32(const Matrix& x, std::int64_t rows, std::int64_t cols, float* to) {
  if (x.col_stride != 1 && x.row_stride == 1 && rows > 1)
    return pack_f32(x.transposed(), cols, rows, to).transposed();
  HWY_DYNAMIC_DISPATCH(pack_rows)(x, rows, cols, to);
  return {to, DType::F32, cols, 1};
}

std::int64_t narrow_product_elements(DType x, std::int64_t m, std::int64_t k, DType w) {
  return x == w ? 0 : m * padded(k);
}

void narrow_product(const Matrix& x, std::int64_t m, std::int64_t k, const Matrix& w, std::int64_t n,
                    float* ordered, float* product) {
  HWY_DYNAMIC_DISPATCH(narrow_product)(x, m, k, w, n, ordered, product);
}

}  // namespace candela::gemm_detail
#endif
