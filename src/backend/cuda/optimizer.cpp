#include "backend/cuda/kernels/optimizer.h"

#include <cmath>

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

std::string supports(const AdamwArgs& args) {
  const std::string refusal = refuse_other_floats(args.param);
  return refusal.empty() ? refuse_other_floats(args.grad) : refusal;
}

void adamw(const AdamwArgs& args, Stream& stream) {
  const auto steps = static_cast<double>(args.step);
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
  params.keep = static_cast<float>(1 - args.lr * args.weight_decay);
  params.step_size = static_cast<float>(args.lr / (1 - std::pow(args.beta1, steps)));
  params.root = static_cast<float>(1 / std::sqrt(1 - std::pow(args.beta2, steps)));
  params.grad_scale = static_cast<float>(args.grad_scale);
  check(launch_adamw(params, type_of(args.param), type_of(args.grad), stream_of(stream).handle()), "adamw");
}

}  // namespace

void fill_optimizer(KernelTable& table, const Offer&) {
  table.adamw.add("native", supports, adamw);
}

}  // namespace candela::cuda
