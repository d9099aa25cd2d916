#include "backend/cuda/kernels/softmax.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

void softmax(const SoftmaxArgs& args, Stream& stream) {
  check(launch_softmax(row_params<2>({args.x, args.out}, args.dim), type_of(args.x), args.log,
                       stream_of(stream).handle()),
        "softmax");
}

void softmax_grad(const SoftmaxGradArgs& args, Stream& stream) {
  check(launch_softmax_grad(row_params<3>({args.y, args.dy, args.dx}, args.dim), type_of(args.y), args.log,
                            stream_of(stream).handle()),
        "softmax_grad");
}

}  // namespace

void fill_softmax(KernelTable& table, const Offer&) {
  table.softmax.add(
      "native", [](const SoftmaxArgs& args) { return refuse_other_floats(args.x); }, softmax);
  table.softmax_grad.add(
      "native", [](const SoftmaxGradArgs& args) { return refuse_other_floats(args.y); }, softmax_grad);
}

}  // namespace candela::cuda
