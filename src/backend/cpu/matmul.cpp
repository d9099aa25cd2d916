#include <algorithm>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
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

/// Any strides and dtypes, one dot product at a time: the path for f64.
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

/// Multiply-adds below which one matrix of a batch is not worth several threads.
constexpr std::int64_t kThreadedWork = std::int64_t{1} << 22U;

Matrix matrix_of(const TensorArg& x, std::int64_t batch) {
  const std::int64_t bytes = batch_offset(x, batch) * static_cast<std::int64_t>(size_of(x.dtype));
  return {x.data == nullptr ? nullptr : static_cast<std::byte*>(x.data) + bytes, x.dtype,
          x.strides[x.rank - 2], x.strides[x.rank - 1]};
}

/// Product `batch` of a batched matmul.
GemmArgs product_of(const MatmulArgs& args, std::int64_t batch) {
  const int r = args.out.rank;
  return {.m = args.out.shape[r - 2],
          .n = args.out.shape[r - 1],
          .k = args.a.shape[r - 1],
          .a = matrix_of(args.a, batch),
          .b = matrix_of(args.b, batch),
          .c = matrix_of(args.out, batch),
          .alpha = args.alpha,
          .beta = args.beta,
          .bias = {args.bias.data, args.bias.dtype, args.bias.data != nullptr ? args.bias.strides[0] : 1}};
}

/// Whether the matrices of a batch are multiplied side by side, each on one thread.
bool side_by_side(const GemmArgs& one, std::int64_t batches) {
  return batches > 1 && one.m * one.n * one.k < kThreadedWork;
}

/// Many small matrices: one per thread. Few or large ones: one after the other, each on all threads.
void matmul_gemm(const MatmulArgs& args, Workspace memory) {
  const GemmArgs first = product_of(args, 0);
  if (first.m == 0 || first.n == 0) return;
  const std::int64_t batches = args.out.numel() / (first.m * first.n);
  if (!side_by_side(first, batches)) {
    if (memory.measuring()) return gemm(first, memory);
    for (std::int64_t i = 0; i < batches; ++i) gemm(product_of(args, i), memory);
    return;
  }
  const std::int64_t work = first.m * first.n * first.k;
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / std::max<std::int64_t>(work, 1));
  WorkspaceSlots slots(memory, concurrent_bodies(batches, grain),
                       measured_workspace([&](Workspace one) { gemm(first, one); }));
  if (memory.measuring()) return;
  parallel_for(batches, grain, [&](std::int64_t begin, std::int64_t end) {
    const WorkspaceSlots::Slot slot(slots);
    for (std::int64_t i = begin; i < end; ++i) gemm(product_of(args, i), slot.workspace());
  });
}

std::string supports_loops(const MatmulArgs& args) {
  return args.a.dtype == DType::F64 ? "" : "the path for f64";
}

std::string supports_gemm(const MatmulArgs& args) {
  return refuse_f64(args.a);
}

}  // namespace

void fill_matmul(KernelTable& table) {
  table.matmul.add_measured<matmul_gemm>("gemm", supports_gemm);
  table.matmul.add("loops", supports_loops, matmul_loops);
  gemm_detail::fill_gemm(table);
}

}  // namespace candela
