#include <algorithm>
#include <cmath>

#include "backend/cpu/blocks.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/optimizer_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

/// What all elements share in one step (args/optimizer.h). one_minus_beta: from beta before it is rounded.
struct AdamwNumbers {
  float beta1, beta2, one_minus_beta1, one_minus_beta2, grad_scale, keep, step, root, eps;
};

void adamw_span(float* param, const float* grad, float* m, float* v, std::int64_t count,
                const AdamwNumbers& numbers) {
  const auto beta1 = splat(numbers.beta1);
  const auto beta2 = splat(numbers.beta2);
  const auto one_minus_beta1 = splat(numbers.one_minus_beta1);
  const auto one_minus_beta2 = splat(numbers.one_minus_beta2);
  for (std::int64_t i = 0; i < count; i += lanes()) {
    const std::int64_t left = count - i;
    const auto g = hn::Mul(take(grad + i, left), splat(numbers.grad_scale));
    const auto new_m = hn::MulAdd(beta1, take(m + i, left), hn::Mul(one_minus_beta1, g));
    const auto new_v = hn::MulAdd(beta2, take(v + i, left), hn::Mul(hn::Mul(one_minus_beta2, g), g));
    const auto size = hn::MulAdd(splat(numbers.root), hn::Sqrt(new_v), splat(numbers.eps));
    const auto move = hn::Div(hn::Mul(splat(numbers.step), new_m), size);
    put(hn::Sub(hn::Mul(splat(numbers.keep), take(param + i, left)), move), param + i, left);
    put(new_m, m + i, left);
    put(new_v, v + i, left);
  }
}

void adamw(const AdamwArgs& args) {
  const auto factor = [&](AdamwFactor which) { return args.factors.as<float>()[static_cast<int>(which)]; };
  if (factor(AdamwFactor::Apply) == 0) return;
  const AdamwNumbers numbers{
      .beta1 = static_cast<float>(args.beta1),
      .beta2 = static_cast<float>(args.beta2),
      .one_minus_beta1 = static_cast<float>(1 - args.beta1),
      .one_minus_beta2 = static_cast<float>(1 - args.beta2),
      .grad_scale = factor(AdamwFactor::GradScale),
      .keep = factor(AdamwFactor::Keep),
      .step = factor(AdamwFactor::StepSize),
      .root = factor(AdamwFactor::Root),
      .eps = static_cast<float>(args.eps),
  };
  dispatch_floating(args.param.dtype, "adamw", [&]<class P>() {
    dispatch_floating(args.grad.dtype, "adamw", [&]<class G>() {
      parallel_for(args.param.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
        alignas(64) float param_buffer[kBlock];
        alignas(64) float grad_buffer[kBlock];
        for (std::int64_t at = begin; at < end; at += kBlock) {
          const std::int64_t count = std::min(kBlock, end - at);
          P* param = args.param.as<P>() + at;
          float* target = float_target(param, 1, param_buffer);
          read_floats(param, 1, count, target);
          const float* grad = read_floats(args.grad.as<G>() + at, 1, count, grad_buffer);
          adamw_span(target, grad, args.m.as<float>() + at, args.v.as<float>() + at, count, numbers);
          write_floats(target, param, 1, count);
        }
      });
    });
  });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(adamw);

void run_adamw(const AdamwArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(adamw)(args);
}

void adamw_factors(const AdamwFactorsArgs& args, Stream&) {
  const auto factor = [&](AdamwFactor which) -> float& {
    return args.factors.as<float>()[static_cast<int>(which)];
  };
  const double squares = *args.squares.as<float>();
  if (!std::isfinite(*args.loss.as<float>()) || !std::isfinite(squares)) {
    std::fill_n(args.factors.as<float>(), kAdamwFactors, 0.0F);
    return;
  }
  const double rate = *args.learning_rate.as<float>();
  const double steps = *args.updates.as<float>() += 1;
  // As torch.nn.utils.clip_grad_norm_: the small term keeps a zero norm from dividing.
  const double scale = args.clip_norm > 0 ? std::min(1.0, args.clip_norm / (std::sqrt(squares) + 1e-6)) : 1.0;
  factor(AdamwFactor::Apply) = 1;
  factor(AdamwFactor::GradScale) = static_cast<float>(scale);
  factor(AdamwFactor::Keep) = static_cast<float>(1 - rate * args.weight_decay);
  factor(AdamwFactor::StepSize) = static_cast<float>(rate / (1 - std::pow(args.beta1, steps)));
  factor(AdamwFactor::Root) = static_cast<float>(1 / std::sqrt(1 - std::pow(args.beta2, steps)));
}

std::string supports_adamw(const AdamwArgs& args) {
  const std::string refusal = refuse_f64(args.param);
  return refusal.empty() ? refuse_f64(args.grad) : refusal;
}

}  // namespace

void fill_optimizer(KernelTable& table) {
  table.adamw.add("highway", supports_adamw, run_adamw);
  table.adamw_factors.add("scalar", supports_all<AdamwFactorsArgs>, adamw_factors);
}

}  // namespace candela
#endif
