#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/cpu/blocks.h"
#include "backend/cpu/row_spans.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

/// Columns that are worked on together when the softmax does not run along the contiguous dimension.
constexpr std::int64_t kColumns = 256;

std::string supports_softmax(const SoftmaxArgs& args) {
  return args.x.dtype == DType::F64 ? "f64 is for references" : "";
}
std::string supports_softmax_grad(const SoftmaxGradArgs& args) {
  return args.y.dtype == DType::F64 ? "f64 is for references" : "";
}

/// Whether neighbouring rows lie side by side in every operand, so that whole columns of them can be worked
/// on.
template <int N>
bool side_by_side(const TensorArg (&operands)[N], int dim) {
  const int rank = operands[0].rank;
  if (dim == rank - 1 || operands[0].shape[rank - 1] < 8) return false;
  return std::all_of(operands, operands + N, [&](const TensorArg& x) { return x.strides[rank - 1] == 1; });
}

/// Calls body(offsets, count) for blocks of at most kColumns neighbouring rows, in parallel.
template <int N, class Body>
void for_each_column_block(const TensorArg (&operands)[N], int dim, Body&& body) {
  const int last = operands[0].rank - 1;
  const std::int64_t width = operands[0].shape[last];
  const std::int64_t blocks = (width + kColumns - 1) / kColumns;
  TensorArg cut[N];
  for (int n = 0; n < N; ++n) {
    cut[n] = operands[n];
    cut[n].shape[dim] = 1;
    cut[n].shape[last] = 1;
  }
  const Loops<N> loops(cut);
  const std::int64_t total = loops.outer() * loops.inner();
  const std::int64_t grain = row_grain(std::min(width, kColumns) * operands[0].shape[dim]);
  parallel_for(total * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      std::int64_t at[N];
      const std::int64_t row = task / blocks;
      const std::int64_t first = task % blocks * kColumns;
      loops.offsets(row / loops.inner(), at);
      for (int n = 0; n < N; ++n) at[n] += row % loops.inner() * loops.strides[n][loops.rank - 1] + first;
      body(at, std::min(kColumns, width - first));
    }
  });
}

template <class T>
void softmax_by_columns(const SoftmaxArgs& args) {
  const std::int64_t length = args.x.shape[args.dim];
  const std::int64_t x_step = args.x.strides[args.dim];
  const std::int64_t out_step = args.out.strides[args.dim];
  for_each_column_block<2>({args.x, args.out}, args.dim, [&](const std::int64_t(&at)[2], std::int64_t count) {
    alignas(64) float scratch[kColumns];
    alignas(64) float result[kColumns];
    alignas(64) float top[kColumns];
    alignas(64) float total[kColumns];
    std::fill(top, top + count, -std::numeric_limits<float>::infinity());
    std::fill(total, total + count, 0.0F);
    const T* x = args.x.as<T>() + at[0];
    T* out = args.out.as<T>() + at[1];
    for (std::int64_t i = 0; i < length; ++i) {
      spans::fold(ReduceOp::Max, read_floats(x + i * x_step, 1, count, scratch), top, count);
    }
    for (std::int64_t i = 0; i < length; ++i) {
      spans::add_exp(read_floats(x + i * x_step, 1, count, scratch), top, total, count);
    }
    if (args.log) spans::unary(UnaryOp::Log, total, total, count, 1, 0);
    for (std::int64_t i = 0; i < length; ++i) {
      float* target = float_target(out + i * out_step, 1, result);
      spans::softmax_columns(read_floats(x + i * x_step, 1, count, scratch), top, total, target, count,
                             args.log);
      write_floats(target, out + i * out_step, 1, count);
    }
  });
}

template <class T>
void softmax_by_rows(const SoftmaxArgs& args) {
  const Rows<2> rows({args.x, args.out}, args.dim);
  const bool stream = streams(args.out, args.x);
  parallel_for(rows.count, row_grain(rows.length), [&](std::int64_t begin, std::int64_t end) {
    const StreamFence fence(stream);
    std::vector<float> scratch(static_cast<std::size_t>(rows.length));
    for (std::int64_t row = begin; row < end; ++row) {
      std::int64_t at[2];
      rows.offsets(row, at);
      T* out = args.out.as<T>() + at[1];
      const float* x = read_floats(args.x.as<T>() + at[0], rows.strides[0], rows.length, scratch.data());
      float* target = float_target(out, rows.strides[1], scratch.data(), stream);
      spans::softmax_row(x, target, rows.length, args.log);
      write_floats(target, out, rows.strides[1], rows.length, stream);
    }
  });
}

