#include <cmath>

#include "backend/metal/launch.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string supports(const AdamwArgs& args) {
  if (!is_shader_float(args.param.dtype)) return "takes f32, f16 and bf16 parameters";
  if (args.grad.dtype != args.param.dtype && args.grad.dtype != DType::F32)
    return "the gradient must be f32 or as the parameter";
  if (args.param.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

void adamw(const AdamwArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  const RowMajor grad(engine, args.grad);
  const auto count = static_cast<std::uint32_t>(args.param.numel());
  const auto step = static_cast<double>(args.step);
  const shader::AdamwParams params{count,
                                   static_cast<float>(args.lr),
                                   static_cast<float>(args.beta1),
                                   static_cast<float>(args.beta2),
                                   static_cast<float>(1 - args.beta1),
                                   static_cast<float>(1 - args.beta2),
                                   static_cast<float>(args.eps),
                                   static_cast<float>(1 - args.lr * args.weight_decay),
                                   static_cast<float>(args.grad_scale),
                                   static_cast<float>(1 - std::pow(args.beta1, step)),
                                   static_cast<float>(1 - std::pow(args.beta2, step))};
  const double bytes = 2 * bytes_of(args.param) + bytes_of(args.grad) + 4 * bytes_of(args.m);
  engine.encode("adamw", {0, bytes}, [&](Encoding& encoding) {
    Launch(encoding, "optimizer", "adamw" + suffix(args.param.dtype) + suffix(args.grad.dtype))
        .tensor(args.param)
        .tensor(grad.arg())
        .tensor(args.m)
        .tensor(args.v)
        .params(params)
        .over(count);
  });
}

}  // namespace

void fill_optimizer(KernelTable& table, const Offer&) {
  table.adamw.add("native", supports, adamw);
}

}  // namespace candela::metal
