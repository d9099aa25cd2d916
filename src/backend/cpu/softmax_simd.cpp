#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/blocks.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/softmax.h"
#include "backend/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/softmax_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela {
namespace HWY_NAMESPACE {

using softmax_detail::Columns;
using softmax_detail::kChunk;
using softmax_detail::kMaxColumns;
using softmax_detail::Mode;

constexpr float kLowest = -std::numeric_limits<float>::infinity();

/// Elements that are worked on together: they stay in the first-level cache between the passes over them.
constexpr std::int64_t kPiece = 4096;

/// The length of pieces such that a row has at most kPieces of them.
constexpr std::int64_t kPieces = 64;
HWY_INLINE std::int64_t piece_of(std::int64_t count) {
  return kPiece * std::max<std::int64_t>(1, (count + kPieces * kPiece - 1) / (kPieces * kPiece));
}

/// e^(x - shift) with the largest element so far as shift, a piece at a time; in the end all are brought to
/// the largest of the row.
template <class T, bool kStream>
void softmax_row_as(const T* x, T* out, float* scratch, std::int64_t count) {
  float tops[kPieces];
  float top = kLowest;
  double total = 0;
  const std::int64_t piece = piece_of(count);
  for (std::int64_t first = 0; first < count; first += piece) {
    const std::int64_t length = std::min(piece, count - first);
    const float before = top;
    top = std::max(top, max_of_row(x + first, length));
    tops[first / piece] = top;
    // Nothing but -inf so far: any finite shift gives zeros.
    const float shift = top == kLowest ? 0.0F : top;
    const auto shifts = splat(shift);
    const double sum = sum_terms(length, [&](std::int64_t i, auto extent) HWY_ATTR {
      ask_for(x + first + i + length);
      const Two v = take2(x + first + i, extent, kLowest);
      const Two e = {exp_nonpositive<T>(hn::Sub(v.a, shifts)), exp_nonpositive<T>(hn::Sub(v.b, shifts))};
      store2(e, scratch + first + i);
      return e;
    });
    total = (before == top ? total : total * std::exp(before - shift)) + sum;
  }
  for (std::int64_t first = 0; first < count; first += piece) {
    const std::int64_t length = std::min(piece, count - first);
    const float share = tops[first / piece] == top ? 1.0F : std::exp(tops[first / piece] - top);
    const auto scale = splat(static_cast<float>(share / total));
    each_two(length, [&](std::int64_t i, auto extent) HWY_ATTR {
      ask_for(x + count + first + i);
      const Two e = load2(scratch + first + i);
      write2<kStream>({hn::Mul(e.a, scale), hn::Mul(e.b, scale)}, out + first + i, extent);
    });
  }
}

template <class T, bool kStream>
void log_softmax_row_as(const T* x, T* out, std::int64_t count) {
  float top = kLowest;
  double total = 0;
  const std::int64_t piece = piece_of(count);
  for (std::int64_t first = 0; first < count; first += piece) {
    const std::int64_t length = std::min(piece, count - first);
    const float before = top;
    top = std::max(top, max_of_row(x + first, length));
    const float shift = top == kLowest ? 0.0F : top;
    const auto shifts = splat(shift);
    const double sum = sum_terms(length, [&](std::int64_t i, auto extent) HWY_ATTR {
      ask_for(x + first + i + length);
      const Two v = take2(x + first + i, extent, kLowest);
      return Two{exp_nonpositive<T>(hn::Sub(v.a, shifts)), exp_nonpositive<T>(hn::Sub(v.b, shifts))};
    });
    total = (before == top ? total : total * std::exp(before - shift)) + sum;
  }
  const auto tops = splat(top);
  const auto logs = splat(static_cast<float>(std::log(total)));
  each_two(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    ask_for(x + count + i);
    const Two v = take2(x + i, extent);
    write2<kStream>({hn::Sub(hn::Sub(v.a, tops), logs), hn::Sub(hn::Sub(v.b, tops), logs)}, out + i, extent);
  });
}

