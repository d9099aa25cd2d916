#include <algorithm>
#include <cmath>
#include <limits>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/loss.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loss_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

using loss_detail::LogitChunk;
using loss_detail::target_of;

/// log sum exp without rounding the max and log(sum) into one number.
struct RowStatistics {
  float max, sum;
};

template <class T>
RowStatistics row_statistics(const T* row, std::int64_t count) {
  const float max = max_of_row(row, count);
  const Vec shift = splat(max);
  const double sum = sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
    const VecPair v = take2(row + i, extent, -std::numeric_limits<float>::infinity());
    return VecPair{exp_nonpositive(hn::Sub(v.a, shift)), exp_nonpositive(hn::Sub(v.b, shift))};
  });
  return {max, static_cast<float>(sum)};
}

/// out[i] = exp(x[i] - max) factor.
struct ScaledExp {
  Vec max, factor;
  HWY_INLINE Vec operator()(Vec x) const { return hn::Mul(factor, exp_nonpositive(hn::Sub(x, max))); }
};

/// One row of (softmax(x) - onehot(target)) factor. `out` may be x itself.
template <class T, class O>
void gradient_row(const T* x, O* out, std::int64_t count, std::int64_t target, RowStatistics of,
                  float factor) {
  const float at_target = std::exp(convert<float>(x[target]) - of.max) / of.sum;
  map(ScaledExp{splat(of.max), splat(factor / of.sum)}, count, out, x);
  out[target] = convert<O>((at_target - 1) * factor);
}

std::int64_t rows_grain(std::int64_t classes) {
  return std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(classes, 1));
}

bool unit_rows(const TensorArg& x) {
  return x.strides[1] == 1 || x.shape[1] <= 1;
}

/// Rows of logits where they lie.
template <class T>
struct UnitRows {
  const TensorArg& x;
  const T* row(std::int64_t n, float*) const { return x.as<T>() + n * x.strides[0]; }
};
/// Rows of logits with a stride, each copied to f32.
template <class T>
struct CopiedRows {
  const TensorArg& x;
  const float* row(std::int64_t n, float* buffer) const {
    return read_floats(x.as<T>() + n * x.strides[0], x.strides[1], x.shape[1], buffer);
  }
};

/// Calls body(rows, n, buffer) for each row of the logits [N, classes], in parallel.
template <class Body>
void for_each_row(const TensorArg& logits, Workspace memory, const Body& body) {
  const std::int64_t grain = rows_grain(logits.shape[1]);
  const std::int64_t copied = unit_rows(logits) ? 0 : logits.shape[1];
  WorkspaceSlots slots(memory, concurrent_bodies(logits.shape[0], grain),
                       static_cast<std::size_t>(copied) * sizeof(float));
  if (memory.measuring()) return;
  const auto run = [&](const auto& rows) {
    parallel_for(logits.shape[0], grain, [&](std::int64_t begin, std::int64_t end) {
      const WorkspaceSlots::Slot slot(slots);
      auto* const buffer = slot.array<float>(copied);
      for (std::int64_t n = begin; n < end; ++n) body(rows, n, buffer);
    });
  };
  dispatch_floating(logits.dtype, "cross_entropy", [&]<class T>() {
    unit_rows(logits) ? run(UnitRows<T>{logits}) : run(CopiedRows<T>{logits});
  });
}

void cross_entropy(const CrossEntropyArgs& args, Workspace memory) {
  const std::int64_t classes = args.logits.shape[1];
  for_each_row(args.logits, memory, [&](const auto& rows, std::int64_t n, float* buffer) {
    const std::int64_t target = target_of(args.targets, n, classes, args.ignore_index);
    const auto* row = rows.row(n, buffer);
    const RowStatistics of = row_statistics(row, classes);
    const float log_sum = std::log(of.sum);
    args.lse.as<float>()[n * args.lse.strides[0]] = of.max + log_sum;
    args.loss.as<float>()[n * args.loss.strides[0]] =
        target < 0 ? 0 : (of.max - convert<float>(row[target])) + log_sum;
  });
}

