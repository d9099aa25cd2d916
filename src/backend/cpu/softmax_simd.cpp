#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/blocks.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/softmax_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

/// Elements per piece: it stays in the first-level cache between the passes over it.
constexpr std::int64_t kPiece = 4096;

/// The length of a piece such that a row has at most kPieces of them.
constexpr std::int64_t kPieces = 64;
HWY_INLINE std::int64_t piece_of(std::int64_t count) {
  return kPiece * std::max<std::int64_t>(1, (count + kPieces * kPiece - 1) / (kPieces * kPiece));
}

/// One row. Each piece becomes e^(x - shift) in `kept` [padded(count)], its shift the maximum so far; in the
/// end all pieces are scaled to the maximum of the row.
template <class T, bool kStream>
void softmax_row(const T* x, T* out, float* kept, std::int64_t count) {
  float maxima[kPieces];
  float max = kLowest;
  double total = 0;
  const std::int64_t piece = piece_of(count);
  for (std::int64_t first = 0; first < count; first += piece) {
    const std::int64_t length = std::min(piece, count - first);
    const float before = max;
    max = std::max(max, max_of_row(x + first, length));
    maxima[first / piece] = max;
    // Nothing but -inf so far: any finite shift gives zeros.
    const float shift = max == kLowest ? 0.0F : max;
    const auto shifts = splat(shift);
    const double sum = sum_terms(length, [&](std::int64_t i, auto extent) HWY_ATTR {
      prefetch(x + first + i + length);
      const VecPair v = take2(x + first + i, extent, kLowest);
      const VecPair e = {exp_nonpositive<T>(hn::Sub(v.a, shifts)), exp_nonpositive<T>(hn::Sub(v.b, shifts))};
      store2(e, kept + first + i);
      return e;
    });
    total = (before == max ? total : total * std::exp(before - shift)) + sum;
  }
  for (std::int64_t first = 0; first < count; first += piece) {
    const std::int64_t length = std::min(piece, count - first);
    const float share = maxima[first / piece] == max ? 1.0F : std::exp(maxima[first / piece] - max);
    const auto scale = splat(static_cast<float>(share / total));
    each_pair(length, [&](std::int64_t i, auto extent) HWY_ATTR {
      prefetch(x + count + first + i);
      const VecPair e = load2(kept + first + i);
      write2<kStream>({hn::Mul(e.a, scale), hn::Mul(e.b, scale)}, out + first + i, extent);
    });
  }
}

template <class T, bool kStream>
void log_softmax_row(const T* x, T* out, float*, std::int64_t count) {
  float max = kLowest;
  double total = 0;
  const std::int64_t piece = piece_of(count);
  for (std::int64_t first = 0; first < count; first += piece) {
    const std::int64_t length = std::min(piece, count - first);
    const float before = max;
    max = std::max(max, max_of_row(x + first, length));
    const float shift = max == kLowest ? 0.0F : max;
    const auto shifts = splat(shift);
    const double sum = sum_terms(length, [&](std::int64_t i, auto extent) HWY_ATTR {
      prefetch(x + first + i + length);
      const VecPair v = take2(x + first + i, extent, kLowest);
      return VecPair{exp_nonpositive<T>(hn::Sub(v.a, shifts)), exp_nonpositive<T>(hn::Sub(v.b, shifts))};
    });
    total = (before == max ? total : total * std::exp(before - shift)) + sum;
  }
  const auto maxima = splat(max);
  const auto logs = splat(static_cast<float>(std::log(total)));
  each_pair(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    prefetch(x + count + i);
    const VecPair v = take2(x + i, extent);
    write2<kStream>({hn::Sub(hn::Sub(v.a, maxima), logs), hn::Sub(hn::Sub(v.b, maxima), logs)}, out + i,
                    extent);
  });
}