/// dx = y (dy - sum(dy y) / sum(y)). With y rounded to a short float, sum(y) is not quite 1; dividing by it
/// makes dx right to the rounding of the small y, even where one y is nearly 1.
template <class T, bool kStream>
void softmax_grad_row_as(const T* y, const T* dy, T* dx, std::int64_t count) {
  double dot = 0;
  double sum = 0;
  for (std::int64_t first = 0; first < count; first += kSumPiece) {
    Two dots = {splat(0.0F), splat(0.0F)};
    Two sums = dots;
    each_two(std::min(kSumPiece, count - first), [&](std::int64_t i, auto extent) HWY_ATTR {
      ask_for(y + count + first + i);
      const Two p = take2(y + first + i, extent);
      const Two g = take2(dy + first + i, extent);
      dots = {hn::MulAdd(p.a, g.a, dots.a), hn::MulAdd(p.b, g.b, dots.b)};
      sums = {hn::Add(p.a, sums.a), hn::Add(p.b, sums.b)};
    });
    dot += static_cast<double>(sum_two(dots));
    sum += static_cast<double>(sum_two(sums));
  }
  const auto mean = splat(static_cast<float>(sum > 0 ? dot / sum : dot));
  each_two(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    ask_for(dy + count + i);
    const Two p = take2(y + i, extent);
    const Two g = take2(dy + i, extent);
    write2<kStream>({hn::Mul(p.a, hn::Sub(g.a, mean)), hn::Mul(p.b, hn::Sub(g.b, mean))}, dx + i, extent);
  });
}

/// dx = dy - e^y sum(dy).
template <class T, bool kStream>
void log_softmax_grad_row_as(const T* y, const T* dy, T* dx, std::int64_t count) {
  const double sum = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    ask_for(y + count + i);
    return take2(dy + i, extent);
  });
  const auto total = splat(static_cast<float>(sum));
  each_two(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    ask_for(dy + count + i);
    const Two p = take2(y + i, extent);
    const Two g = take2(dy + i, extent);
    write2<kStream>({hn::NegMulAdd(exp_nonpositive<T>(p.a), total, g.a),
                     hn::NegMulAdd(exp_nonpositive<T>(p.b), total, g.b)},
                    dx + i, extent);
  });
}

/// A block of columns of one operand, `step` elements from row to row.
template <class T>
struct Block {
  T* data;
  std::int64_t step;

  HWY_INLINE T* at(std::int64_t row, std::int64_t column) const { return data + row * step + column; }
  /// Rows are far apart: the hardware does not see the next one coming.
  HWY_INLINE void ask_ahead(std::int64_t row, std::int64_t column) const { ask_for(at(row + 16, column)); }
};

/// Numbers per column. Below, columns are in the order that the pairs of T come in.
struct PerColumn {
  alignas(64) float values[kMaxColumns];

  HWY_INLINE void fill(float value, std::int64_t width) { std::fill(values, values + width, value); }
  HWY_INLINE Two get(std::int64_t column) const { return load2(values + column); }
  HWY_INLINE void set(std::int64_t column, Two v) { store2(v, values + column); }
};

/// Sums of `width` columns: runs of at most kSumRows rows in f32, joined in double, so that the error stays
/// small however long the columns are.
struct ColumnSums {
  std::int64_t width;
  PerColumn run;
  alignas(64) double joined[kMaxColumns];

  explicit ColumnSums(std::int64_t columns) : width(columns) {
    run.fill(0, width);
    std::fill(joined, joined + width, 0.0);
  }
  HWY_INLINE void join() {
    for (std::int64_t j = 0; j < width; ++j) joined[j] += static_cast<double>(run.values[j]);
    run.fill(0, width);
  }
  /// The totals, rounded to f32, in `run`.
  HWY_INLINE PerColumn& finish() {
    join();
    std::copy(joined, joined + width, run.values);
    return run;
  }
};
static_assert(kSumRows % kChunk == 0 && kMaxColumns % (2 * kLaneBuffer) == 0);

/// What is taken off each element before e^x: the maximum, or 0 where there is nothing but -inf.
HWY_INLINE void finite_shifts(const PerColumn& tops, std::int64_t width, PerColumn& shifts) {
  for (std::int64_t j = 0; j < width; j += lanes()) {
    const auto top = load(tops.values + j);
    store(hn::IfThenElse(hn::Eq(top, splat(kLowest)), splat(0.0F), top), shifts.values + j);
  }
}

/// From the sums of e^(x - shift) to what results are made with: 1 / sum, or its logarithm.
template <bool kLog>
HWY_INLINE void finish_totals(PerColumn& totals, std::int64_t width) {
  for (std::int64_t j = 0; j < width; j += lanes()) {
    const auto total = load(totals.values + j);
    store(kLog ? log(total) : hn::Div(splat(1.0F), total), totals.values + j);
  }
}

