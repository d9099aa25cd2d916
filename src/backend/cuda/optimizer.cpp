#include "backend/cuda/kernels/optimizer.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

std::string supports(const AdamwArgs& args) {
  const std::string refusal = refuse_other_floats(args.param);
  return refusal.empty() ? refuse_other_floats(args.grad) : refusal;
}

void adamw(const AdamwArgs& args, Stream& stream) {
  AdamwParams params{};
  params.param = args.param.data;
  params.grad = args.grad.data;
  params.m = args.m.as<float>();
  params.v = args.v.as<float>();
  params.count = args.param.numel();
  params.beta1 = static_cast<float>(args.beta1);
  params.one_less_beta1 = static_cast<float>(1 - args.beta1);
  params.beta2 = static_cast<float>(args.beta2);
  params.one_less_beta2 = static_cast<float>(1 - args.beta2);
  params.eps = static_cast<float>(args.eps);
  params.factors = args.factors.as<float>();
  check(launch_adamw(params, type_of(args.param), type_of(args.grad), stream_of(stream).handle()), "adamw");
}

void adamw_factors(const AdamwFactorsArgs& args, Stream& stream) {
  const AdamwFactorsParams params{args.loss.as<float>(),
                                  args.squares.as<float>(),
                                  args.learning_rate.as<float>(),
                                  args.updates.as<float>(),
                                  args.factors.as<float>(),
                                  args.beta1,
                                  args.beta2,
                                  args.weight_decay,
                                  args.clip_norm};
  check(launch_adamw_factors(params, stream_of(stream).handle()), "adamw_factors");
}

}  // namespace

void fill_optimizer(KernelTable& table, const Offer&) {
  table.adamw.add("native", supports, adamw);
  table.adamw_factors.add("native", supports_all<AdamwFactorsArgs>, adamw_factors);
}

}  // namespace candela::cuda
