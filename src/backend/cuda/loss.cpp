#include "backend/cuda/kernels/loss.h"

#include <algorithm>
#include <bit>

#include "backend/cuda/kernels/copy.h"
#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

CrossEntropyParams forward_params(const TensorArg& logits, const TensorArg& targets, const TensorArg& lse,
                                  std::int64_t ignored, Fault* fault) {
  CrossEntropyParams params{};
  params.logits = logits.data;
  params.rows = logits.shape[0];
  params.classes = logits.shape[1];
  params.row_stride = logits.strides[0];
  params.column_stride = logits.strides[1];
  params.targets = targets.data;
  params.target_step = targets.strides[0];
  params.lse = lse.as<float>();
  params.lse_step = lse.strides[0];
  params.ignored = ignored;
  params.fault = fault;
  return params;
}

void cross_entropy(const CrossEntropyArgs& args, Stream& given) {
  CudaStream& stream = stream_of(given);
  CrossEntropyParams params =
      forward_params(args.logits, args.targets, args.lse, args.ignore_index, stream.fault());
  params.loss = args.loss.as<float>();
  params.loss_step = args.loss.strides[0];
  check(launch_cross_entropy(params, type_of(args.logits), type_of(args.targets), stream.handle()),
        "cross_entropy");
}

void cross_entropy_grad(const CrossEntropyGradArgs& args, Stream& given) {
  CudaStream& stream = stream_of(given);
  CrossEntropyGradParams params{};
  params.forward = forward_params(args.logits, args.targets, args.lse, args.ignore_index, stream.fault());
  params.dloss = args.dloss.as<float>();
  params.dloss_step = args.dloss.strides[0];
  params.dlogits = args.dlogits.data;
  params.dlogits_row = args.dlogits.strides[0];
  params.dlogits_column = args.dlogits.strides[1];
  check(launch_cross_entropy_grad(params, type_of(args.logits), type_of(args.targets), stream.handle()),
        "cross_entropy_grad");
}

/// Rows of logits that exist at once: 1 GiB of f32 at most, 128 at least so that the weight is not read too
/// often, 4096 at most; a power of two, so that the products' tiles are whole.
std::int64_t chunk_rows(std::int64_t rows, std::int64_t classes) {
  const std::int64_t fitting =
      std::clamp<std::int64_t>((std::int64_t{1} << 28U) / std::max<std::int64_t>(classes, 1), 128, 4096);
  const auto most = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(fitting)));
  return std::min(std::max<std::int64_t>(rows, 1), most);
}

void linear_cross_entropy(const LinearCrossEntropyArgs& args, CudaStream* on, Workspace memory) {
  const std::int64_t rows = args.x.shape[0];
  const std::int64_t classes = args.weight.shape[0];
  const std::int64_t most = chunk_rows(rows, classes);
  const bool gradient = args.any_gradient();
  const TensorArg logits = memory.take_tensor({most, classes}, DType::F32);
  // The gradients of an f32 adapter beside 16-bit weights want more digits than the weights'.
  const bool wide = args.x.dtype != DType::F32 && ((args.dlow.present() && args.dlow.dtype == DType::F32) ||
                                                   (args.db.present() && args.db.dtype == DType::F32));
  const TensorArg rounded = wide ? memory.take_tensor({most, classes}, args.x.dtype) : TensorArg();
  auto* losses = memory.take<float>(most);
  if (memory.measuring()) return;
  CudaStream& stream = *on;
  const auto width = static_cast<std::int64_t>(size_of(args.x.dtype));
  for (std::int64_t first = 0; first < rows; first += most) {
    const std::int64_t count = std::min(most, rows - first);
    const TensorArg x = rows_of(args.x, first, count);
    enqueue_product(stream, product(x, swapped(args.weight),
                                    matrix_over(logits.data, DType::F32, count, classes, classes)));
    const TensorArg low = args.low.present() ? rows_of(args.low, first, count) : TensorArg();
    if (low.present())
      enqueue_product(stream, product(low, swapped(args.b),
                                      matrix_over(logits.data, DType::F32, count, classes, classes), 1, 1));
    HeadLossParams params{};
    params.logits = logits.as<float>();
    params.rows = count;
    params.classes = classes;
    params.targets = static_cast<const std::byte*>(args.targets.data) +
                     first * args.targets.strides[0] * static_cast<std::int64_t>(size_of(args.targets.dtype));
    params.target_step = args.targets.strides[0];
    params.loss = losses;
    params.ignored = args.ignore_index;
    params.gradient = gradient;
    params.clusters = stream.limits().major >= 9;
    params.fault = stream.fault();
    check(
        launch_head_loss(params, wide ? Type::F32 : type_of(args.x), type_of(args.targets), stream.handle()),
        "linear_cross_entropy");
    check(launch_sum_rows(params.loss, count, args.loss.as<float>(), first > 0, stream.handle()),
          "linear_cross_entropy");
    // The gradient lies over the logits, row by row.
    const TensorArg gradient_rows =
        wide ? matrix_over(logits.data, DType::F32, count, classes, classes)
             : matrix_over(logits.data, args.x.dtype, count, classes, classes * 4 / width);
    TensorArg dlogits = gradient_rows;
    if (wide) {
      dlogits = rows_of(rounded, 0, count);
      check(
          launch_copy(loop_params<2>({dlogits, gradient_rows}), type_of(dlogits), Type::F32, stream.handle()),
          "linear_cross_entropy");
    }
    if (args.dx.present())
      enqueue_product(stream, product(dlogits, args.weight, rows_of(args.dx, first, count)));
    // Sums over the rows go on from chunk to chunk.
    const double sofar = first > 0 ? 1 : 0;
    if (args.dweight.present()) enqueue_product(stream, product(swapped(dlogits), x, args.dweight, 1, sofar));
    if (args.dlow.present())
      enqueue_product(stream, product(gradient_rows, args.b, rows_of(args.dlow, first, count)));
    if (args.db.present()) enqueue_product(stream, product(swapped(gradient_rows), low, args.db, 1, sofar));
  }
}

std::string linear_supports(const LinearCrossEntropyArgs& args) {
  return refuse_other_floats(args.x);
}

}  // namespace

void fill_loss(KernelTable& table, const Offer&) {
  table.cross_entropy.add(
      "native", [](const CrossEntropyArgs& args) { return refuse_other_floats(args.logits); }, cross_entropy);
  table.cross_entropy_grad.add(
      "native", [](const CrossEntropyGradArgs& args) { return refuse_other_floats(args.logits); },
      cross_entropy_grad);
  add_measured<linear_cross_entropy>(table.linear_cross_entropy, "chunked", linear_supports);
}

}  // namespace candela::cuda