/// dx = y (dy - sum(dy y) / sum(y)). With y rounded to 16 bits, sum(y) is not quite 1; the division keeps dx
/// right to the rounding of the small y, even where one y is nearly 1.
template <class T, bool kStream>
void softmax_grad_row(const T* y, const T* dy, T* dx, std::int64_t count) {
  const auto [dot, sum] = sum_runs<2>(count, [&](std::int64_t i, auto extent, VecPair(&sums)[2]) HWY_ATTR {
    prefetch(y + count + i);
    const VecPair p = take2(y + i, extent);
    const VecPair g = take2(dy + i, extent);
    sums[0] = {hn::MulAdd(p.a, g.a, sums[0].a), hn::MulAdd(p.b, g.b, sums[0].b)};
    sums[1] = {hn::Add(p.a, sums[1].a), hn::Add(p.b, sums[1].b)};
  });
  const auto mean = splat(static_cast<float>(sum > 0 ? dot / sum : dot));
  each_pair(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    prefetch(dy + count + i);
    const VecPair p = take2(y + i, extent);
    const VecPair g = take2(dy + i, extent);
    write2<kStream>({hn::Mul(p.a, hn::Sub(g.a, mean)), hn::Mul(p.b, hn::Sub(g.b, mean))}, dx + i, extent);
  });
}

/// dx = dy - e^y sum(dy).
template <class T, bool kStream>
void log_softmax_grad_row(const T* y, const T* dy, T* dx, std::int64_t count) {
  const double sum = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    prefetch(y + count + i);
    return take2(dy + i, extent);
  });
  const auto total = splat(static_cast<float>(sum));
  each_pair(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    prefetch(dy + count + i);
    const VecPair p = take2(y + i, extent);
    const VecPair g = take2(dy + i, extent);
    write2<kStream>({hn::NegMulAdd(exp_nonpositive<T>(p.a), total, g.a),
                     hn::NegMulAdd(exp_nonpositive<T>(p.b), total, g.b)},
                    dx + i, extent);
  });
}

/// Rows that a thread works on together. Rows with unit stride: one. Others lie side by side and are copied,
/// up to kMaxRows of a run at once, so that each cache line is read once.
struct Groups {
  static constexpr std::int64_t kMaxRows = 16;
  std::int64_t run, size, per_run, count;

  Groups(std::int64_t rows, std::int64_t rows_per_run, bool unit)
      : run(rows_per_run),
        size(unit ? 1 : kMaxRows),
        per_run((run + size - 1) / size),
        count(rows / run * per_run) {}
  std::int64_t first_row(std::int64_t group) const { return group / per_run * run + group % per_run * size; }
  std::int64_t rows(std::int64_t group) const { return std::min(size, run - group % per_run * size); }
};

/// Rows of one operand: `step` from element to element, `across` from row to row.
template <class T>
struct StridedRows {
  T* data;
  std::int64_t step, across;
};

template <class T>
void gather(const StridedRows<const T>& x, std::int64_t rows, std::int64_t length, T* to) {
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t j = 0; j < rows; ++j) to[j * length + i] = x.data[i * x.step + j * x.across];
  }
}
template <class T>
void scatter(const T* from, std::int64_t rows, std::int64_t length, const StridedRows<T>& out) {
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t j = 0; j < rows; ++j) out.data[i * out.step + j * out.across] = from[j * length + i];
  }
}

/// An exponential costs about as much as two elements of a norm.
std::int64_t exp_grain(std::int64_t length) {
  return row_grain(2 * length);
}

template <class T>
void softmax_as(const SoftmaxArgs& args, Workspace memory) {
  const Rows<2> rows({args.x, args.out}, args.dim);
  const bool unit = rows.strides[0] == 1 && rows.strides[1] == 1;
  const Groups groups(rows.count, rows.run, unit);
  const std::int64_t grain = exp_grain(rows.length * groups.size);
  const std::int64_t kept = args.log ? 0 : padded(rows.length);
  const std::int64_t copied = unit ? 0 : groups.size * rows.length;
  WorkspaceSlots slots(memory, concurrent_bodies(groups.count, grain), measured_workspace([&](Workspace one) {
                         one.take<float>(kept);
                         one.take<T>(copied);
                       }));
  if (memory.measuring()) return;
  const bool stream = unit && streams_rows(args.out, {args.x});
  const auto row_of = args.log ? (stream ? &log_softmax_row<T, true> : &log_softmax_row<T, false>)
                               : (stream ? &softmax_row<T, true> : &softmax_row<T, false>);
  parallel_for(groups.count, grain, [&](std::int64_t begin, std::int64_t end) {
    const StreamFence fence(stream);
    const WorkspaceSlots::Slot slot(slots);
    Workspace own = slot.workspace();
    auto* const exponentials = own.take<float>(kept);
    auto* const copies = own.take<T>(copied);
    for (std::int64_t group = begin; group < end; ++group) {
      std::int64_t at[2];
      rows.offsets(groups.first_row(group), at);
      const T* x = args.x.as<T>() + at[0];
      T* out = args.out.as<T>() + at[1];
      if (unit) {
        row_of(x, out, exponentials, rows.length);
        continue;
      }
      const std::int64_t count = groups.rows(group);
      gather<T>({x, rows.strides[0], rows.across[0]}, count, rows.length, copies);
      for (std::int64_t j = 0; j < count; ++j) {
        T* const row = copies + j * rows.length;
        row_of(row, row, exponentials, rows.length);
      }
      scatter<T>(copies, count, rows.length, {out, rows.strides[1], rows.across[1]});
    }
  });
}

