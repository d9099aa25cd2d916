#include "backend/cuda/kernels/rope.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

void rope(const RopeArgs& args, Stream& given) {
  CudaStream& stream = stream_of(given);
  RopeParams params{};
  params.x = args.x.data;
  params.out = args.out.data;
  for (int d = 0; d < 4; ++d) params.shape[d] = args.x.shape[d];
  for (int d = 0; d < 3; ++d) {
    params.x_strides[d] = args.x.strides[d];
    params.out_strides[d] = args.out.strides[d];
  }
  params.cos = args.cos.as<float>();
  params.sin = args.sin.as<float>();
  params.cos_stride = args.cos.strides[0];
  params.sin_stride = args.sin.strides[0];
  params.length = args.cos.shape[0];
  params.half = args.cos.shape[1];
  params.positions = args.positions.as<std::int32_t>();
  params.position_strides[0] = args.positions.strides[0];
  params.position_strides[1] = args.positions.strides[1];
  params.inverse = args.inverse;
  params.fault = stream.fault();
  check(launch_rope(params, type_of(args.x), stream.handle()), "rope");
}

std::string supports(const RopeArgs& args) {
  if (args.cos.strides[1] != 1 && args.cos.shape[1] > 1) return "needs tables of unit last stride";
  if (args.sin.strides[1] != 1 && args.sin.shape[1] > 1) return "needs tables of unit last stride";
  return refuse_other_floats(args.x);
}

}  // namespace

void fill_rope(KernelTable& table, const Offer&) {
  table.rope.add("native", supports, rope);
}

}  // namespace candela::cuda
