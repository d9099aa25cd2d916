#include "backend/cpu/reduce.h"

#include <algorithm>
#include <cmath>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/fold.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"
#include "backend/layout.h"

namespace candela {
namespace {

// Any dtype and layout, element by element: the path for f64.

/// In f64, so that the rounding error does not grow with the number of elements.
template <class T>
double fold_all(ReduceOp op, const T* x, const Loops<1>& loops) {
  double total = fold_start<double>(op);
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
                     A max = A(x[0]);
                     for (std::int64_t k = 1; k < length && !std::isnan(max); ++k) {
                       const A value = A(x[k * stride]);
                       if (value > max || std::isnan(value)) {
                         max = value;
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
  fill_reduce_simd(table);
  table.reduce.add("loops", supports_all, reduce);
  table.argmax.add("loops", supports_all, argmax);
}

}  // namespace candela
