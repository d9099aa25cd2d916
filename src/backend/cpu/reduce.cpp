#include <cmath>
#include <limits>
#include <vector>

#include <candela/core/parallel.h>

#include "backend/cpu/blocks.h"
#include "backend/cpu/convert.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"
#include "backend/layout.h"

namespace candela {
namespace {

template <class A>
A start(ReduceOp op) {
  if (op == ReduceOp::Max) return -std::numeric_limits<A>::infinity();
  if (op == ReduceOp::Min) return std::numeric_limits<A>::infinity();
  return A{0};
}

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

/// x split into the dimensions that stay and those that are folded; each as loops of its own.
struct Split {
  TensorArg kept;    // x with the folded dimensions cut to size 1
  TensorArg folded;  // x with the kept dimensions cut to size 1

  explicit Split(const ReduceArgs& args) : kept(args.x), folded(args.x) {
    for (int d = 0; d < args.x.rank; ++d) (args.out.shape[d] == args.x.shape[d] ? folded : kept).shape[d] = 1;
  }
};

/// In f64, so that the rounding error does not grow with the number of elements.
template <class T>
double fold_all(ReduceOp op, const T* x, const Loops<1>& loops) {
  double total = start<double>(op);
  const std::int64_t stride = loops.strides[0][loops.rank - 1];
  for (std::int64_t i = 0; i < loops.outer(); ++i) {
    std::int64_t offset[1];
    loops.offsets(i, offset);
    for (std::int64_t j = 0; j < loops.inner(); ++j) {
      total = fold(op, total, convert<double>(x[offset[0] + j * stride]));
    }
  }
  return total;
}

void reduce(const ReduceArgs& args, Stream&) {
  dispatch_plain(args.x.dtype, "reduce", [&]<class T>() {
    const Split split(args);
    const Loops<2> outer({split.kept, args.out});
    const Loops<1> inner({split.folded});
    const std::int64_t count = args.out.numel();
    const std::int64_t grain =
        std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(split.folded.numel(), 1));
    parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        std::int64_t at[2];
        outer.offsets(i / outer.inner(), at);
        const std::int64_t j = i % outer.inner();
        const T* x = args.x.as<T>() + at[0] + j * outer.strides[0][outer.rank - 1];
        const double result = args.scale * fold_all(args.op, x, inner);
        args.out.as<T>()[at[1] + j * outer.strides[1][outer.rank - 1]] = convert<T>(result);
      }
    });
  });
}

void argmax(const ArgmaxArgs& args, Stream&) {
  dispatch_plain(args.x.dtype, "argmax", [&]<class T>() {
    using A = AccumulatorOf<T>;
    TensorArg kept = args.x;
    kept.shape[args.dim] = 1;
    const Loops<2> loops({kept, args.out});
    const std::int64_t length = args.x.shape[args.dim];
    const std::int64_t stride = args.x.strides[args.dim];
    parallel_for(args.out.numel(), std::max<std::int64_t>(1, (1 << 14) / length),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     std::int64_t at[2];
                     loops.offsets(i / loops.inner(), at);
                     const std::int64_t j = i % loops.inner();
                     const T* x = args.x.as<T>() + at[0] + j * loops.strides[0][loops.rank - 1];
                     std::int64_t best = 0;
                     A top = A(x[0]);
                     for (std::int64_t k = 1; k < length && !std::isnan(top); ++k) {
                       const A value = A(x[k * stride]);
                       if (value > top || std::isnan(value)) {
                         top = value;
                         best = k;
                       }
                     }
                     args.out.as<std::int64_t>()[at[1] + j * loops.strides[1][loops.rank - 1]] = best;
                   }
                 });
  });
}

constexpr std::int64_t kReduceGrain = 1 << 14;

ReduceOp join_of(ReduceOp op) {
  return op == ReduceOp::SumSquares ? ReduceOp::Sum : op;
}

/// A span of any length, reduced a block of floats at a time; the blocks join in f64.
template <class T>
double reduce_span(ReduceOp op, const T* x, std::int64_t count) {
  constexpr std::int64_t kPiece = 4 * kBlock;
  alignas(64) float scratch[kPiece];
  double total = start<double>(op);
  for (std::int64_t at = 0; at < count; at += kPiece) {
    const std::int64_t length = std::min(kPiece, count - at);
    const double piece = spans::reduce(op, read_floats(x + at, 1, length, scratch), length);
    total = fold(join_of(op), total, piece);
  }
  return total;
}

