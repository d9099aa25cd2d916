#include <algorithm>

#include <candela/core/parallel.h>

#include "backend/cpu/blocks.h"
#include "backend/cpu/fold.h"
#include "backend/cpu/reduce.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/reduce_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

template <ReduceOp op>
struct Fold {
  HWY_INLINE Vec operator()(Vec total, Vec x) const {
    if constexpr (op == ReduceOp::Sum) return hn::Add(total, x);
    if constexpr (op == ReduceOp::SumSquares) return hn::MulAdd(x, x, total);
    if constexpr (op == ReduceOp::Max) return max_or_nan(total, x);
    if constexpr (op == ReduceOp::Min) return min_or_nan(total, x);
  }
};

template <class F>
void with_op(ReduceOp op, F&& body) {
  switch (op) {
    case ReduceOp::Sum:
      return body.template operator()<ReduceOp::Sum>();
    case ReduceOp::SumSquares:
      return body.template operator()<ReduceOp::SumSquares>();
    case ReduceOp::Max:
      return body.template operator()<ReduceOp::Max>();
    case ReduceOp::Min:
      return body.template operator()<ReduceOp::Min>();
  }
}

/// Sums in f64: where addends cancel, what f32 loses can exceed the result.
template <ReduceOp op>
double sum_all(const float* x, std::int64_t count) {
  const hn::ScalableTag<double> f64;
  const hn::Rebind<float, hn::ScalableTag<double>> f32;
  const auto add = [&](auto total, std::int64_t i) HWY_ATTR {
    const auto v = hn::PromoteTo(f64, hn::LoadU(f32, x + i));
    return op == ReduceOp::SumSquares ? hn::MulAdd(v, v, total) : hn::Add(total, v);
  };
  const auto step = static_cast<std::int64_t>(hn::Lanes(f64));
  auto a = hn::Zero(f64);
  auto b = a;
  auto c = a;
  auto d = a;
  std::int64_t i = 0;
  for (; i + 4 * step <= count; i += 4 * step) {
    a = add(a, i);
    b = add(b, i + step);
    c = add(c, i + 2 * step);
    d = add(d, i + 3 * step);
  }
  for (; i + step <= count; i += step) a = add(a, i);
  double total = hn::GetLane(hn::SumOfLanes(f64, hn::Add(hn::Add(a, b), hn::Add(c, d))));
  for (; i < count; ++i) {
    const auto v = static_cast<double>(x[i]);
    total += op == ReduceOp::SumSquares ? v * v : v;
  }
  return total;
}

/// The max or min, in four running vectors.
template <ReduceOp op>
float extreme_of(const float* x, std::int64_t count) {
  const Fold<op> fold;
  const auto start = splat(fold_start<float>(op));
  const std::int64_t step = lanes();
  auto a = start;
  auto b = start;
  auto c = start;
  auto d = start;
  std::int64_t i = 0;
  for (; i + 4 * step <= count; i += 4 * step) {
    a = fold(a, load(x + i));
    b = fold(b, load(x + i + step));
    c = fold(c, load(x + i + 2 * step));
    d = fold(d, load(x + i + 3 * step));
  }
  for (; i + step <= count; i += step) a = fold(a, load(x + i));
  if (i < count) b = fold(b, load_some(x + i, count - i, fold_start<float>(op)));
  float values[kLaneBuffer];
  store(fold(fold(a, b), fold(c, d)), values);
  float result = values[0];
  for (i = 1; i < step; ++i) {
    const bool keep = result != result || (op == ReduceOp::Max ? result > values[i] : result < values[i]);
    if (!keep) result = values[i];
  }
  return result;
}

template <ReduceOp op>
double reduce_floats(const float* x, std::int64_t count) {
  if constexpr (op == ReduceOp::Sum || op == ReduceOp::SumSquares) return sum_all<op>(x, count);
  return static_cast<double>(extreme_of<op>(x, count));
}

/// total[i] = total[i] op x[i].
template <ReduceOp op>
void fold_row(const float* x, float* total, std::int64_t count) {
  map(Fold<op>{}, count, total, total, x);
}