void softmax(const SoftmaxArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "softmax", [&]<class T>() { softmax_as<T>(args, memory); });
}

template <class T>
void softmax_grad_as(const SoftmaxGradArgs& args, Workspace memory) {
  const Rows<3> rows({args.y, args.dy, args.dx}, args.dim);
  const bool unit = rows.strides[0] == 1 && rows.strides[1] == 1 && rows.strides[2] == 1;
  const Groups groups(rows.count, rows.run, unit);
  const std::int64_t grain = exp_grain(rows.length * groups.size);
  const std::int64_t copied = unit ? 0 : groups.size * rows.length;
  WorkspaceSlots slots(memory, concurrent_bodies(groups.count, grain),
                       static_cast<std::size_t>(2 * copied) * sizeof(T));
  if (memory.measuring()) return;
  const bool stream = unit && streams_rows(args.dx, {args.y, args.dy});
  const auto row_of = args.log ? (stream ? &log_softmax_grad_row<T, true> : &log_softmax_grad_row<T, false>)
                               : (stream ? &softmax_grad_row<T, true> : &softmax_grad_row<T, false>);
  parallel_for(groups.count, grain, [&](std::int64_t begin, std::int64_t end) {
    const StreamFence fence(stream);
    const WorkspaceSlots::Slot slot(slots);
    auto* const y_rows = slot.array<T>(2 * copied);
    T* const dy_rows = y_rows + copied;
    for (std::int64_t group = begin; group < end; ++group) {
      std::int64_t at[3];
      rows.offsets(groups.first_row(group), at);
      const T* y = args.y.as<T>() + at[0];
      const T* dy = args.dy.as<T>() + at[1];
      T* dx = args.dx.as<T>() + at[2];
      if (unit) {
        row_of(y, dy, dx, rows.length);
        continue;
      }
      const std::int64_t count = groups.rows(group);
      gather<T>({y, rows.strides[0], rows.across[0]}, count, rows.length, y_rows);
      gather<T>({dy, rows.strides[1], rows.across[1]}, count, rows.length, dy_rows);
      for (std::int64_t j = 0; j < count; ++j) {
        T* const row = y_rows + j * rows.length;
        row_of(row, dy_rows + j * rows.length, row, rows.length);
      }
      scatter<T>(y_rows, count, rows.length, {dx, rows.strides[2], rows.across[2]});
    }
  });
}

void softmax_grad(const SoftmaxGradArgs& args, Workspace memory) {
  dispatch_floating(args.y.dtype, "softmax_grad", [&]<class T>() { softmax_grad_as<T>(args, memory); });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(softmax);
HWY_EXPORT(softmax_grad);

void run_softmax(const SoftmaxArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(softmax)(args, memory);
}
void run_softmax_grad(const SoftmaxGradArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(softmax_grad)(args, memory);
}

std::string supports_softmax(const SoftmaxArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_softmax_grad(const SoftmaxGradArgs& args) {
  return refuse_f64(args.y);
}

}  // namespace

void fill_softmax(KernelTable& table) {
  table.softmax.add_measured<run_softmax>("highway", supports_softmax);
  table.softmax_grad.add_measured<run_softmax_grad>("highway", supports_softmax_grad);
}

}  // namespace candela
#endif
