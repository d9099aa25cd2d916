#include "backend/cpu/softmax.h"

#include <algorithm>

#include "backend/cpu/blocks.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

using softmax_detail::Columns;
using softmax_detail::kMaxColumns;
using softmax_detail::Mode;
using softmax_detail::padded;

std::string supports_softmax(const SoftmaxArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_softmax_grad(const SoftmaxGradArgs& args) {
  return refuse_f64(args.y);
}

/// Whether neighbouring rows lie side by side in every operand, so that whole columns of them can be worked
/// on.
template <int N>
bool side_by_side(const TensorArg (&operands)[N], int dim) {
  const int rank = operands[0].rank;
  if (dim == rank - 1 || operands[0].shape[rank - 1] < 8) return false;
  return std::all_of(operands, operands + N, [&](const TensorArg& x) { return x.strides[rank - 1] == 1; });
}

/// How a softmax by columns is cut: `width` columns at a time, of which `kept` bytes in all stay in the
/// second-level cache between the passes (0 where a column is too long for that).
struct ColumnPlan {
  std::int64_t width = 0, kept = 0;

  /// `bytes`: kept per column.
  ColumnPlan(std::int64_t bytes, std::int64_t columns) {
    constexpr std::int64_t kCache = 768 << 10;  // of a megabyte: the rest is for what comes and goes
    constexpr std::int64_t kFewest = 32;        // a pair of the widest vectors
    const std::int64_t fitting = kCache / std::max<std::int64_t>(bytes, 1);
    const bool fits = fitting >= kFewest;
    width = std::min({columns, kMaxColumns, fits ? fitting / kFewest * kFewest : kMaxColumns});
    kept = fits ? bytes * padded(width) : 0;
  }
};

/// Calls body(offsets, size, kept) for runs of neighbouring columns, in parallel. `bytes`: kept per column.
template <int N, class Body>
void for_each_column_run(const TensorArg (&operands)[N], int dim, std::int64_t bytes, bool stream,
                         Workspace memory, Body&& body) {
  const int last = operands[0].rank - 1;
  const std::int64_t columns = operands[0].shape[last];
  const std::int64_t length = operands[0].shape[dim];
  const ColumnPlan plan(bytes, columns);
  const std::int64_t blocks = (columns + plan.width - 1) / plan.width;
  TensorArg cut[N];
  for (int n = 0; n < N; ++n) {
    cut[n] = operands[n];
    cut[n].shape[dim] = 1;
    cut[n].shape[last] = 1;
  }
  const Loops<N> loops(cut);
  const std::int64_t total = loops.outer() * loops.inner();
  const std::int64_t grain = row_grain(plan.width * length);
  WorkspaceSlots slots(memory, concurrent_bodies(total * blocks, grain), static_cast<std::size_t>(plan.kept));
  if (memory.measuring()) return;
  parallel_for(total * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    const StreamFence fence(stream);
    const WorkspaceSlots::Slot slot(slots);
    void* kept = slot.array<std::byte>(plan.kept);
    for (std::int64_t task = begin; task < end;) {
      // The blocks of this thread that lie in one row of blocks.
      const std::int64_t row = task / blocks;
      const std::int64_t stop = std::min(end, (row + 1) * blocks);
      const std::int64_t first = task % blocks * plan.width;
      const std::int64_t count = std::min(columns, (stop - row * blocks) * plan.width) - first;
      std::int64_t at[N];
      loops.offsets(row / loops.inner(), at);
      for (int n = 0; n < N; ++n) {
        at[n] += row % loops.inner() * loops.strides[n][loops.rank - 1] + first;
      }
      body(at, Columns{length, count, plan.width}, kept);
      task = stop;
    }
  });
}

/// Element `offset` of x.
void* at_offset(const TensorArg& x, std::int64_t offset) {
  return static_cast<std::byte*>(x.data) + offset * static_cast<std::int64_t>(size_of(x.dtype));
}

