#include <algorithm>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

/// Element offset of matrix `index` of a batched operand.
std::int64_t batch_offset(const TensorArg& x, std::int64_t index) {
  std::int64_t offset = 0;
  for (int d = x.rank - 3; d >= 0; --d) {
    offset += index % x.shape[d] * x.strides[d];
    index /= x.shape[d];
  }
  return offset;
}

/// Any strides and dtypes, one dot product at a time: the path for layouts no library takes, and for f64.
void matmul_loops(const MatmulArgs& args, Stream&) {
  const int r = args.out.rank;
  const std::int64_t m = args.out.shape[r - 2];
  const std::int64_t n = args.out.shape[r - 1];
  const std::int64_t k = args.a.shape[r - 1];
  const std::int64_t batches = args.out.numel() / (m * n);
  dispatch_plain(args.a.dtype, "matmul", [&]<class T>() {
    dispatch_plain(args.out.dtype, "matmul", [&]<class Out>() {
      using A = AccumulatorOf<T>;
      parallel_for(batches * m, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
          const std::int64_t batch = row / m;
          const std::int64_t i = row % m;
          const T* a = args.a.as<T>() + batch_offset(args.a, batch) + i * args.a.strides[r - 2];
          const T* b = args.b.as<T>() + batch_offset(args.b, batch);
          Out* out = args.out.as<Out>() + batch_offset(args.out, batch) + i * args.out.strides[r - 2];
          for (std::int64_t j = 0; j < n; ++j) {
            A total{0};
            for (std::int64_t p = 0; p < k; ++p) {
              total += A(a[p * args.a.strides[r - 1]]) *
                       A(b[p * args.b.strides[r - 2] + j * args.b.strides[r - 1]]);
            }
            Out& target = out[j * args.out.strides[r - 1]];
            A value = A(args.alpha) * total;
            if (args.beta != 0) value += A(args.beta) * convert<A>(target);
            if (args.bias.present()) value += convert<A>(args.bias.as<T>()[j * args.bias.strides[0]]);
            target = convert<Out>(value);
          }
        }
      });
    });
  });
}

}  // namespace

void fill_matmul(KernelTable& table) { table.matmul.add("loops", supports_all, matmul_loops); }

}  // namespace candela