/// Position of the first element equal to `value` (or the first NaN if value is NaN); count if there is none.
std::int64_t find_first(const float* x, std::int64_t count, float value) {
  const std::int64_t step = lanes();
  const auto wanted = splat(value);
  const bool nan = value != value;
  std::int64_t i = 0;
  for (; i + step <= count; i += step) {
    const auto here = load(x + i);
    const auto hit = nan ? hn::IsNaN(here) : hn::Eq(here, wanted);
    const auto at = hn::FindFirstTrue(Floats(), hit);
    if (at >= 0) return i + static_cast<std::int64_t>(at);
  }
  for (; i < count; ++i) {
    if (nan ? x[i] != x[i] : x[i] == value) return i;
  }
  return count;
}

constexpr std::int64_t kGrain = 1 << 14;

/// A span of any length, reduced a block of floats at a time; the blocks join in f64.
template <ReduceOp op, class T>
double reduce_span(const T* x, std::int64_t count) {
  constexpr std::int64_t kPiece = 4 * kBlock;
  alignas(64) float buffer[kPiece];
  double total = fold_start<double>(op);
  for (std::int64_t at = 0; at < count; at += kPiece) {
    const std::int64_t length = std::min(kPiece, count - at);
    const double piece = reduce_floats<op>(read_floats(x + at, 1, length, buffer), length);
    total = fold(join_of(op), total, piece);
  }
  return total;
}

/// The folded elements of one output lie in contiguous spans. Long spans are cut into pieces that threads
/// share; the pieces join in order.
template <ReduceOp op, class T>
void reduce_spans(const ReduceArgs& args, const Loops<2>& kept, const Loops<1>& folded, Workspace memory) {
  constexpr std::int64_t kPiece = 1 << 16;
  const std::int64_t pieces = (folded.inner() + kPiece - 1) / kPiece;
  const std::int64_t per_output = folded.outer() * pieces;
  const std::int64_t count = args.out.numel() * per_output;
  auto* partial = memory.take<double>(count);
  if (memory.measuring()) return;
  const auto base_of = [&](std::int64_t output, int operand) {
    std::int64_t at[2];
    kept.offsets(output / kept.inner(), at);
    return at[operand] + output % kept.inner() * kept.strides[operand][kept.rank - 1];
  };
  const std::int64_t length = std::min(folded.inner(), kPiece);
  parallel_for(count, std::max<std::int64_t>(1, kGrain / length), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::int64_t offset[1];
      folded.offsets(i % per_output / pieces, offset);
      const std::int64_t first = i % pieces * kPiece;
      const T* x = args.x.as<T>() + base_of(i / per_output, 0) + offset[0] + first;
      partial[i] = reduce_span<op>(x, std::min(kPiece, folded.inner() - first));
    }
  });
  for (std::int64_t output = 0; output < args.out.numel(); ++output) {
    double total = fold_start<double>(op);
    for (std::int64_t i = 0; i < per_output; ++i) {
      total = fold(join_of(op), total, partial[output * per_output + i]);
    }
    args.out.as<T>()[base_of(output, 1)] = T(static_cast<float>(args.scale * total));
  }
}