/// Rows of a pass over memory that share what is loaded and stored per column.
constexpr std::int64_t kStep = 4;
static_assert(kSumRows % kStep == 0);

/// Rows [first, last) of a block go to `kept`, `width` floats apart, and their maxima to `tops`.
template <class T>
HWY_INLINE void keep_rows(const Block<const T>& x, std::int64_t first, std::int64_t last, std::int64_t count,
                          float* kept, std::int64_t width, PerColumn& tops) {
  for (std::int64_t i = first; i < last; i += kStep) {
    const std::int64_t end = std::min(i + kStep, last);
    each_two(count, [&](std::int64_t j, auto extent) HWY_ATTR {
      Two t = tops.get(j);
      for (std::int64_t row = i; row < end; ++row) {
        const Two v = take2(x.at(row, j), extent, kLowest);
        t = {hn::Max(v.a, t.a), hn::Max(v.b, t.b)};
        store2(v, kept + row * width + j);
      }
      tops.set(j, t);
    });
  }
}

/// Adds e^(x - shift) of `rows` rows of `kept` to `sums`; unless kLog, it also takes the place of x.
/// Meanwhile as many rows come from memory to the second-level cache, from row `coming` of the block on.
template <class T, bool kLog>
HWY_INLINE void sum_exponentials(float* kept, std::int64_t rows, std::int64_t width, std::int64_t count,
                                 const PerColumn& shifts, PerColumn& sums, const Block<const T>& x,
                                 std::int64_t coming) {
  for (std::int64_t j = 0; j < count; j += 2 * lanes()) {
    const Two shift = shifts.get(j);
    Two sum = sums.get(j);
    for (std::int64_t i = 0; i < rows; ++i) {
      ask_for(x.at(coming + i, j));
      float* at = kept + i * width + j;
      const Two v = load2(at);
      const Two e = {exp_nonpositive<T>(hn::Sub(v.a, shift.a)), exp_nonpositive<T>(hn::Sub(v.b, shift.b))};
      sum = {hn::Add(sum.a, e.a), hn::Add(sum.b, e.b)};
      if constexpr (!kLog) store2(e, at);
    }
    sums.set(j, sum);
  }
}

/// The sums of what lies behind, taken to shifts that have grown from `before` (before they were made
/// finite).
HWY_INLINE void move_sums(const PerColumn& before, const PerColumn& shifts, ColumnSums& sums) {
  alignas(64) float shares[kMaxColumns];
  for (std::int64_t j = 0; j < sums.width; j += lanes()) {
    store(exp_nonpositive(hn::Sub(load(before.values + j), load(shifts.values + j))), shares + j);
  }
  for (std::int64_t j = 0; j < sums.width; ++j) sums.joined[j] *= static_cast<double>(shares[j]);
}

/// A chunk of rows at a time goes to the second-level cache as e^(x - shift), with the largest element so far
/// as shift; from there all are brought to the largest of the column.
template <class T, bool kLog, bool kStream>
void softmax_columns_kept(Block<const T> x, Block<T> out, float* scratch, Columns size) {
  const std::int64_t width = whole_pairs(size.count);
  float* chunk_tops = scratch + size.length * width;
  PerColumn tops;
  PerColumn before;
  PerColumn shifts;
  ColumnSums sums(width);
  tops.fill(kLowest, width);
  for (std::int64_t first = 0; first < size.length; first += kChunk) {
    const std::int64_t last = std::min(size.length, first + kChunk);
    std::copy(tops.values, tops.values + width, before.values);
    keep_rows<T>(x, first, last, size.count, scratch, width, tops);
    finite_shifts(tops, width, shifts);
    if (first > 0) move_sums(before, shifts, sums);
    sum_exponentials<T, kLog>(scratch + first * width, last - first, width, size.count, shifts, sums.run, x,
                              last);
    sums.join();
    if constexpr (!kLog) std::copy(tops.values, tops.values + width, chunk_tops + first / kChunk * width);
  }
  PerColumn& totals = sums.finish();
  finish_totals<kLog>(totals, width);
  PerColumn scales;
  for (std::int64_t i = 0; i < size.length; ++i) {
    if (!kLog && i % kChunk == 0) {
      for (std::int64_t j = 0; j < width; j += lanes()) {
        const auto moved = hn::Sub(load(chunk_tops + i / kChunk * width + j), load(shifts.values + j));
        store(hn::Mul(exp_nonpositive(moved), load(totals.values + j)), scales.values + j);
      }
    }
    const float* row = scratch + i * width;
    each_two(size.count, [&](std::int64_t j, auto extent) HWY_ATTR {
      const Two v = load2(row + j);
      if constexpr (kLog) {
        const Two t = tops.get(j);
        const Two total = totals.get(j);
        write2<kStream>({hn::Sub(hn::Sub(v.a, t.a), total.a), hn::Sub(hn::Sub(v.b, t.b), total.b)},
                        out.at(i, j), extent);
      } else {
        const Two scale = scales.get(j);
        write2<kStream>({hn::Mul(v.a, scale.a), hn::Mul(v.b, scale.b)}, out.at(i, j), extent);
      }
    });
  }
}

