#include <algorithm>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/gemm.h"
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

/// R rows of x, `x_ld` apart, times one row of w: each vector of w is loaded and converted once. x is of w's
/// type, or f32 in the order of its pairs and padded with zeros to whole ones.
template <int R, class X, class W>
HWY_INLINE void dots(const X* HWY_RESTRICT x, std::int64_t x_ld, std::int64_t k, const W* HWY_RESTRICT w,
                     float* out, std::int64_t out_ld) {
  Vec sums[R];
  Vec more[R];  // a second set of sums, so that one product need not wait for the last
  for (int r = 0; r < R; ++r) sums[r] = more[r] = splat(0.0F);
  each_two(k, [&](std::int64_t p, auto extent) HWY_ATTR {
    const Two column = take2(w + p, extent);
    for (int r = 0; r < R; ++r) {
      Two row;
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
/// memory allows. Two rows side by side get two thirds of that.
template <class X, class W>
void narrow_columns(const X* x, std::int64_t x_ld, std::int64_t m, std::int64_t k, const W* w,
                    std::int64_t ld, std::int64_t begin, std::int64_t end, float* out, std::int64_t out_ld) {
  for (std::int64_t j = begin; j < end; ++j) {
    const W* column = w + j * ld;
    std::int64_t i = 0;
    for (; i + 4 <= m; i += 4) dots<4>(x + i * x_ld, x_ld, k, column, out + i * out_ld + j, out_ld);
    const X* rest = x + i * x_ld;
    float* to = out + i * out_ld + j;
    if (m - i == 3) dots<3>(rest, x_ld, k, column, to, out_ld);
    if (m - i == 2) dots<2>(rest, x_ld, k, column, to, out_ld);
    if (m - i == 1) dots<1>(rest, x_ld, k, column, to, out_ld);
  }
}

void narrow_range(const Matrix& x, std::int64_t m, std::int64_t k, const Matrix& w, std::int64_t begin,
                  std::int64_t end, float* out, std::int64_t out_ld) {
  dispatch_floating(w.dtype, "matmul", [&]<class W>() {
    const auto columns = [&](const auto* rows) {
      narrow_columns(rows, x.row_stride, m, k, static_cast<const W*>(w.data), w.row_stride, begin, end, out,
                     out_ld);
    };
    if (x.dtype == w.dtype) {
      columns(static_cast<const W*>(x.data));
    } else {
      columns(static_cast<const float*>(x.data));
    }
  });
}

void order_rows(DType dtype, const Matrix& x, std::int64_t m, std::int64_t k, float* out,
                std::int64_t out_ld) {
  dispatch_floating(dtype, "matmul", [&]<class W>() {
    for (std::int64_t i = 0; i < m; ++i)
      to_order<W>(static_cast<const float*>(x.at(i, 0).data), out + i * out_ld, k, 0);
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

void multiply_narrow(const Matrix& x, std::int64_t m, std::int64_t k, const Matrix& w, std::int64_t n,
                     float* product) {
  parallel_for(n, rows_grain(k), [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(narrow_range)(x, m, k, w, begin, end, product, n);
  });
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

namespace {

/// Elements of a row of k that order_rows writes.
std::int64_t ordered_length(std::int64_t k) {
  constexpr std::int64_t kPair = 128;  // floats: no machine's pair of vectors is longer
  return (k + kPair - 1) / kPair * kPair;
}

}  // namespace

std::int64_t narrow_product_elements(DType x, std::int64_t m, std::int64_t k, DType w) {
  return x == w ? 0 : m * ordered_length(k);
}

void narrow_product(const Matrix& x, std::int64_t m, std::int64_t k, const Matrix& w, std::int64_t n,
                    float* ordered, float* product) {
  if (x.dtype != w.dtype) {
    const std::int64_t ld = ordered_length(k);
    HWY_DYNAMIC_DISPATCH(order_rows)(w.dtype, x, m, k, ordered, ld);
    multiply_narrow({ordered, DType::F32, ld, 1}, m, k, w, n, product);
  } else {
    multiply_narrow(x, m, k, w, n, product);
  }
}

}  // namespace candela::gemm_detail
#endif
