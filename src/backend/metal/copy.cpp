#include "backend/metal/launch.h"
#include "backend/metal/loop_params.h"
#include "backend/metal/operand.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string supports_dtype(const TensorArg& arg) {
  if (arg.dtype == DType::F64) return "Metal has no f64";
  if (arg.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

std::string copy_supports(const CopyArgs& args) {
  const std::string refusal = supports_dtype(args.x);
  return refusal.empty() ? supports_dtype(args.out) : refusal;
}

void copy(const CopyArgs& args, Stream& stream) {
  encode_copy(static_cast<Engine&>(stream), args.x, args.out);
}

std::string fill_supports(const FillArgs& args) {
  // The value travels as f32, which holds every whole number up to 2^24.
  if (!is_shader_float(args.out.dtype) && (args.value > 0x1p24 || args.value < -0x1p24))
    return "the value needs more than 24 bits";
  return supports_dtype(args.out);
}

void fill(const FillArgs& args, Stream& stream) {
  const Loops<1> loops({args.out});
  const shader::FillParams params{loop_params(loops), static_cast<float>(args.value)};
  static_cast<Engine&>(stream).encode("fill", {0, bytes_of(args.out)}, [&](Encoding& encoding) {
    Launch(encoding, "copy", "fill" + suffix(args.out.dtype))
        .tensor(args.out)
        .params(params)
        .over(static_cast<std::size_t>(loops.inner()), static_cast<std::size_t>(loops.outer()));
  });
}

}  // namespace

void encode_copy(Engine& engine, const TensorArg& x, const TensorArg& out) {
  const Loops<2> loops({out, x});
  const shader::LoopParams params = loop_params(loops);
  engine.encode("copy", {0, bytes_of(x) + bytes_of(out)}, [&](Encoding& encoding) {
    Launch(encoding, "copy", "copy" + suffix(out.dtype) + suffix(x.dtype))
        .tensor(out)
        .tensor(x)
        .params(params)
        .over(static_cast<std::size_t>(loops.inner()), static_cast<std::size_t>(loops.outer()));
  });
}

void fill_copy(KernelTable& table, const Offer&) {
  table.copy.add("native", copy_supports, copy);
  table.fill.add("native", fill_supports, fill);
}

}  // namespace candela::metal