/// Columns too long to be kept are read twice: for the sums, which follow the largest element so far, and for
/// the results.
template <class T, bool kLog, bool kStream>
void softmax_columns_reread(Block<const T> x, Block<T> out, Columns size) {
  const std::int64_t width = whole_pairs(size.count);
  PerColumn tops;
  PerColumn before;
  PerColumn shifts;
  ColumnSums sums(width);
  tops.fill(kLowest, width);
  for (std::int64_t first = 0; first < size.length; first += kChunk) {
    const std::int64_t last = std::min(size.length, first + kChunk);
    std::copy(tops.values, tops.values + width, before.values);
    for (std::int64_t i = first; i < last; ++i) {
      each_two(size.count, [&](std::int64_t j, auto extent) HWY_ATTR {
        x.ask_ahead(i, j);
        const Two v = take2(x.at(i, j), extent, kLowest);
        const Two t = tops.get(j);
        tops.set(j, {hn::Max(v.a, t.a), hn::Max(v.b, t.b)});
      });
    }
    finite_shifts(tops, width, shifts);
    if (first > 0) move_sums(before, shifts, sums);
    for (std::int64_t i = first; i < last; ++i) {
      each_two(size.count, [&](std::int64_t j, auto extent) HWY_ATTR {
        const Two v = take2(x.at(i, j), extent, kLowest);
        const Two t = shifts.get(j);
        const Two sum = sums.run.get(j);
        sums.run.set(j, {hn::Add(sum.a, exp_nonpositive<T>(hn::Sub(v.a, t.a))),
                         hn::Add(sum.b, exp_nonpositive<T>(hn::Sub(v.b, t.b)))});
      });
    }
    sums.join();
  }
  PerColumn& totals = sums.finish();
  finish_totals<kLog>(totals, width);
  for (std::int64_t i = 0; i < size.length; ++i) {
    each_two(size.count, [&](std::int64_t j, auto extent) HWY_ATTR {
      x.ask_ahead(i, j);
      const Two v = take2(x.at(i, j), extent);
      const Two t = tops.get(j);
      const Two total = totals.get(j);
      const Two moved = {hn::Sub(v.a, t.a), hn::Sub(v.b, t.b)};
      const Two result = kLog ? Two{hn::Sub(moved.a, total.a), hn::Sub(moved.b, total.b)}
                              : Two{hn::Mul(exp_nonpositive<T>(moved.a), total.a),
                                    hn::Mul(exp_nonpositive<T>(moved.b), total.b)};
      write2<kStream>(result, out.at(i, j), extent);
    });
  }
}

/// Sums over the rows of a block, for the gradient: of dy y and y, or of dy alone for the logarithm.
template <bool kLog>
struct GradSums {
  ColumnSums dots, sums;

