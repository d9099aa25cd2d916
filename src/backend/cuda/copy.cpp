#include "backend/cuda/kernels/copy.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

std::string fill_supports(const FillArgs& args) {
  // The value travels as f64, which holds every whole number up to 2^53.
  return args.value > 0x1p53 || args.value < -0x1p53 ? "the value needs more than 53 bits" : "";
}

void copy(const CopyArgs& args, Stream& stream) {
  check(launch_copy(loop_params<2>({args.out, args.x}), type_of(args.out), type_of(args.x),
                    stream_of(stream).handle()),
        "copy");
}

void fill(const FillArgs& args, Stream& stream) {
  check(launch_fill(loop_params<1>({args.out}), type_of(args.out), args.value, stream_of(stream).handle()),
        "fill");
}

}  // namespace

void fill_copy(KernelTable& table, const Offer&) {
  table.copy.add("native", supports_all<CopyArgs>, copy);
  table.fill.add("native", fill_supports, fill);
}

}  // namespace candela::cuda
