#include "backend/cuda/kernels/norm.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

/// An absent operand takes the place of `like`, so that it can stand in the list of rows.
const TensorArg& or_like(const TensorArg& x, const TensorArg& like) {
  return x.present() ? x : like;
}

std::int64_t step_of(const TensorArg& x) {
  return x.present() ? x.strides[0] : 1;
}

/// A vector that all rows share is read in units as they are.
template <int N>
void also_pack(RowParams<N>& rows, const TensorArg& shared) {
  if (!shared.present()) return;
  rows.packed =
      rows.packed && shared.strides[0] == 1 && reinterpret_cast<std::uintptr_t>(shared.data) % 16 == 0;
}

void rms_norm(const RmsNormArgs& args, Stream& stream) {
  RmsNormParams params{};
  params.rows = row_params<4>({args.x, args.out, or_like(args.residual, args.x), or_like(args.sum, args.x)},
                              args.x.rank - 1);
  also_pack(params.rows, args.weight);
  params.weight = args.weight.data;
  params.weight_step = step_of(args.weight);
  params.rstd = args.rstd.as<float>();
  params.eps = static_cast<float>(args.eps);
  params.weight_offset = static_cast<float>(args.weight_offset);
  params.added = args.residual.present();
  check(launch_rms_norm(params, type_of(args.x), stream_of(stream).handle()), "rms_norm");
}

/// Sums over rows of dy times what the rows were scaled from (args/norm.h).
void enqueue_columns(NormColumnParams params, const TensorArg& x, const TensorArg& dy,
                     const TensorArg& dweight, const TensorArg& dbias, CudaStream* stream, Workspace memory) {
  params.rows = row_params<2>({x, dy}, x.rank - 1);
  params.dweight = dweight.as<float>();
  params.dbias = dbias.as<float>();
  params.dweight_step = step_of(dweight);
  params.dbias_step = step_of(dbias);
  const std::int64_t sums = norm_column_parts(params.rows.count) * 2 * params.rows.length;
  params.partial = memory.take<float>(sums);
  if (memory.measuring()) return;
  check(launch_norm_columns(params, type_of(x), stream->handle()), "norm's column sums");
}

void rms_norm_grad(const RmsNormGradArgs& args, CudaStream* stream, Workspace memory) {
  RmsNormGradParams params{};
  params.rows = row_params<4>({args.x, args.dy, args.dx, or_like(args.dsum, args.x)}, args.x.rank - 1);
  also_pack(params.rows, args.weight);
  params.weight = args.weight.data;
  params.weight_step = step_of(args.weight);
  params.rstd = args.rstd.as<float>();
  params.eps = static_cast<float>(args.eps);
  params.weight_offset = static_cast<float>(args.weight_offset);
  params.has_dsum = args.dsum.present();
  if (!memory.measuring())
    check(launch_rms_norm_grad(params, type_of(args.x), stream->handle()), "rms_norm_grad");
  if (!args.dweight.present()) return;
  NormColumnParams columns{};
  columns.rstd = params.rstd;
  enqueue_columns(columns, args.x, args.dy, args.dweight, {}, stream, memory);
}

void layer_norm(const LayerNormArgs& args, Stream& stream) {
  LayerNormParams params{};
  params.rows = row_params<2>({args.x, args.out}, args.x.rank - 1);
  also_pack(params.rows, args.weight);
  also_pack(params.rows, args.bias);
  params.weight = args.weight.data;
  params.bias = args.bias.data;
  params.weight_step = step_of(args.weight);
  params.bias_step = step_of(args.bias);
  params.mean = args.mean.as<float>();
  params.rstd = args.rstd.as<float>();
  params.eps = static_cast<float>(args.eps);
  check(launch_layer_norm(params, type_of(args.x), stream_of(stream).handle()), "layer_norm");
}

void layer_norm_grad(const LayerNormGradArgs& args, CudaStream* stream, Workspace memory) {
  LayerNormGradParams params{};
  params.rows = row_params<3>({args.x, args.dy, args.dx}, args.x.rank - 1);
  also_pack(params.rows, args.weight);
  params.weight = args.weight.data;
  params.weight_step = step_of(args.weight);
  params.mean = args.mean.as<float>();
  params.rstd = args.rstd.as<float>();
  params.residuals = memory.take<float>(params.rows.count);
  if (!memory.measuring())
    check(launch_layer_norm_grad(params, type_of(args.x), stream->handle()), "layer_norm_grad");
  if (!args.dweight.present() && !args.dbias.present()) return;
  NormColumnParams columns{};
  columns.mean = params.mean;
  columns.residuals = params.residuals;
  columns.rstd = params.rstd;
  enqueue_columns(columns, args.x, args.dy, args.dweight, args.dbias, stream, memory);
}

}  // namespace

void fill_norm(KernelTable& table, const Offer&) {
  table.rms_norm.add(
      "native", [](const RmsNormArgs& args) { return refuse_other_floats(args.x); }, rms_norm);
  add_measured<rms_norm_grad>(table.rms_norm_grad, "native",
                              [](const RmsNormGradArgs& args) { return refuse_other_floats(args.x); });
  table.layer_norm.add(
      "native", [](const LayerNormArgs& args) { return refuse_other_floats(args.x); }, layer_norm);
  add_measured<layer_norm_grad>(table.layer_norm_grad, "native",
                                [](const LayerNormGradArgs& args) { return refuse_other_floats(args.x); });
}

}  // namespace candela::cuda
