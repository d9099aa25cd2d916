#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "backend/cpu/blocks.h"
#include "backend/cpu/fold.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/norm_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

/// weight or bias [D] as floats plus `offset`; `absent` everywhere if there is none.
std::vector<float> row_vector(const TensorArg& x, std::int64_t length, float absent, double offset = 0) {
  std::vector<float> result(static_cast<std::size_t>(length), absent);
  if (x.present()) {
    dispatch_floating(x.dtype, "norm", [&]<class T>() {
      const float* values = read_floats(x.as<T>(), x.strides[0], length, result.data());
      if (values != result.data()) std::copy(values, values + length, result.data());
    });
  }
  if (offset != 0) {
    for (float& value : result) value += static_cast<float>(offset);
  }
  return result;
}

/// The same in the order in which the loops take elements of T (to_order), padded to whole pairs: x itself
/// where it lies so.
template <class T>
class OrderedVector {
 public:
  OrderedVector(const TensorArg& x, std::int64_t length, float absent, double offset = 0) {
    const bool plain = x.present() && x.dtype == DType::F32 && x.strides[0] == 1 && offset == 0;
    if (std::is_same_v<T, float> && plain && whole_pairs(length) == length) {
      data_ = x.as<float>();
      return;
    }
    values_.resize(static_cast<std::size_t>(padded(length)));
    data_ = values_.data();
    if (plain) {
      to_order<T>(x.as<float>(), values_.data(), length, 0);
    } else {
      to_order<T>(row_vector(x, length, absent, offset).data(), values_.data(), length, 0);
    }
  }
  OrderedVector(const OrderedVector&) = delete;
  OrderedVector& operator=(const OrderedVector&) = delete;
  const float* data() const { return data_; }

 private:
  std::vector<float> values_;
  const float* data_ = nullptr;
};

/// An absent operand takes the layout of `like`, so that it can stand in the list of rows.
TensorArg or_like(const TensorArg& x, const TensorArg& like) {
  return x.present() ? x : like;
}

HWY_INLINE float inverse_root(double mean_square, double eps) {
  return static_cast<float>(1.0 / std::sqrt(mean_square + eps));
}

HWY_INLINE VecPair multiply(VecPair x, VecPair y) {
  return {hn::Mul(x.a, y.a), hn::Mul(x.b, y.b)};
}

/// As a T holds them: the stream that is normed is the one that is kept, so that it can be normed again.
template <class T>
HWY_INLINE VecPair rounded(VecPair v) {
  if constexpr (std::is_same_v<T, float>) {
    return v;
  } else {
    T narrow[2 * kLaneBuffer];
    store2(v, narrow);
    return load2(narrow);
  }
}

template <class T>
struct RmsRow {
  const T *x, *residual;
  T *sum, *out;
};

/// h = x + residual (or x, where `residual` is null), also written to `sum`; out = h rstd weight. Returns
/// rstd. `kept`: padded(count) floats.
template <class T, bool kStream>
float rms_norm_row(const RmsRow<T>& row, const float* weight, float* kept, std::int64_t count, double eps) {
  const T* const x = row.x;
  const T* const residual = row.residual;
  double squares = 0;
  if (residual == nullptr) {
    squares = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
      const VecPair v = take2(x + i, extent);
      return multiply(v, v);
    });
  } else {
    squares = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
      const VecPair v = take2(x + i, extent);
      const VecPair r = take2(residual + i, extent);
      const VecPair h = rounded<T>({hn::Add(v.a, r.a), hn::Add(v.b, r.b)});
      store2(h, kept + i);
      write2<kStream>(h, row.sum + i, extent);
      return multiply(h, h);
    });
  }
  const float rstd = inverse_root(squares / static_cast<double>(count), eps);
  const auto scale = splat(rstd);
  each_pair(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    prefetch(x + count + i);
    if (residual != nullptr) prefetch(residual + count + i);
    const VecPair h = residual == nullptr ? take2(x + i, extent) : load2(kept + i);
    const VecPair w = load2(weight + i);
    write2<kStream>({hn::Mul(hn::Mul(h.a, scale), w.a), hn::Mul(hn::Mul(h.b, scale), w.b)}, row.out + i,
                    extent);
  });
  return rstd;
}