  explicit GradSums(std::int64_t width) : dots(width), sums(width) {}
  /// Adds the rows [first, last) of a pair of columns; row(i) gives their y and dy.
  template <class F>
  HWY_INLINE void add(std::int64_t j, std::int64_t first, std::int64_t last, const F& row) {
    Two dot = dots.run.get(j);
    Two sum = kLog ? dot : sums.run.get(j);
    for (std::int64_t i = first; i < last; ++i) {
      const auto [y, dy] = row(i);
      if constexpr (kLog) {
        dot = {hn::Add(dot.a, dy.a), hn::Add(dot.b, dy.b)};
      } else {
        dot = {hn::MulAdd(y.a, dy.a, dot.a), hn::MulAdd(y.b, dy.b, dot.b)};
        sum = {hn::Add(sum.a, y.a), hn::Add(sum.b, y.b)};
      }
    }
    dots.run.set(j, dot);
    if constexpr (!kLog) sums.run.set(j, sum);
  }
  HWY_INLINE void join() {
    dots.join();
    if constexpr (!kLog) sums.join();
  }
  /// dots.run becomes what the gradient is made with: see softmax_grad_row_as.
  HWY_INLINE void finish() {
    dots.finish();
    if constexpr (kLog) return;
    sums.finish();
    for (std::int64_t j = 0; j < sums.width; j += lanes()) {
      const auto sum = load(sums.run.values + j);
      const auto divisor = hn::IfThenElse(hn::Gt(sum, splat(0.0F)), sum, splat(1.0F));
      store(hn::Div(load(dots.run.values + j), divisor), dots.run.values + j);
    }
  }
  template <class T>
  HWY_INLINE Two slope(std::int64_t j, Two y, Two dy, const T*) const {
    const Two dot = dots.run.get(j);
    if constexpr (kLog) {
      return {hn::NegMulAdd(exp_nonpositive<T>(y.a), dot.a, dy.a),
              hn::NegMulAdd(exp_nonpositive<T>(y.b), dot.b, dy.b)};
    } else {
      return {hn::Mul(y.a, hn::Sub(dy.a, dot.a)), hn::Mul(y.b, hn::Sub(dy.b, dot.b))};
    }
  }
};

/// y and dy of one element of each lane.
struct YAndDy {
  Two y, dy;
};

/// A pair of vectors as it lies in memory; lanes past the extent are zeros.
template <class T>
HWY_INLINE void copy2(const T* x, T* out, Whole) {
  std::memcpy(out, x, static_cast<std::size_t>(2 * lanes()) * sizeof(T));
}
template <class T>
HWY_INLINE void copy2(const T* x, T* out, Part part) {
  std::fill(std::copy(x, x + part.count, out), out + 2 * lanes(), T(0));
}

/// y and dy are copied to the second-level cache while they are summed, and gradients are made from there.
template <class T, bool kLog, bool kStream>
void softmax_grad_columns_kept(Block<const T> y, Block<const T> dy, Block<T> dx, T* scratch, Columns size) {
  const std::int64_t width = whole_pairs(size.count);
  GradSums<kLog> sums(width);
  for (std::int64_t first = 0; first < size.length; first += kStep) {
    const std::int64_t last = std::min(first + kStep, size.length);
    each_two(size.count, [&](std::int64_t j, auto extent) HWY_ATTR {
      sums.add(j, first, last, [&](std::int64_t i) HWY_ATTR {
        T* kept = scratch + 2 * i * width + j;
        y.ask_ahead(i, j);
        dy.ask_ahead(i, j);
        copy2(y.at(i, j), kept, extent);
        copy2(dy.at(i, j), kept + width, extent);
        return YAndDy{load2(kept), load2(kept + width)};
      });
    });
    if (last % kSumRows == 0) sums.join();
  }
  sums.finish();
  for (std::int64_t i = 0; i < size.length; ++i) {
    const T* row = scratch + 2 * i * width;
    each_two(size.count, [&](std::int64_t j, auto extent) HWY_ATTR {
      T* target = dx.at(i, j);
      write2<kStream>(sums.slope(j, load2(row + j), load2(row + width + j), target), target, extent);
    });
  }
}

template <class T, bool kLog, bool kStream>
void softmax_grad_columns_reread(Block<const T> y, Block<const T> dy, Block<T> dx, Columns size) {
  GradSums<kLog> sums(whole_pairs(size.count));
  for (std::int64_t first = 0; first < size.length; first += kStep) {
    const std::int64_t last = std::min(first + kStep, size.length);
    each_two(size.count, [&](std::int64_t j, auto extent) HWY_ATTR {
      sums.add(j, first, last, [&](std::int64_t i) HWY_ATTR {
        y.ask_ahead(i, j);
        dy.ask_ahead(i, j);
        return YAndDy{take2(y.at(i, j), extent), take2(dy.at(i, j), extent)};
      });
    });
    if (last % kSumRows == 0) sums.join();
  }
  sums.finish();
  for (std::int64_t i = 0; i < size.length; ++i) {
    each_two(size.count, [&](std::int64_t j, auto extent) HWY_ATTR {
      y.ask_ahead(i, j);
      dy.ask_ahead(i, j);
      const Two d = sums.slope(j, take2(y.at(i, j), extent), take2(dy.at(i, j), extent), dx.at(i, j));
      write2<kStream>(d, dx.at(i, j), extent);
    });
  }
}