void softmax(const SoftmaxArgs& args, Stream&) {
  dispatch_floating(args.x.dtype, "softmax", [&]<class T>() {
    if (side_by_side<2>({args.x, args.out}, args.dim)) {
      softmax_by_columns<T>(args);
    } else {
      softmax_by_rows<T>(args);
    }
  });
}

template <class T>
void softmax_grad_by_columns(const SoftmaxGradArgs& args) {
  const std::int64_t length = args.y.shape[args.dim];
  const std::int64_t steps[3] = {args.y.strides[args.dim], args.dy.strides[args.dim],
                                 args.dx.strides[args.dim]};
  for_each_column_block<3>(
      {args.y, args.dy, args.dx}, args.dim, [&](const std::int64_t(&at)[3], std::int64_t count) {
        alignas(64) float y_scratch[kColumns];
        alignas(64) float dy_scratch[kColumns];
        alignas(64) float result[kColumns];
        alignas(64) float total[kColumns];
        alignas(64) float sum[kColumns];
        std::fill(total, total + count, 0.0F);
        std::fill(sum, sum + count, 0.0F);
        const auto y = [&](std::int64_t i) {
          return read_floats(args.y.as<T>() + at[0] + i * steps[0], 1, count, y_scratch);
        };
        const auto dy = [&](std::int64_t i) {
          return read_floats(args.dy.as<T>() + at[1] + i * steps[1], 1, count, dy_scratch);
        };
        for (std::int64_t i = 0; i < length; ++i) {
          if (args.log) {
            spans::fold(ReduceOp::Sum, dy(i), total, count);
          } else {
            spans::add_products(y(i), dy(i), total, count);
            spans::fold(ReduceOp::Sum, y(i), sum, count);
          }
        }
        // As in softmax_grad_row: divided by the sum of the rounded y.
        if (!args.log) spans::binary(BinaryOp::Div, total, sum, total, count);
        for (std::int64_t i = 0; i < length; ++i) {
          T* dx = args.dx.as<T>() + at[2] + i * steps[2];
          float* target = float_target(dx, 1, result);
          spans::softmax_grad_columns(y(i), dy(i), total, target, count, args.log);
          write_floats(target, dx, 1, count);
        }
      });
}

template <class T>
void softmax_grad_by_rows(const SoftmaxGradArgs& args) {
  const Rows<3> rows({args.y, args.dy, args.dx}, args.dim);
  const bool stream = streams(args.dx, args.y) && streams(args.dx, args.dy);
  parallel_for(rows.count, row_grain(rows.length), [&](std::int64_t begin, std::int64_t end) {
    const StreamFence fence(stream);
    std::vector<float> y_scratch(static_cast<std::size_t>(rows.length));
    std::vector<float> dy_scratch(static_cast<std::size_t>(rows.length));
    for (std::int64_t row = begin; row < end; ++row) {
      std::int64_t at[3];
      rows.offsets(row, at);
      T* dx = args.dx.as<T>() + at[2];
      const float* y = read_floats(args.y.as<T>() + at[0], rows.strides[0], rows.length, y_scratch.data());
      const float* dy = read_floats(args.dy.as<T>() + at[1], rows.strides[1], rows.length, dy_scratch.data());
      float* target = float_target(dx, rows.strides[2], dy_scratch.data(), stream);
      spans::softmax_grad_row(y, dy, target, rows.length, args.log);
      write_floats(target, dx, rows.strides[2], rows.length, stream);
    }
  });
}

void softmax_grad(const SoftmaxGradArgs& args, Stream&) {
  dispatch_floating(args.y.dtype, "softmax_grad", [&]<class T>() {
    if (side_by_side<3>({args.y, args.dy, args.dx}, args.dim)) {
      softmax_grad_by_columns<T>(args);
    } else {
      softmax_grad_by_rows<T>(args);
    }
  });
}

}  // namespace

void fill_softmax(KernelTable& table) {
  table.softmax.add("highway", supports_softmax, softmax);
  table.softmax_grad.add("highway", supports_softmax_grad, softmax_grad);
}

}  // namespace candela
