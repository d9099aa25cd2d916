#include "backend/metal/launch.h"
#include "backend/metal/loop_params.h"
#include "backend/metal/operand.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string supports(const TensorArg& out) {
  if (!is_shader_float(out.dtype)) return "takes f32, f16 and bf16";
  if (out.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

/// Counters of four numbers that `count` numbers may lie in, whatever the offset of the first.
std::size_t counters_of(std::int64_t count) {
  return static_cast<std::size_t>(count + 3) / 4 + 1;
}

void uniform(const UniformArgs& args, Stream& stream) {
  const Loops<1> loops({args.out});
  const shader::UniformParams params{loop_params(loops),
                                     static_cast<std::uint32_t>(args.out.numel()),
                                     args.seed,
                                     args.offset,
                                     static_cast<float>(args.high - args.low),
                                     static_cast<float>(args.low),
                                     static_cast<float>(args.least),
                                     static_cast<float>(args.most)};
  static_cast<Engine&>(stream).encode("uniform", {0, bytes_of(args.out)}, [&](Encoding& encoding) {
    Launch(encoding, "random", "uniform" + suffix(args.out.dtype))
        .tensor(args.out)
        .params(params)
        .over(counters_of(args.out.numel()));
  });
}

void normal(const NormalArgs& args, Stream& stream) {
  const Loops<1> loops({args.out});
  const shader::NormalParams params{loop_params(loops), args.seed, args.offset, static_cast<float>(args.mean),
                                    static_cast<float>(args.stddev)};
  static_cast<Engine&>(stream).encode("normal", {0, bytes_of(args.out)}, [&](Encoding& encoding) {
    Launch(encoding, "random", "normal" + suffix(args.out.dtype))
        .tensor(args.out)
        .params(params)
        .over(static_cast<std::size_t>(loops.inner()), static_cast<std::size_t>(loops.outer()));
  });
}

void dropout(const DropoutArgs& args, Stream& stream) {
  const Loops<2> loops({args.out, args.x});
  const shader::DropoutParams params{loop_params(loops),
                                     static_cast<std::uint32_t>(args.x.numel()),
                                     args.seed,
                                     args.offset,
                                     static_cast<float>(args.p),
                                     static_cast<float>(1 / (1 - args.p)),
                                     args.base.present() ? 1U : 0U};
  static_cast<Engine&>(stream).encode("dropout", {0, 2 * bytes_of(args.x)}, [&](Encoding& encoding) {
    Launch launch(encoding, "random", "dropout" + suffix(args.x.dtype));
    launch.tensor(args.out).tensor(args.x);
    if (args.base.present()) {
      launch.tensor(args.base);
    } else {
      launch.params(std::uint64_t{0});  // x may have fewer bytes than a base
    }
    launch.params(params).over(counters_of(args.x.numel()));
  });
}

}  // namespace

void fill_random(KernelTable& table, const Offer&) {
  table.uniform.add(
      "native", [](const UniformArgs& args) { return supports(args.out); }, uniform);
  table.normal.add(
      "native", [](const NormalArgs& args) { return supports(args.out); }, normal);
  table.dropout.add(
      "native", [](const DropoutArgs& args) { return supports(args.x); }, dropout);
}

}  // namespace candela::metal
