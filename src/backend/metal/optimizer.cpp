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

void adamw(const AdamwArgs& args, Engine* on, Workspace memory) {
  const RowMajor grad(on, args.grad, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
  const auto count = static_cast<std::uint32_t>(args.param.numel());
  const shader::AdamwParams params{count,
                                   static_cast<float>(args.beta1),
                                   static_cast<float>(args.beta2),
                                   static_cast<float>(1 - args.beta1),
                                   static_cast<float>(1 - args.beta2),
                                   static_cast<float>(args.eps)};
  const double bytes = 2 * bytes_of(args.param) + bytes_of(args.grad) + 4 * bytes_of(args.m);
  engine.encode("adamw", {0, bytes}, [&](Encoding& encoding) {
    Launch(encoding, "optimizer", "adamw" + suffix(args.param.dtype) + suffix(args.grad.dtype))
        .tensor(args.param)
        .tensor(grad.arg())
        .tensor(args.m)
        .tensor(args.v)
        .tensor(args.factors)
        .params(params)
        .over(count);
  });
}

void adamw_factors(const AdamwFactorsArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  const shader::AdamwFactorsParams params{
      static_cast<float>(std::log(args.beta1)), static_cast<float>(std::log(args.beta2)),
      static_cast<float>(args.weight_decay), static_cast<float>(args.clip_norm)};
  engine.encode("adamw_factors", {0, 4.0 * (4 + kAdamwFactors)}, [&](Encoding& encoding) {
    Launch(encoding, "optimizer", "adamw_factors")
        .tensor(args.loss)
        .tensor(args.squares)
        .tensor(args.learning_rate)
        .tensor(args.updates)
        .tensor(args.factors)
        .params(params)
        .over(1);
  });
}

}  // namespace

void fill_optimizer(KernelTable& table, const Offer&) {
  add_measured<adamw>(table.adamw, "native", supports);
  table.adamw_factors.add("native", supports_all<AdamwFactorsArgs>, adamw_factors);
}

}  // namespace candela::metal