void softmax(const SoftmaxArgs& args, Workspace memory) {
  const TensorArg operands[] = {args.x, args.out};
  const bool stream = streams_rows(args.out, {args.x});
  if (side_by_side(operands, args.dim)) {
    const Mode mode{args.x.dtype, args.log, stream};
    const std::int64_t length = args.x.shape[args.dim];
    const std::int64_t chunks = (length + softmax_detail::kChunk - 1) / softmax_detail::kChunk;
    const std::int64_t bytes = (length + chunks) * static_cast<std::int64_t>(sizeof(float));
    for_each_column_run(
        operands, args.dim, bytes, stream, memory, [&](const std::int64_t(&at)[2], Columns size, void* kept) {
          softmax_detail::softmax_columns(mode, at_offset(args.x, at[0]), args.x.strides[args.dim],
                                          at_offset(args.out, at[1]), args.out.strides[args.dim], kept, size);
        });
    return;
  }
  const Rows<2> rows(operands, args.dim);
  const Mode mode{args.x.dtype, args.log, stream && rows.strides[1] == 1};
  const std::int64_t grain = row_grain(rows.length);
  const std::int64_t kept = args.log ? 0 : padded(rows.length);
  WorkspaceSlots slots(memory, concurrent_bodies(rows.count, grain),
                       static_cast<std::size_t>(kept) * sizeof(float));
  if (memory.measuring()) return;
  dispatch_floating(args.x.dtype, "softmax", [&]<class T>() {
    parallel_for(rows.count, grain, [&](std::int64_t begin, std::int64_t end) {
      const StreamFence fence(mode.stream);
      const WorkspaceSlots::Slot slot(slots);
      auto* exponentials = slot.array<float>(kept);
      RowReader<T> x(rows, 0);
      RowWriter<T> out(rows, 1);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[2];
        rows.offsets(row, at);
        const T* from = x.read(args.x.as<T>() + at[0]);
        softmax_detail::softmax_row(mode, from, out.target(args.out.as<T>() + at[1]), exponentials,
                                    rows.length);
        out.finish();
      }
    });
  });
}

void softmax_grad(const SoftmaxGradArgs& args, Workspace memory) {
  const TensorArg operands[] = {args.y, args.dy, args.dx};
  const bool stream = streams_rows(args.dx, {args.y, args.dy});
  if (side_by_side(operands, args.dim)) {
    const Mode mode{args.y.dtype, args.log, stream};
    const std::int64_t bytes = 2 * args.y.shape[args.dim] * static_cast<std::int64_t>(size_of(args.y.dtype));
    for_each_column_run(
        operands, args.dim, bytes, stream, memory, [&](const std::int64_t(&at)[3], Columns size, void* kept) {
          softmax_detail::softmax_grad_columns(
              mode, at_offset(args.y, at[0]), args.y.strides[args.dim], at_offset(args.dy, at[1]),
              args.dy.strides[args.dim], at_offset(args.dx, at[2]), args.dx.strides[args.dim], kept, size);
        });
    return;
  }
  if (memory.measuring()) return;
  const Rows<3> rows(operands, args.dim);
  const Mode mode{args.y.dtype, args.log, stream && rows.strides[2] == 1};
  dispatch_floating(args.y.dtype, "softmax_grad", [&]<class T>() {
    parallel_for(rows.count, row_grain(rows.length), [&](std::int64_t begin, std::int64_t end) {
      const StreamFence fence(mode.stream);
      RowReader<T> y(rows, 0);
      RowReader<T> dy(rows, 1);
      RowWriter<T> dx(rows, 2);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[3];
        rows.offsets(row, at);
        const T* p = y.read(args.y.as<T>() + at[0]);
        const T* g = dy.read(args.dy.as<T>() + at[1]);
        softmax_detail::softmax_grad_row(mode, p, g, dx.target(args.dx.as<T>() + at[2]), rows.length);
        dx.finish();
      }
    });
  });
}

}  // namespace

void fill_softmax(KernelTable& table) {
  table.softmax.add_measured<softmax>("highway", supports_softmax);
  table.softmax_grad.add_measured<softmax_grad>("highway", supports_softmax_grad);
}

}  // namespace candela
