#include "backend/cuda/kernels/reduce.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

static_assert(static_cast<int>(Reduction::Sum) == static_cast<int>(ReduceOp::Sum) &&
              static_cast<int>(Reduction::SumSquares) == static_cast<int>(ReduceOp::SumSquares) &&
              static_cast<int>(Reduction::Max) == static_cast<int>(ReduceOp::Max) &&
              static_cast<int>(Reduction::Min) == static_cast<int>(ReduceOp::Min));

ReduceParams reduce_params(const ReduceArgs& args) {
  ReduceParams params;
  params.x = args.x.data;
  params.out = args.out.data;
  params.scale = static_cast<float>(args.scale);
  params.op = static_cast<Reduction>(args.op);
  for (int d = 0; d < args.x.rank; ++d) {
    const std::int64_t size = args.x.shape[d];
    const std::int64_t step = args.x.strides[d];
    if (args.out.shape[d] == size) {
      if (size == 1) continue;
      const int last = params.kept_rank - 1;
      params.kept *= size;
      if (last >= 0 && params.kept_x[last] == step * size &&
          params.kept_out[last] == args.out.strides[d] * size) {
        params.kept_shape[last] *= size;
        params.kept_x[last] = step;
        params.kept_out[last] = args.out.strides[d];
        continue;
      }
      params.kept_shape[params.kept_rank] = size;
      params.kept_x[params.kept_rank] = step;
      params.kept_out[params.kept_rank++] = args.out.strides[d];
    } else {
      const int last = params.reduced_rank - 1;
      params.reduced *= size;
      if (last >= 0 && params.reduced_x[last] == step * size) {
        params.reduced_shape[last] *= size;
        params.reduced_x[last] = step;
        continue;
      }
      params.reduced_shape[params.reduced_rank] = size;
      params.reduced_x[params.reduced_rank++] = step;
    }
  }
  return params;
}

void reduce(const ReduceArgs& args, CudaStream* stream, Workspace memory) {
  ReduceParams params = reduce_params(args);
  if (const std::int64_t parts = reduce_parts(params); parts > 1)
    params.partial = memory.take<float>(parts * params.kept);
  if (memory.measuring()) return;
  check(launch_reduce(params, type_of(args.x), stream->handle()), "reduce");
}

void argmax(const ArgmaxArgs& args, Stream& stream) {
  check(
      launch_argmax(row_params<2>({args.x, args.out}, args.dim), type_of(args.x), stream_of(stream).handle()),
      "argmax");
}

}  // namespace

void fill_reduce(KernelTable& table, const Offer&) {
  add_measured<reduce>(table.reduce, "native",
                       [](const ReduceArgs& args) { return refuse_other_floats(args.x); });
  table.argmax.add(
      "native", [](const ArgmaxArgs& args) { return refuse_other_floats(args.x); }, argmax);
}

}  // namespace candela::cuda