void rms_norm(const RmsNormArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "rms_norm", [&]<class T>() {
    const bool added = args.residual.present();
    const Rows<4> rows({args.x, args.out, or_like(args.residual, args.x), or_like(args.sum, args.x)},
                       args.x.rank - 1);
    const std::int64_t grain = row_grain(rows.length);
    const std::int64_t kept = added ? padded(rows.length) : 0;
    WorkspaceSlots slots(memory, concurrent_bodies(rows.count, grain),
                         static_cast<std::size_t>(kept) * sizeof(float));
    if (memory.measuring()) return;
    const OrderedVector<T> weight(args.weight, rows.length, 1, args.weight_offset);
    const bool unit = rows.strides[1] == 1 && (!added || rows.strides[3] == 1);
    const bool stream = unit && streams_rows(args.out, {args.x, or_like(args.residual, args.x)}) &&
                        (!added || streams_rows(args.sum, {args.x, args.residual}));
    const auto norm_row = stream ? &rms_norm_row<T, true> : &rms_norm_row<T, false>;
    parallel_for(rows.count, grain, [&](std::int64_t begin, std::int64_t end) {
      const StreamFence fence(stream);
      const WorkspaceSlots::Slot slot(slots);
      auto* sums = slot.array<float>(kept);
      RowReader<T> x(rows, 0);
      RowReader<T> residual(rows, 2);
      RowWriter<T> out(rows, 1);
      RowWriter<T> sum(rows, 3);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[4];
        rows.offsets(row, at);
        const RmsRow<T> operands{
            .x = x.read(args.x.as<T>() + at[0]),
            .residual = added ? residual.read(args.residual.as<T>() + at[2]) : nullptr,
            .sum = added ? sum.target(args.sum.as<T>() + at[3]) : nullptr,
            .out = out.target(args.out.as<T>() + at[1]),
        };
        const float rstd = norm_row(operands, weight.data(), sums, rows.length, args.eps);
        out.finish();
        if (added) sum.finish();
        if (args.rstd.present()) args.rstd.as<float>()[row] = rstd;
      }
    });
  });
}

HWY_INLINE VecPair minus(VecPair x, Vec shift) {
  return {hn::Sub(x.a, shift), hn::Sub(x.b, shift)};
}

struct Moments {
  float mean, rstd;
};

/// out = (x - mean) rstd weight + bias. With a mean far from zero, the residual of the mean rounded to f32 is
/// not small against the deviations d = x - mean: it is the mean of d, and is subtracted too.
template <class T, bool kStream>
Moments layer_norm_row(const T* x, T* out, const float* weight, const float* bias, std::int64_t count,
                       double eps) {
  const auto width = static_cast<double>(count);
  const double sum =
      sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR { return take2(x + i, extent); });
  const auto mean = static_cast<float>(sum / width);
  const auto high = splat(mean);
  const auto [deviation, squares] =
      sum_runs<2>(count, [&](std::int64_t i, auto extent, VecPair(&sums)[2]) HWY_ATTR {
        const VecPair d = covered<T>(minus(take2(x + i, extent), high), extent);
        sums[0] = {hn::Add(sums[0].a, d.a), hn::Add(sums[0].b, d.b)};
        sums[1] = {hn::MulAdd(d.a, d.a, sums[1].a), hn::MulAdd(d.b, d.b, sums[1].b)};
      });
  const double low = deviation / width;
  const float rstd = inverse_root(squares / width - low * low, eps);
  const auto scale = splat(rstd);
  const auto residual = splat(static_cast<float>(low));
  each_pair(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    prefetch(x + count + i);
    const VecPair d = minus(minus(take2(x + i, extent), high), residual);
    const VecPair w = load2(weight + i);
    const VecPair b = load2(bias + i);
    write2<kStream>({hn::MulAdd(hn::Mul(d.a, scale), w.a, b.a), hn::MulAdd(hn::Mul(d.b, scale), w.b, b.b)},
                    out + i, extent);
  });
  return {mean, rstd};
}

