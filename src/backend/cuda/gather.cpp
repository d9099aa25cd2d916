#include "backend/cuda/kernels/gather.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

void embedding(const EmbeddingArgs& args, Stream& given) {
  CudaStream& stream = stream_of(given);
  const EmbeddingParams params{args.weight.data,       args.ids.data,          args.out.data,
                               args.weight.shape[0],   args.ids.shape[0],      args.weight.shape[1],
                               args.weight.strides[0], args.weight.strides[1], args.ids.strides[0],
                               args.out.strides[0],    stream.fault()};
  check(launch_embedding(params, type_of(args.weight), type_of(args.ids), stream.handle()), "embedding");
}

std::string embedding_supports(const EmbeddingArgs& args) {
  return args.out.contiguous() ? refuse_other_floats(args.weight) : "writes contiguous rows";
}

void embedding_grad(const EmbeddingGradArgs& args, Stream& stream) {
  const EmbeddingGradParams params{
      args.dy.data,        args.ids.data,           args.dweight.as<float>(), args.dweight.shape[0],
      args.ids.shape[0],   args.dweight.shape[1],   args.dy.strides[0],       args.dy.strides[1],
      args.ids.strides[0], args.dweight.strides[0], args.dweight.strides[1]};
  check(launch_embedding_grad(params, type_of(args.dy), type_of(args.ids), stream_of(stream).handle()),
        "embedding_grad");
}

/// Rows of out (or dy), index and x (or dx) along the gathered dimension; the two first have `picks`
/// elements.
GatherParams gather_params(const TensorArg& picked, const TensorArg& index, const TensorArg& x, int dim,
                           Fault* fault) {
  GatherParams params{};
  params.rows = row_params<3>({picked, index, x}, dim);
  params.length = x.shape[dim];
  params.fault = fault;
  return params;
}

void gather(const GatherArgs& args, Stream& given) {
  CudaStream& stream = stream_of(given);
  check(launch_gather(gather_params(args.out, args.index, args.x, args.dim, stream.fault()), type_of(args.x),
                      type_of(args.index), stream.handle()),
        "gather");
}

void gather_grad(const GatherGradArgs& args, Stream& given) {
  CudaStream& stream = stream_of(given);
  check(launch_gather_grad(gather_params(args.dy, args.index, args.dx, args.dim, stream.fault()),
                           type_of(args.dy), type_of(args.index), stream.handle()),
        "gather_grad");
}

}  // namespace

void fill_gather(KernelTable& table, const Offer&) {
  table.embedding.add("native", embedding_supports, embedding);
  table.embedding_grad.add(
      "native", [](const EmbeddingGradArgs& args) { return refuse_other_floats(args.dy); }, embedding_grad);
  table.gather.add(
      "native", [](const GatherArgs& args) { return refuse_other_floats(args.x); }, gather);
  table.gather_grad.add(
      "native", [](const GatherGradArgs& args) { return refuse_other_floats(args.dy); }, gather_grad);
}

}  // namespace candela::cuda
