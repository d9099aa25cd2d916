#include "backend/cuda/kernels/matmul.h"

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

std::string native_supports(const MatmulArgs& args) {
  constexpr std::int64_t kMost = 65535;
  std::int64_t batch = 1;
  for (int d = 0; d + 2 < args.out.rank; ++d) batch *= args.out.shape[d];
  if (batch > kMost || args.out.shape[args.out.rank - 2] > kMost * 64)
    return "takes at most 65535 matrices of 65535 tiles";
  return refuse_other_floats(args.a);
}

void native(const MatmulArgs& args, CudaStream& stream) {
  MatmulParams params;
  params.a = matrix_params(args.a);
  params.b = matrix_params(args.b);
  params.out = matrix_params(args.out);
  params.alpha = static_cast<float>(args.alpha);
  params.beta = static_cast<float>(args.beta);
  if (args.bias.present()) {
    params.bias = args.bias.data;
    params.bias_type = type_of(args.bias);
    params.bias_step = args.bias.strides[0];
  }
  for (int d = 0; d + 2 < args.out.rank; ++d) {
    params.batch *= args.out.shape[d];
    params.batch_shape[d] = args.out.shape[d];
    params.batch_strides[0][d] = args.a.strides[d];
    params.batch_strides[1][d] = args.b.strides[d];
    params.batch_strides[2][d] = args.out.strides[d];
    ++params.batch_rank;
  }
  check(launch_matmul(params, stream.handle()), "matmul");
}

}  // namespace

void enqueue_product(CudaStream& stream, const MatmulArgs& args) {
  if (args.out.numel() == 0) return;
  if (stream.blas() != nullptr && Blas::supports(args).empty() && stream.blas()->run(args)) return;
  native(args, stream);
}

void fill_matmul(KernelTable& table, const Offer& offer) {
  if (offer.blas) {
    table.matmul.add("cublaslt", Blas::supports, [](const MatmulArgs& args, Stream& given) {
      CudaStream& stream = stream_of(given);
      // The heuristic may know no algorithm for an odd alignment.
      if (!stream.blas()->run(args)) native(args, stream);
    });
  }
  table.matmul.add("native", native_supports,
                   [](const MatmulArgs& args, Stream& stream) { native(args, stream_of(stream)); });
}

}  // namespace candela::cuda