void layer_norm(const LayerNormArgs& args) {
  dispatch_floating(args.x.dtype, "layer_norm", [&]<class T>() {
    const Rows<2> rows({args.x, args.out}, args.x.rank - 1);
    const OrderedVector<T> weight(args.weight, rows.length, 1);
    const OrderedVector<T> bias(args.bias, rows.length, 0);
    const bool stream = rows.strides[1] == 1 && streams_rows(args.out, {args.x});
    const auto norm_row = stream ? &layer_norm_row<T, true> : &layer_norm_row<T, false>;
    parallel_for(rows.count, row_grain(2 * rows.length), [&](std::int64_t begin, std::int64_t end) {
      const StreamFence fence(stream);
      RowReader<T> x(rows, 0);
      RowWriter<T> out(rows, 1);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[2];
        rows.offsets(row, at);
        const T* from = x.read(args.x.as<T>() + at[0]);
        const Moments moments = norm_row(from, out.target(args.out.as<T>() + at[1]), weight.data(),
                                         bias.data(), rows.length, args.eps);
        out.finish();
        if (args.mean.present()) args.mean.as<float>()[row] = moments.mean;
        if (args.rstd.present()) args.rstd.as<float>()[row] = moments.rstd;
      }
    });
  });
}

template <class T>
struct RmsGradRow {
  const T *h, *dy, *dsum;
  T* dx;
  float rstd;
};

/// dx = rstd (dy weight - h c) + dsum with c = mean(dy weight h) rstd^2; dweight += dy h rstd. `dsum` and
/// `dweight` may be null.
template <class T, bool kStream>
void rms_norm_grad_row(const RmsGradRow<T>& row, const float* weight, float* dweight, std::int64_t count) {
  const T* const h = row.h;
  const T* const dy = row.dy;
  const T* const dsum = row.dsum;
  const auto rstd = splat(row.rstd);
  const double gh = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    return multiply(multiply(take2(dy + i, extent), load2(weight + i)), take2(h + i, extent));
  });
  const auto c = splat(static_cast<float>(gh / static_cast<double>(count)) * row.rstd * row.rstd);
  each_pair(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    prefetch(h + count + i);
    prefetch(dy + count + i);
    const VecPair v = take2(h + i, extent);
    const VecPair d = take2(dy + i, extent);
    const VecPair g = multiply(d, load2(weight + i));
    VecPair slope = {hn::Mul(rstd, hn::NegMulAdd(v.a, c, g.a)), hn::Mul(rstd, hn::NegMulAdd(v.b, c, g.b))};
    if (dsum != nullptr) {
      prefetch(dsum + count + i);
      const VecPair more = take2(dsum + i, extent);
      slope = {hn::Add(slope.a, more.a), hn::Add(slope.b, more.b)};
    }
    if (dweight != nullptr) {
      const VecPair total = load2(dweight + i);
      store2({hn::MulAdd(hn::Mul(d.a, v.a), rstd, total.a), hn::MulAdd(hn::Mul(d.b, v.b), rstd, total.b)},
             dweight + i);
    }
    write2<kStream>(slope, row.dx + i, extent);
  });
}

template <class T>
struct LayerGradRow {
  const T *x, *dy;
  T* dx;
  Moments moments;
};

/// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)); dweight += dy n, dbias
/// += dy (either may be null).
template <class T, bool kStream>
void layer_norm_grad_row(const LayerGradRow<T>& row, const float* weight, float* dweight, float* dbias,
                         std::int64_t count) {
  const T* const x = row.x;
  const T* const dy = row.dy;
  const auto width = static_cast<double>(count);
  const auto high = splat(row.moments.mean);
  const auto [deviation, g_sum, gd_sum] =
      sum_runs<3>(count, [&](std::int64_t i, auto extent, VecPair(&sums)[3]) HWY_ATTR {
        const VecPair d = covered<T>(minus(take2(x + i, extent), high), extent);
        const VecPair g = multiply(take2(dy + i, extent), load2(weight + i));
        sums[0] = {hn::Add(sums[0].a, d.a), hn::Add(sums[0].b, d.b)};
        sums[1] = {hn::Add(sums[1].a, g.a), hn::Add(sums[1].b, g.b)};
        sums[2] = {hn::MulAdd(g.a, d.a, sums[2].a), hn::MulAdd(g.b, d.b, sums[2].b)};
      });
  const double low = deviation / width;
  const double square = static_cast<double>(row.moments.rstd) * static_cast<double>(row.moments.rstd);
  const auto residual = splat(static_cast<float>(low));
  const auto rstd = splat(row.moments.rstd);
  const auto a = splat(static_cast<float>(g_sum / width));
  const auto b = splat(static_cast<float>((gd_sum - low * g_sum) / width * square));
  each_pair(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    prefetch(x + count + i);
    prefetch(dy + count + i);
    const VecPair d = minus(minus(take2(x + i, extent), high), residual);
    const VecPair t = take2(dy + i, extent);
    const VecPair g = minus(multiply(t, load2(weight + i)), a);
    if (dweight != nullptr) {
      const VecPair total = load2(dweight + i);
      store2({hn::MulAdd(hn::Mul(t.a, d.a), rstd, total.a), hn::MulAdd(hn::Mul(t.b, d.b), rstd, total.b)},
             dweight + i);
    }
    if (dbias != nullptr) {
      const VecPair total = load2(dbias + i);
      store2({hn::Add(total.a, t.a), hn::Add(total.b, t.b)}, dbias + i);
    }
    write2<kStream>({hn::Mul(rstd, hn::NegMulAdd(d.a, b, g.a)), hn::Mul(rstd, hn::NegMulAdd(d.b, b, g.b))},
                    row.dx + i, extent);
  });
}

/// Sums over rows, for the gradients of what all rows share. The rows are cut into a fixed number of chunks,
/// whatever the number of threads, and the sums of the chunks join in order.
template <class T>
class ColumnTotals {
 public:
  ColumnTotals(const TensorArg& out, std::int64_t chunks, std::int64_t width, Workspace& memory)
      : out_(out),
        chunks_(chunks),
        length_(out.present() ? padded(width) : 0),
        width_(width),
        totals_(memory.take<double>(chunks * length_)),
        ordered_(memory.take<float>(length_)),
        result_(memory.take<float>(out.present() ? width : 0)) {}

  std::int64_t length() const { return length_; }
  /// The sums of one chunk; takes length() floats of `memory` for a run.
  RowTotals<> chunk_totals(std::int64_t index, Workspace& memory) const {
    return {memory.take<float>(length_), chunk(index), length_};
  }

  void write() {
    if (length_ == 0) return;
    parallel_for(length_, row_grain(chunks_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t from = 1; from < chunks_; ++from) {
        for (std::int64_t i = begin; i < end; ++i) chunk(0)[i] += chunk(from)[i];
      }
      for (std::int64_t i = begin; i < end; ++i) ordered_[i] = static_cast<float>(chunk(0)[i]);
    });
    from_order<T>(ordered_, result_, width_);
    write_floats(result_, out_.as<float>(), out_.strides[0], width_);
  }

 private:
  double* chunk(std::int64_t index) const { return totals_ + index * length_; }

  TensorArg out_;
  std::int64_t chunks_, length_, width_;
  double* totals_;
  float *ordered_, *result_;
};

