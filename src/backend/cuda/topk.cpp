#include "backend/cuda/kernels/topk.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

std::string supports(const TopkArgs& args) {
  if (args.x.last() > std::numeric_limits<std::int32_t>::max())
    return "takes rows of at most 2^31 - 1 elements";
  return refuse_other_floats(args.x);
}

void topk(const TopkArgs& args, Stream& stream) {
  check(launch_topk(row_params<3>({args.x, args.values, args.indices}, args.x.rank - 1), args.k,
                    type_of(args.x), stream_of(stream).handle()),
        "topk");
}

}  // namespace

void fill_topk(KernelTable& table, const Offer&) {
  table.topk.add("native", supports, topk);
}

}  // namespace candela::cuda