/// Outputs side by side: whole spans of them are folded at once, over chunks of the folded elements that
/// threads share and that join in order.
template <ReduceOp op, class T>
void reduce_columns(const ReduceArgs& args, const Loops<2>& kept, const Loops<1>& folded, Workspace memory) {
  constexpr std::int64_t kChunks = 16;
  const std::int64_t width = kept.inner();
  const std::int64_t depth = folded.outer() * folded.inner();
  const std::int64_t blocks = (width + kBlock - 1) / kBlock;
  const std::int64_t chunks = std::clamp<std::int64_t>(depth / 64, 1, kChunks);
  auto* partial = memory.take<double>(chunks * width);
  if (memory.measuring()) return;
  for (std::int64_t row = 0; row < kept.outer(); ++row) {
    std::int64_t at[2];
    kept.offsets(row, at);
    const std::int64_t per_task = std::min(width, kBlock) * (depth / chunks + 1);
    parallel_for(chunks * blocks, std::max<std::int64_t>(1, kGrain / per_task),
                 [&](std::int64_t begin, std::int64_t end) {
                   alignas(64) float buffer[kBlock];
                   alignas(64) float run[kBlock];
                   for (std::int64_t task = begin; task < end; ++task) {
                     const std::int64_t chunk = task / blocks;
                     const std::int64_t first = task % blocks * kBlock;
                     const std::int64_t count = std::min(kBlock, width - first);
                     RowTotals<op> rows(run, partial + chunk * width + first, count);
                     for (std::int64_t i = depth * chunk / chunks; i < depth * (chunk + 1) / chunks; ++i) {
                       std::int64_t offset[1];
                       folded.offsets(i / folded.inner(), offset);
                       const std::int64_t position =
                           offset[0] + i % folded.inner() * folded.strides[0][folded.rank - 1];
                       const T* x = args.x.as<T>() + at[0] + first + position;
                       fold_row<op>(read_floats(x, 1, count, buffer), rows.next_row(), count);
                     }
                   }
                 });
    T* out = args.out.as<T>() + at[1];
    parallel_for(width, std::max<std::int64_t>(1, kGrain / chunks),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     double total = partial[i];
                     for (std::int64_t chunk = 1; chunk < chunks; ++chunk) {
                       total = fold(join_of(op), total, partial[chunk * width + i]);
                     }
                     out[i * kept.strides[1][kept.rank - 1]] = T(static_cast<float>(args.scale * total));
                   }
                 });
  }
}

void reduce(const ReduceArgs& args, Workspace memory) {
  const Split split(args);
  const Loops<2> kept({split.kept, args.out});
  const Loops<1> folded({split.folded});
  const bool spans = contiguous_loops(args) == Contiguous::Folded;
  with_op(args.op, [&]<ReduceOp op>() {
    dispatch_floating(args.x.dtype, "reduce", [&]<class T>() {
      spans ? reduce_spans<op, T>(args, kept, folded, memory)
            : reduce_columns<op, T>(args, kept, folded, memory);
    });
  });
}

/// The max first, then its first place: both passes run over the row while it is in cache.
void argmax(const ArgmaxArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "argmax", [&]<class T>() {
    TensorArg out = args.out;
    out.strides[args.dim] = 0;  // every element of a row has the one output
    const Rows<2> rows({args.x, out}, args.dim);
    const std::int64_t grain = row_grain(rows.length);
    WorkspaceSlots slots(memory, concurrent_bodies(rows.count, grain),
                         static_cast<std::size_t>(rows.length) * sizeof(float));
    if (memory.measuring()) return;
    parallel_for(rows.count, grain, [&](std::int64_t begin, std::int64_t end) {
      const WorkspaceSlots::Slot slot(slots);
      auto* floats = slot.array<float>(rows.length);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[2];
        rows.offsets(row, at);
        const float* x = read_floats(args.x.as<T>() + at[0], rows.strides[0], rows.length, floats);
        const float max = extreme_of<ReduceOp::Max>(x, rows.length);
        args.out.as<std::int64_t>()[at[1]] = find_first(x, rows.length, max);
      }
    });
  });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(reduce);
HWY_EXPORT(argmax);

void run_reduce(const ReduceArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(reduce)(args, memory);
}
void run_argmax(const ArgmaxArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(argmax)(args, memory);
}

std::string supports_reduce(const ReduceArgs& args) {
  if (auto refusal = refuse_f64(args.x); !refusal.empty()) return refusal;
  if (args.x.numel() == 0) return "there is nothing to reduce";
  return contiguous_loops(args) == Contiguous::None
             ? "neither the reduced nor the kept dimensions are contiguous"
             : "";
}
std::string supports_argmax(const ArgmaxArgs& args) {
  return refuse_f64(args.x);
}

}  // namespace

void fill_reduce_simd(KernelTable& table) {
  table.reduce.add_measured<run_reduce>("highway", supports_reduce);
  table.argmax.add_measured<run_argmax>("highway", supports_argmax);
}

}  // namespace candela
#endif
