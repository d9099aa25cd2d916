#include "backend/metal/launch.h"
#include "backend/metal/line_params.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

// shaders/reduce.metal repeats these numbers.
static_assert(static_cast<int>(ReduceOp::Sum) == 0 && static_cast<int>(ReduceOp::SumSquares) == 1 &&
              static_cast<int>(ReduceOp::Max) == 2 && static_cast<int>(ReduceOp::Min) == 3);

/// Below this length a threadgroup per result has nothing to share out.
constexpr std::uint32_t kShort = 32;

std::string supports(const ReduceArgs& args) {
  if (!is_shader_float(args.x.dtype) || args.out.dtype != args.x.dtype) return "takes f32, f16 and bf16";
  if (args.x.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

shader::ReduceParams params_of(const ReduceArgs& args) {
  shader::ReduceParams params{};
  params.op = static_cast<std::uint32_t>(args.op);
  params.scale = static_cast<float>(args.scale);
  params.outputs = 1;
  params.length = 1;
  for (int d = 0; d < args.x.rank; ++d) {
    const auto size = static_cast<std::uint32_t>(args.x.shape[d]);
    if (args.out.shape[d] == args.x.shape[d]) {
      if (size == 1) continue;
      params.kept_shape[params.kept_rank] = size;
      params.kept_strides[params.kept_rank] = args.x.strides[d];
      params.out_strides[params.kept_rank++] = args.out.strides[d];
      params.outputs *= size;
    } else {
      params.reduced_shape[params.reduced_rank] = size;
      params.reduced_strides[params.reduced_rank++] = args.x.strides[d];
      params.length *= size;
    }
  }
  return params;
}

void reduce(const ReduceArgs& args, Stream& stream) {
  const shader::ReduceParams params = params_of(args);
  // Columns: neighbouring results lie beside each other, the reduced elements do not.
  const bool columns =
      params.kept_rank > 0 && params.kept_strides[params.kept_rank - 1] == 1 && params.outputs >= 256;
  const bool by_thread = columns || params.length < kShort;
  static_cast<Engine&>(stream).encode("reduce", {0, bytes_of(args.x)}, [&](Encoding& encoding) {
    Launch launch(encoding, "reduce",
                  (by_thread ? "reduce_threads" : "reduce_groups") + suffix(args.x.dtype));
    launch.tensor(args.x).tensor(args.out).params(params);
    if (by_thread) {
      launch.over(params.outputs);
    } else {
      launch.rows(params.outputs, params.length);
    }
  });
}

std::string argmax_supports(const ArgmaxArgs& args) {
  if (!is_shader_float(args.x.dtype)) return "takes f32, f16 and bf16";
  if (args.x.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

void argmax(const ArgmaxArgs& args, Stream& stream) {
  const Lines lines({args.x, args.out}, args.dim);
  const shader::ArgmaxParams params{
      lines.params, args.x.rank == 0 ? 1 : static_cast<std::uint32_t>(args.x.shape[args.dim])};
  static_cast<Engine&>(stream).encode("argmax", {0, bytes_of(args.x)}, [&](Encoding& encoding) {
    Launch(encoding, "reduce", "argmax" + suffix(args.x.dtype))
        .tensor(args.x)
        .tensor(args.out)
        .params(params)
        .rows(lines.count, params.length);
  });
}

}  // namespace

void fill_reduce(KernelTable& table, const Offer&) {
  table.argmax.add("native", argmax_supports, argmax);
  table.reduce.add("native", supports, reduce);
}

}  // namespace candela::metal