/// Beyond this, lse in f32 is too coarse to give softmax(x) = exp(x - lse) to 1e-5, and the row's statistics
/// are taken again.
constexpr float kCoarseLse = 32;

template <class O>
void cross_entropy_grad_as(const CrossEntropyGradArgs& args, Workspace memory) {
  const std::int64_t classes = args.logits.shape[1];
  for_each_row(args.logits, memory, [&](const auto& rows, std::int64_t n, float* buffer) {
    const std::int64_t target = target_of(args.targets, n, classes, args.ignore_index);
    O* out = args.dlogits.as<O>() + n * args.dlogits.strides[0];
    if (target < 0) {
      std::fill_n(out, classes, O(0.0F));
      return;
    }
    const auto* row = rows.row(n, buffer);
    RowStatistics of{args.lse.as<float>()[n * args.lse.strides[0]], 1};
    if (!(std::fabs(of.max) <= kCoarseLse)) of = row_statistics(row, classes);
    gradient_row(row, out, classes, target, of, args.dloss.as<float>()[n * args.dloss.strides[0]]);
  });
}

void cross_entropy_grad(const CrossEntropyGradArgs& args, Workspace memory) {
  dispatch_floating(args.dlogits.dtype, "cross_entropy",
                    [&]<class O>() { cross_entropy_grad_as<O>(args, memory); });
}

void chunk_losses(const LogitChunk& chunk) {
  dispatch_floating(chunk.gradient.dtype, "linear_cross_entropy", [&]<class O>() {
    parallel_for(chunk.count, rows_grain(chunk.classes), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        float* row = chunk.logits + i * chunk.classes;
        const std::int64_t target = chunk.targets[i];
        const RowStatistics of = row_statistics(row, chunk.classes);
        chunk.losses[i] = (of.max - row[target]) + std::log(of.sum);
        if (chunk.gradient.data == nullptr) continue;
        gradient_row(row, static_cast<O*>(chunk.gradient.at(i, 0).data), chunk.classes, target, of, 1);
        if (chunk.replace) gradient_row(row, row, chunk.classes, target, of, 1);
      }
    });
  });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace loss_detail {
namespace {
HWY_EXPORT(chunk_losses);
}  // namespace

std::int64_t target_of(const TensorArg& targets, std::int64_t n, std::int64_t classes,
                       std::int64_t ignore_index) {
  const std::int64_t target = targets.dtype == DType::I64
                                  ? targets.as<std::int64_t>()[n * targets.strides[0]]
                                  : targets.as<std::int32_t>()[n * targets.strides[0]];
  if (target == ignore_index) return -1;
  require(target >= 0 && target < classes,
          "cross_entropy: targets must be in [0, {}) or {} (ignored); got {} in row {}", classes,
          ignore_index, target, n);
  return target;
}

void chunk_losses(const LogitChunk& chunk) {
  HWY_DYNAMIC_DISPATCH(chunk_losses)(chunk);
}

}  // namespace loss_detail

namespace {

HWY_EXPORT(cross_entropy);
HWY_EXPORT(cross_entropy_grad);

void run_cross_entropy(const CrossEntropyArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(cross_entropy)(args, memory);
}
void run_cross_entropy_grad(const CrossEntropyGradArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(cross_entropy_grad)(args, memory);
}

std::string supports_cross_entropy(const CrossEntropyArgs& args) {
  return refuse_f64(args.logits);
}
std::string supports_cross_entropy_grad(const CrossEntropyGradArgs& args) {
  if (auto refusal = refuse_f64(args.logits); !refusal.empty()) return refusal;
  if (args.dlogits.strides[1] != 1 && args.dlogits.shape[1] > 1) return "needs dlogits with unit last stride";
  return {};
}

}  // namespace

void fill_loss_simd(KernelTable& table) {
  table.cross_entropy.add_measured<run_cross_entropy>("highway", supports_cross_entropy);
  table.cross_entropy_grad.add_measured<run_cross_entropy_grad>("highway", supports_cross_entropy_grad);
}

}  // namespace candela
#endif
