#include "backend/cuda/kernels/random.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

void uniform(const UniformArgs& args, Stream& stream) {
  check(launch_uniform(loop_params<1>({args.out}), type_of(args.out),
                       {args.seed, args.offset, args.low, args.high, args.least, args.most},
                       stream_of(stream).handle()),
        "uniform");
}

void normal(const NormalArgs& args, Stream& stream) {
  check(launch_normal(loop_params<1>({args.out}), type_of(args.out),
                      {args.seed, args.offset, args.mean, args.stddev}, stream_of(stream).handle()),
        "normal");
}

void dropout(const DropoutArgs& args, Stream& stream) {
  check(launch_dropout(loop_params<2>({args.out, args.x}), type_of(args.x),
                       {args.seed, args.offset, args.base.as<std::int64_t>(), args.p,
                        static_cast<float>(1 / (1 - args.p))},
                       stream_of(stream).handle()),
        "dropout");
}

}  // namespace

void fill_random(KernelTable& table, const Offer&) {
  table.uniform.add(
      "native", [](const UniformArgs& args) { return refuse_other_floats(args.out); }, uniform);
  table.normal.add(
      "native", [](const NormalArgs& args) { return refuse_other_floats(args.out); }, normal);
  table.dropout.add(
      "native", [](const DropoutArgs& args) { return refuse_other_floats(args.x); }, dropout);
}

}  // namespace candela::cuda
