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

void adamw(const AdamwArgs& args, Stream&) {
  const auto steps = static_cast<double>(args.step);
  const spans::AdamwNumbers numbers{
      .beta1 = static_cast<float>(args.beta1),
      .beta2 = static_cast<float>(args.beta2),
      .rest1 = static_cast<float>(1 - args.beta1),
      .rest2 = static_cast<float>(1 - args.beta2),
      .grad_scale = static_cast<float>(args.grad_scale),
      .keep = static_cast<float>(1 - args.lr * args.weight_decay),
      .step = static_cast<float>(args.lr / (1 - std::pow(args.beta1, steps))),
      .root = static_cast<float>(1 / std::sqrt(1 - std::pow(args.beta2, steps))),
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
}

}  // namespace candela