/// The folded elements of one output lie in contiguous spans. Long spans are cut into pieces that threads
/// share; the pieces join in order.
template <class T>
void reduce_spans(const ReduceArgs& args, const Loops<2>& kept, const Loops<1>& folded, Workspace memory) {
  constexpr std::int64_t kPiece = 1 << 16;
  const std::int64_t pieces = (folded.inner() + kPiece - 1) / kPiece;
  const std::int64_t per_output = folded.outer() * pieces;
  const std::int64_t count = args.out.numel() * per_output;
  auto* partial = memory.take<double>(count);
  if (memory.measuring()) return;
  const auto base_of = [&](std::int64_t output, int operand) {
    std::int64_t at[2];
    kept.offsets(output / kept.inner(), at);
    return at[operand] + output % kept.inner() * kept.strides[operand][kept.rank - 1];
  };
  const std::int64_t length = std::min(folded.inner(), kPiece);
  parallel_for(count, std::max<std::int64_t>(1, kReduceGrain / length),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   std::int64_t offset[1];
                   folded.offsets(i % per_output / pieces, offset);
                   const std::int64_t first = i % pieces * kPiece;
                   const T* x = args.x.as<T>() + base_of(i / per_output, 0) + offset[0] + first;
                   partial[i] = reduce_span(args.op, x, std::min(kPiece, folded.inner() - first));
                 }
               });
  for (std::int64_t output = 0; output < args.out.numel(); ++output) {
    double total = start<double>(args.op);
    for (std::int64_t i = 0; i < per_output; ++i) {
      total = fold(join_of(args.op), total, partial[output * per_output + i]);
    }
    args.out.as<T>()[base_of(output, 1)] = T(static_cast<float>(args.scale * total));
  }
}

/// Where a block of neighbouring outputs is folded: runs of kSumRows elements in f32, joined in f64.
class BlockTotals {
 public:
  explicit BlockTotals(ReduceOp op) : op_(op) {}
  void begin(std::int64_t count) {
    count_ = count;
    in_run_ = 0;
    std::fill_n(run_, count, start<float>(op_));
    std::fill_n(totals_, count, start<double>(op_));
  }
  void add(const float* x) {
    spans::fold(op_, x, run_, count_);
    if (++in_run_ == kSumRows) join();
  }
  const double* end() {
    join();
    return totals_;
  }

 private:
  void join() {
    for (std::int64_t i = 0; i < count_; ++i) {
      totals_[i] = fold(join_of(op_), totals_[i], static_cast<double>(run_[i]));
      run_[i] = start<float>(op_);
    }
    in_run_ = 0;
  }

  ReduceOp op_;
  std::int64_t count_ = 0, in_run_ = 0;
  alignas(64) float run_[kBlock];
  double totals_[kBlock];
};

/// Outputs side by side: whole spans of them are folded at once, over chunks of the folded elements that
/// threads share and that join in order.
template <class T>
void reduce_columns(const ReduceArgs& args, const Loops<2>& kept, const Loops<1>& folded, Workspace memory) {
  constexpr std::int64_t kChunks = 16;
  const std::int64_t width = kept.inner();
  const std::int64_t depth = folded.outer() * folded.inner();
  const std::int64_t blocks = (width + kBlock - 1) / kBlock;
  const std::int64_t chunks = std::clamp<std::int64_t>(depth / 64, 1, kChunks);
  auto* partial = memory.take<double>(chunks * width);
  if (memory.measuring()) return;
  for (std::int64_t row = 0; row < kept.outer(); ++row) {
    std::int64_t at[2];
    kept.offsets(row, at);
    const std::int64_t per_task = std::min(width, kBlock) * (depth / chunks + 1);
    parallel_for(chunks * blocks, std::max<std::int64_t>(1, kReduceGrain / per_task),
                 [&](std::int64_t begin, std::int64_t end) {
                   alignas(64) float scratch[kBlock];
                   BlockTotals totals(args.op);
                   for (std::int64_t task = begin; task < end; ++task) {
                     const std::int64_t chunk = task / blocks;
                     const std::int64_t first = task % blocks * kBlock;
                     const std::int64_t count = std::min(kBlock, width - first);
                     totals.begin(count);
                     for (std::int64_t i = depth * chunk / chunks; i < depth * (chunk + 1) / chunks; ++i) {
                       std::int64_t offset[1];
                       folded.offsets(i / folded.inner(), offset);
                       const std::int64_t position =
                           offset[0] + i % folded.inner() * folded.strides[0][folded.rank - 1];
                       const T* x = args.x.as<T>() + at[0] + first + position;
                       totals.add(read_floats(x, 1, count, scratch));
                     }
                     std::copy_n(totals.end(), count, partial + chunk * width + first);
                   }
                 });
    T* out = args.out.as<T>() + at[1];
    parallel_for(width, std::max<std::int64_t>(1, kReduceGrain / chunks),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     double total = partial[i];
                     for (std::int64_t chunk = 1; chunk < chunks; ++chunk) {
                       total = fold(join_of(args.op), total, partial[chunk * width + i]);
                     }
                     out[i * kept.strides[1][kept.rank - 1]] = T(static_cast<float>(args.scale * total));
                   }
                 });
  }
}

