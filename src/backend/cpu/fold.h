#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "backend/args/reduce.h"

/// The reductions of one element after the other, and of rows element by element.
namespace candela {

/// What a reduction starts from: the neutral element.
template <class A>
constexpr A fold_start(ReduceOp op) {
  if (op == ReduceOp::Max) return -std::numeric_limits<A>::infinity();
  if (op == ReduceOp::Min) return std::numeric_limits<A>::infinity();
  return A{0};
}

/// NaN in either gives NaN.
template <class A>
A fold(ReduceOp op, A total, A x) {
  switch (op) {
    case ReduceOp::Sum:
      return total + x;
    case ReduceOp::SumSquares:
      return total + x * x;
    case ReduceOp::Max:
      return std::isnan(total) || total > x ? total : x;
    case ReduceOp::Min:
      return std::isnan(total) || total < x ? total : x;
  }
  return total;
}

/// How partial results join.
constexpr ReduceOp join_of(ReduceOp op) {
  return op == ReduceOp::SumSquares ? ReduceOp::Sum : op;
}

/// Rows reduced element by element: up to kSumRows rows in f32 (`run`), then joined in f64 (`totals`), so the
/// error does not grow with the number of rows. Every f32 sum over rows goes through here.
template <ReduceOp kOp = ReduceOp::Sum>
class RowTotals {
 public:
  static constexpr std::int64_t kSumRows = 64;

  /// `run` [width] and `totals` [width] are the caller's memory; both start anew.
  RowTotals(float* run, double* totals, std::int64_t width) : run_(run), totals_(totals), width_(width) {
    std::fill_n(run_, width_, fold_start<float>(kOp));
    std::fill_n(totals_, width_, fold_start<double>(kOp));
  }
  RowTotals(const RowTotals&) = delete;
  RowTotals& operator=(const RowTotals&) = delete;
  /// `totals` is complete from here on.
  ~RowTotals() { join(); }

  /// Where the next row is to be folded in; null if the width is 0.
  float* next_row() {
    if (width_ == 0) return nullptr;
    if (rows_ == kSumRows) join();
    ++rows_;
    return run_;
  }

 private:
  void join() {
    for (std::int64_t i = 0; i < width_; ++i) {
      totals_[i] = fold(join_of(kOp), totals_[i], static_cast<double>(run_[i]));
      run_[i] = fold_start<float>(kOp);
    }
    rows_ = 0;
  }

  float* run_;
  double* totals_;
  std::int64_t width_, rows_ = 0;
};

}  // namespace candela
