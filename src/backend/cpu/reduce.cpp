#include <cmath>
#include <limits>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/table.h"
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

/// The sum over pieces of at most 1024 elements keeps the rounding error of long rows small.
template <class T, class A>
A fold_all(ReduceOp op, const T* x, const Loops<1>& loops) {
  constexpr std::int64_t kPiece = 1024;
  A total = start<A>(op);
  const ReduceOp join = op == ReduceOp::SumSquares ? ReduceOp::Sum : op;
  A piece = start<A>(op);
  std::int64_t in_piece = 0;
  const std::int64_t stride = loops.strides[0][loops.rank - 1];
  for (std::int64_t i = 0; i < loops.outer(); ++i) {
    std::int64_t offset[1];
    loops.offsets(i, offset);
    for (std::int64_t j = 0; j < loops.inner(); ++j) {
      piece = fold<A>(op, piece, A(x[offset[0] + j * stride]));
      if (++in_piece == kPiece) {
        total = fold<A>(join, total, piece);
        piece = start<A>(op);
        in_piece = 0;
      }
    }
  }
  return fold<A>(join, total, piece);
}

void reduce(const ReduceArgs& args, Stream&) {
  dispatch_plain(args.x.dtype, "reduce", [&]<class T>() {
    using A = AccumulatorOf<T>;
    const Split split(args);
    const Loops<2> outer({split.kept, args.out});
    const Loops<1> inner({split.folded});
    const std::int64_t count = args.out.numel();
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(split.folded.numel(), 1));
    parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        std::int64_t at[2];
        outer.offsets(i / outer.inner(), at);
        const std::int64_t j = i % outer.inner();
        const T* x = args.x.as<T>() + at[0] + j * outer.strides[0][outer.rank - 1];
        args.out.as<T>()[at[1] + j * outer.strides[1][outer.rank - 1]] = T(fold_all<T, A>(args.op, x, inner));
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
    parallel_for(args.out.numel(), std::max<std::int64_t>(1, (1 << 14) / length), [&](std::int64_t begin, std::int64_t end) {
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

}  // namespace

void fill_reduce(KernelTable& table) {
  table.reduce.add("loops", supports_all, reduce);
  table.argmax.add("loops", supports_all, argmax);
}

}  // namespace candela