/// Which of the two ways fits: the loops over folded or over kept elements must step through memory one by
/// one.
enum class Way : std::uint8_t { Spans, Columns, None };

Way way_of(const ReduceArgs& args) {
  const Split split(args);
  const Loops<2> kept({split.kept, args.out});
  const Loops<1> folded({split.folded});
  if (folded.strides[0][folded.rank - 1] == 1 && folded.inner() >= 8) return Way::Spans;
  if (kept.strides[0][kept.rank - 1] == 1) return Way::Columns;
  return folded.strides[0][folded.rank - 1] == 1 ? Way::Spans : Way::None;
}

std::string supports_fast_reduce(const ReduceArgs& args) {
  if (auto refusal = refuse_f64(args.x); !refusal.empty()) return refusal;
  if (args.x.numel() == 0) return "there is nothing to reduce";
  return way_of(args) == Way::None ? "neither the reduced nor the kept dimensions are contiguous" : "";
}

void reduce_fast(const ReduceArgs& args, Workspace memory) {
  const Split split(args);
  const Loops<2> kept({split.kept, args.out});
  const Loops<1> folded({split.folded});
  dispatch_floating(args.x.dtype, "reduce", [&]<class T>() {
    way_of(args) == Way::Spans ? reduce_spans<T>(args, kept, folded, memory)
                               : reduce_columns<T>(args, kept, folded, memory);
  });
}

std::string supports_fast_argmax(const ArgmaxArgs& args) {
  return refuse_f64(args.x);
}

/// The largest value first, then its first place: both passes run over the row while it is in cache.
void argmax_fast(const ArgmaxArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "argmax", [&]<class T>() {
    TensorArg out = args.out;
    out.strides[args.dim] = 0;  // every element of a row has the one output
    const Rows<2> rows({args.x, out}, args.dim);
    const std::int64_t grain = row_grain(rows.length);
    WorkspaceSlots slots(memory, concurrent_bodies(rows.count, grain),
                         static_cast<std::size_t>(rows.length) * sizeof(float));
    if (memory.measuring()) return;
    parallel_for(rows.count, grain, [&](std::int64_t begin, std::int64_t end) {
      const WorkspaceSlots::Slot slot(slots);
      auto* floats = slot.array<float>(rows.length);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[2];
        rows.offsets(row, at);
        const float* x = read_floats(args.x.as<T>() + at[0], rows.strides[0], rows.length, floats);
        const auto top = static_cast<float>(spans::reduce(ReduceOp::Max, x, rows.length));
        args.out.as<std::int64_t>()[at[1]] = spans::find_first(x, rows.length, top);
      }
    });
  });
}

}  // namespace

void fill_reduce(KernelTable& table) {
  table.reduce.add_measured<reduce_fast>("highway", supports_fast_reduce);
  table.reduce.add("loops", supports_all, reduce);
  table.argmax.add_measured<argmax_fast>("highway", supports_fast_argmax);
  table.argmax.add("loops", supports_all, argmax);
}

}  // namespace candela
