#include <algorithm>
#include <cmath>

#include "backend/cpu/blocks.h"
#include "backend/cpu/row_spans.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

std::string supports_adamw(const AdamwArgs& args) {
  const std::string refusal = refuse_f64(args.param);
  return refusal.empty() ? refuse_f64(args.grad) : refusal;
}

float& at(const TensorArg& factors, AdamwFactor which) {
  return factors.as<float>()[static_cast<int>(which)];
}

void adamw_factors(const AdamwFactorsArgs& args, Stream&) {
  const double squares = *args.squares.as<float>();
  if (!std::isfinite(*args.loss.as<float>()) || !std::isfinite(squares)) {
    std::fill_n(args.factors.as<float>(), kAdamwFactors, 0.0F);
    return;
  }
  const double rate = *args.learning_rate.as<float>();
  const double steps = *args.updates.as<float>() += 1;
  // As torch.nn.utils.clip_grad_norm_: the small term keeps a zero norm from dividing.
  const double scale =
      args.clip_norm > 0 ? std::min(1.0, args.clip_norm / (std::sqrt(squares) + 1e-6)) : 1.0;
  at(args.factors, AdamwFactor::Apply) = 1;
  at(args.factors, AdamwFactor::GradScale) = static_cast<float>(scale);
  at(args.factors, AdamwFactor::Keep) = static_cast<float>(1 - rate * args.weight_decay);
  at(args.factors, AdamwFactor::StepSize) = static_cast<float>(rate / (1 - std::pow(args.beta1, steps)));
  at(args.factors, AdamwFactor::Root) = static_cast<float>(1 / std::sqrt(1 - std::pow(args.beta2, steps)));
}

void adamw(const AdamwArgs& args, Stream&) {
  if (at(args.factors, AdamwFactor::Apply) == 0) return;
  const spans::AdamwNumbers numbers{
      .beta1 = static_cast<float>(args.beta1),
      .beta2 = static_cast<float>(args.beta2),
      .rest1 = static_cast<float>(1 - args.beta1),
      .rest2 = static_cast<float>(1 - args.beta2),
      .grad_scale = at(args.factors, AdamwFactor::GradScale),
      .keep = at(args.factors, AdamwFactor::Keep),
      .step = at(args.factors, AdamwFactor::StepSize),
      .root = at(args.factors, AdamwFactor::Root),
      .eps = static_cast<float>(args.eps),
  };
  dispatch_floating(args.param.dtype, "adamw", [&]<class P>() {
    dispatch_floating(args.grad.dtype, "adamw", [&]<class G>() {
      parallel_for(args.param.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
        alignas(64) float param_scratch[kBlock];
        alignas(64) float grad_scratch[kBlock];
        for (std::int64_t at = begin; at < end; at += kBlock) {
          const std::int64_t count = std::min(kBlock, end - at);
          P* param = args.param.as<P>() + at;
          float* target = float_target(param, 1, param_scratch);
          read_floats(param, 1, count, target);
          const float* grad = read_floats(args.grad.as<G>() + at, 1, count, grad_scratch);
          spans::adamw(target, grad, args.m.as<float>() + at, args.v.as<float>() + at, count, numbers);
          write_floats(target, param, 1, count);
        }
      });
    });
  });
}

}  // namespace

void fill_optimizer(KernelTable& table) {
  table.adamw.add("highway", supports_adamw, adamw);
  table.adamw_factors.add("scalar", supports_all<AdamwFactorsArgs>, adamw_factors);
}

}  // namespace candela