template <class F>
HWY_INLINE void for_each_block(Columns size, const F& body) {
  for (std::int64_t first = 0; first < size.count; first += size.width) {
    body(first, Columns{size.length, std::min(size.width, size.count - first), size.width});
  }
}

/// Calls body.operator()<T, kLog, kStream>() for what `mode` says.
template <class F>
HWY_INLINE void with_mode(Mode mode, const F& body) {
  dispatch_floating(mode.dtype, "softmax", [&]<class T>() {
    if (mode.log) {
      mode.stream ? body.template operator()<T, true, true>() : body.template operator()<T, true, false>();
    } else {
      mode.stream ? body.template operator()<T, false, true>() : body.template operator()<T, false, false>();
    }
  });
}

void softmax_row(Mode mode, const void* x, void* out, float* scratch, std::int64_t count) {
  with_mode(mode, [&]<class T, bool kLog, bool kStream>() {
    if constexpr (kLog) {
      log_softmax_row_as<T, kStream>(static_cast<const T*>(x), static_cast<T*>(out), count);
    } else {
      softmax_row_as<T, kStream>(static_cast<const T*>(x), static_cast<T*>(out), scratch, count);
    }
  });
}

void softmax_grad_row(Mode mode, const void* y, const void* dy, void* dx, std::int64_t count) {
  with_mode(mode, [&]<class T, bool kLog, bool kStream>() {
    const auto* p = static_cast<const T*>(y);
    const auto* g = static_cast<const T*>(dy);
    if constexpr (kLog) {
      log_softmax_grad_row_as<T, kStream>(p, g, static_cast<T*>(dx), count);
    } else {
      softmax_grad_row_as<T, kStream>(p, g, static_cast<T*>(dx), count);
    }
  });
}

void softmax_columns(Mode mode, const void* x, std::int64_t x_step, void* out, std::int64_t out_step,
                     void* scratch, Columns size) {
  with_mode(mode, [&]<class T, bool kLog, bool kStream>() {
    for_each_block(size, [&](std::int64_t first, Columns block) {
      const Block<const T> from{static_cast<const T*>(x) + first, x_step};
      const Block<T> to{static_cast<T*>(out) + first, out_step};
      if (scratch != nullptr) {
        softmax_columns_kept<T, kLog, kStream>(from, to, static_cast<float*>(scratch), block);
      } else {
        softmax_columns_reread<T, kLog, kStream>(from, to, block);
      }
    });
  });
}

void softmax_grad_columns(Mode mode, const void* y, std::int64_t y_step, const void* dy, std::int64_t dy_step,
                          void* dx, std::int64_t dx_step, void* scratch, Columns size) {
  with_mode(mode, [&]<class T, bool kLog, bool kStream>() {
    for_each_block(size, [&](std::int64_t first, Columns block) {
      const Block<const T> p{static_cast<const T*>(y) + first, y_step};
      const Block<const T> g{static_cast<const T*>(dy) + first, dy_step};
      const Block<T> d{static_cast<T*>(dx) + first, dx_step};
      if (scratch != nullptr) {
        softmax_grad_columns_kept<T, kLog, kStream>(p, g, d, static_cast<T*>(scratch), block);
      } else {
        softmax_grad_columns_reread<T, kLog, kStream>(p, g, d, block);
      }
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace candela
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela::softmax_detail {
namespace {

HWY_EXPORT(softmax_row);
HWY_EXPORT(softmax_grad_row);
HWY_EXPORT(softmax_columns);
HWY_EXPORT(softmax_grad_columns);

}  // namespace

void softmax_row(Mode mode, const void* x, void* out, float* scratch, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(softmax_row)(mode, x, out, scratch, count);
}
void softmax_grad_row(Mode mode, const void* y, const void* dy, void* dx, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(softmax_grad_row)(mode, y, dy, dx, count);
}
void softmax_columns(Mode mode, const void* x, std::int64_t x_step, void* out, std::int64_t out_step,
                     void* scratch, Columns size) {
  HWY_DYNAMIC_DISPATCH(softmax_columns)(mode, x, x_step, out, out_step, scratch, size);
}
void softmax_grad_columns(Mode mode, const void* y, std::int64_t y_step, const void* dy, std::int64_t dy_step,
                          void* dx, std::int64_t dx_step, void* scratch, Columns size) {
  HWY_DYNAMIC_DISPATCH(softmax_grad_columns)(mode, y, y_step, dy, dy_step, dx, dx_step, scratch, size);
}

}  // namespace candela::softmax_detail
#endif