std::int64_t chunk_count(std::int64_t rows) {
  constexpr std::int64_t kChunks = 64;
  constexpr std::int64_t kFewestRows = 4;
  return std::clamp<std::int64_t>(rows / kFewestRows, 1, kChunks);
}

/// Chunks of rows that threads share, each thread with memory for the sums of one chunk of each of `totals`.
template <class T>
class RowChunks {
 public:
  RowChunks(std::int64_t rows, std::int64_t chunks, std::int64_t length,
            std::initializer_list<const ColumnTotals<T>*> totals, Workspace memory)
      : rows_(rows),
        chunks_(chunks),
        grain_(row_grain(length * (rows / chunks + 1))),
        slots_(memory, concurrent_bodies(chunks, grain_), measured_workspace([&](Workspace one) {
                 for (const ColumnTotals<T>* of : totals) one.take<float>(of->length());
               })) {}

  /// Calls body(chunk, begin, end, memory) for every chunk, in parallel.
  template <class Body>
  void for_each(Body&& body) {
    parallel_for(chunks_, grain_, [&](std::int64_t begin, std::int64_t end) {
      const WorkspaceSlots::Slot slot(slots_);
      for (std::int64_t chunk = begin; chunk < end; ++chunk)
        body(chunk, rows_ * chunk / chunks_, rows_ * (chunk + 1) / chunks_, slot.workspace());
    });
  }

 private:
  std::int64_t rows_, chunks_, grain_;
  WorkspaceSlots slots_;
};

constexpr std::int64_t kNarrow = 8;

/// dx of a narrow row in f64: with one element, g - h c is g eps rstd^2, which f32 loses.
template <class T>
void narrow_rms_dx(const T* h, const float* weight, const T* dy, const T* dsum, T* dx, double eps,
                   std::int64_t count) {
  const auto value = [](T x) { return static_cast<double>(static_cast<float>(x)); };
  double squares = 0;
  double gh = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    squares += value(h[i]) * value(h[i]);
    gh += value(dy[i]) * static_cast<double>(weight[i]) * value(h[i]);
  }
  const auto width = static_cast<double>(count);
  const double inverse_square = 1 / (squares / width + eps);
  const double scale = std::sqrt(inverse_square);
  for (std::int64_t i = 0; i < count; ++i) {
    const double g = value(dy[i]) * static_cast<double>(weight[i]);
    const double slope = scale * (g - value(h[i]) * (gh / width * inverse_square));
    dx[i] = T(static_cast<float>(slope + (dsum == nullptr ? 0.0 : value(dsum[i]))));
  }
}

void rms_norm_grad(const RmsNormGradArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "rms_norm_grad", [&]<class T>() {
    const bool added = args.dsum.present();
    const Rows<4> rows({args.x, args.dy, args.dx, or_like(args.dsum, args.x)}, args.x.rank - 1);
    const std::int64_t chunks = chunk_count(rows.count);
    ColumnTotals<T> dweight(args.dweight, chunks, rows.length, memory);
    RowChunks<T> work(rows.count, chunks, rows.length, {&dweight}, memory);
    if (memory.measuring()) return;
    const bool narrow = rows.length <= kNarrow;
    const std::vector<float> plain_weight =
        row_vector(args.weight, narrow ? rows.length : 0, 1, args.weight_offset);
    const OrderedVector<T> weight(args.weight, rows.length, 1, args.weight_offset);
    const bool stream =
        rows.strides[2] == 1 && streams_rows(args.dx, {args.x, args.dy, or_like(args.dsum, args.x)});
    const auto grad_row = stream ? &rms_norm_grad_row<T, true> : &rms_norm_grad_row<T, false>;
    work.for_each([&](std::int64_t chunk, std::int64_t begin, std::int64_t end, Workspace own) {
      const StreamFence fence(stream);
      RowTotals<> weight_sums = dweight.chunk_totals(chunk, own);
      RowReader<T> h(rows, 0);
      RowReader<T> dy(rows, 1);
      RowReader<T> dsum(rows, 3);
      RowWriter<T> dx(rows, 2);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[4];
        rows.offsets(row, at);
        const T* h_row = h.read(args.x.as<T>() + at[0]);
        const T* dy_row = dy.read(args.dy.as<T>() + at[1]);
        const T* dsum_row = added ? dsum.read(args.dsum.as<T>() + at[3]) : nullptr;
        T* dx_row = dx.target(args.dx.as<T>() + at[2]);
        const RmsGradRow<T> operands{h_row, dy_row, dsum_row, dx_row, args.rstd.as<float>()[row]};
        grad_row(operands, weight.data(), weight_sums.next_row(), rows.length);
        if (narrow) {
          narrow_rms_dx(h_row, plain_weight.data(), dy_row, dsum_row, dx_row, args.eps, rows.length);
        }
        dx.finish();
      }
    });
    dweight.write();
  });
}

void layer_norm_grad(const LayerNormGradArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "layer_norm_grad", [&]<class T>() {
    const Rows<3> rows({args.x, args.dy, args.dx}, args.x.rank - 1);
    const std::int64_t chunks = chunk_count(rows.count);
    ColumnTotals<T> dweight(args.dweight, chunks, rows.length, memory);
    ColumnTotals<T> dbias(args.dbias, chunks, rows.length, memory);
    RowChunks<T> work(rows.count, chunks, rows.length, {&dweight, &dbias}, memory);
    if (memory.measuring()) return;
    const OrderedVector<T> weight(args.weight, rows.length, 1);
    const bool stream = rows.strides[2] == 1 && streams_rows(args.dx, {args.x, args.dy});
    const auto grad_row = stream ? &layer_norm_grad_row<T, true> : &layer_norm_grad_row<T, false>;
    work.for_each([&](std::int64_t chunk, std::int64_t begin, std::int64_t end, Workspace own) {
      const StreamFence fence(stream);
      RowTotals<> weight_sums = dweight.chunk_totals(chunk, own);
      RowTotals<> bias_sums = dbias.chunk_totals(chunk, own);
      RowReader<T> x(rows, 0);
      RowReader<T> dy(rows, 1);
      RowWriter<T> dx(rows, 2);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[3];
        rows.offsets(row, at);
        const LayerGradRow<T> operands{
            .x = x.read(args.x.as<T>() + at[0]),
            .dy = dy.read(args.dy.as<T>() + at[1]),
            .dx = dx.target(args.dx.as<T>() + at[2]),
            .moments = {args.mean.as<float>()[row], args.rstd.as<float>()[row]},
        };
        grad_row(operands, weight.data(), weight_sums.next_row(), bias_sums.next_row(), rows.length);
        dx.finish();
      }
    });
    dweight.write();
    dbias.write();
  });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(rms_norm);
HWY_EXPORT(rms_norm_grad);
HWY_EXPORT(layer_norm);
HWY_EXPORT(layer_norm_grad);

void run_rms_norm(const RmsNormArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(rms_norm)(args, memory);
}
void run_rms_norm_grad(const RmsNormGradArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(rms_norm_grad)(args, memory);
}
void run_layer_norm(const LayerNormArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(layer_norm)(args);
}
void run_layer_norm_grad(const LayerNormGradArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(layer_norm_grad)(args, memory);
}

std::string supports_rms(const RmsNormArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_rms_grad(const RmsNormGradArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_layer(const LayerNormArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_layer_grad(const LayerNormGradArgs& args) {
  return refuse_f64(args.x);
}

}  // namespace

void fill_norm(KernelTable& table) {
  table.rms_norm.add_measured<run_rms_norm>("highway", supports_rms);
  table.rms_norm_grad.add_measured<run_rms_norm_grad>("highway", supports_rms_grad);
  table.layer_norm.add("highway", supports_layer, run_layer_norm);
  table.layer_norm_grad.add_measured<run_layer_norm_grad>("highway", supports_layer_grad);
}

}  // namespace candela
#endif
