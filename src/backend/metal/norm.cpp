#include "backend/metal/launch.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

/// Rows that one thread adds up before the pieces are joined.
constexpr std::uint32_t kChunk = 64;

std::string supports(const TensorArg& x) {
  if (!is_shader_float(x.dtype)) return "takes f32, f16 and bf16";
  if (x.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

shader::NormParams params_of(const TensorArg& x, double eps) {
  shader::NormParams params{};
  params.rows = static_cast<std::uint32_t>(x.rows());
  params.length = static_cast<std::uint32_t>(x.last());
  params.eps = static_cast<float>(eps);
  return params;
}

void rms_norm(const RmsNormArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  const RowMajor x(engine, args.x);
  const RowMajor residual(engine, args.residual);
  const RowMajor weight(engine, args.weight);
  RowMajorResult out(args.out);
  RowMajorResult sum(args.sum);
  shader::NormParams params = params_of(args.x, args.eps);
  params.weight_offset = static_cast<float>(args.weight_offset);
  params.has_residual = args.residual.present() ? 1 : 0;
  params.has_statistics = args.rstd.present() ? 1 : 0;
  engine.encode("rms_norm", {0, 2 * bytes_of(args.x) + 2 * bytes_of(args.residual)}, [&](Encoding& encoding) {
    Launch(encoding, "norm", "rms_norm" + suffix(args.x.dtype))
        .tensor(x.arg())
        .optional(residual.arg(), x.arg())
        .tensor(weight.arg())
        .tensor(out.arg())
        .optional(sum.arg(), out.arg())
        .optional(args.rstd, out.arg())
        .params(params)
        .rows(params.rows, params.length);
  });
  out.finish(engine);
  sum.finish(engine);
}

/// What normalised a row: mean and what it lacks of the exact one (both absent for RMS norm), rstd. f32
/// [rows].
struct Statistics {
  TensorArg mean, rest, rstd;
};

/// out [D] = sum over rows of dy, or of dy (x - mean - rest) rstd: in pieces, then the pieces in order.
void encode_column_sums(Engine& engine, const TensorArg& dy, const TensorArg& x, const Statistics& statistics,
                        bool products, const TensorArg& out) {
  const auto rows = static_cast<std::uint32_t>(dy.rows());
  const auto length = static_cast<std::uint32_t>(dy.last());
  const std::uint32_t pieces = (rows + kChunk - 1) / kChunk;
  const Tensor sums = scratch({pieces, length}, DType::F32);
  shader::ColumnParams params{rows, length, kChunk, products ? 1U : 0U, statistics.mean.present() ? 1U : 0U};
  engine.encode("column_sums", {0, bytes_of(dy) * (products ? 2 : 1)}, [&](Encoding& encoding) {
    Launch(encoding, "norm", "column_sums" + suffix(dy.dtype))
        .tensor(dy)
        .tensor(x)
        .optional(statistics.mean, statistics.rstd)
        .optional(statistics.rest, statistics.rstd)
        .tensor(statistics.rstd)
        .tensor(sums)
        .params(params)
        .over(length, pieces);
    params.rows = pieces;
    Launch(encoding, "norm", "add_pieces").tensor(sums).tensor(out).params(params).over(length);
  });
}

void rms_norm_grad(const RmsNormGradArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  const RowMajor x(engine, args.x);
  const RowMajor weight(engine, args.weight);
  const RowMajor dy(engine, args.dy);
  const RowMajor dsum(engine, args.dsum);
  RowMajorResult dx(args.dx);
  shader::NormParams params = params_of(args.x, args.eps);
  params.weight_offset = static_cast<float>(args.weight_offset);
  params.has_sum_gradient = args.dsum.present() ? 1 : 0;
  engine.encode("rms_norm_grad", {0, 3 * bytes_of(args.x) + bytes_of(args.dsum)}, [&](Encoding& encoding) {
    Launch(encoding, "norm", "rms_norm_grad" + suffix(args.x.dtype))
        .tensor(x.arg())
        .tensor(weight.arg())
        .tensor(args.rstd)
        .tensor(dy.arg())
        .optional(dsum.arg(), dy.arg())
        .tensor(dx.arg())
        .params(params)
        .rows(params.rows, params.length);
  });
  dx.finish(engine);
  if (args.dweight.present())
    encode_column_sums(engine, dy.arg(), x.arg(), {{}, {}, args.rstd}, true, args.dweight);
}

void layer_norm(const LayerNormArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  const RowMajor x(engine, args.x);
  const RowMajor weight(engine, args.weight);
  const RowMajor bias(engine, args.bias);
  RowMajorResult out(args.out);
  shader::NormParams params = params_of(args.x, args.eps);
  params.has_statistics = args.mean.present() && args.rstd.present() ? 1 : 0;
  params.has_weight = args.weight.present() ? 1 : 0;
  params.has_bias = args.bias.present() ? 1 : 0;
  engine.encode("layer_norm", {0, 2 * bytes_of(args.x)}, [&](Encoding& encoding) {
    Launch(encoding, "norm", "layer_norm" + suffix(args.x.dtype))
        .tensor(x.arg())
        .optional(weight.arg(), x.arg())
        .optional(bias.arg(), x.arg())
        .tensor(out.arg())
        .optional(args.mean, out.arg())
        .optional(args.rstd, out.arg())
        .params(params)
        .rows(params.rows, params.length);
  });
  out.finish(engine);
}

void layer_norm_grad(const LayerNormGradArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  const RowMajor x(engine, args.x);
  const RowMajor weight(engine, args.weight);
  const RowMajor dy(engine, args.dy);
  RowMajorResult dx(args.dx);
  const Tensor rest = scratch_like(args.rstd);
  const Statistics statistics{args.mean, rest, args.rstd};
  shader::NormParams params = params_of(args.x, 0);
  params.has_weight = args.weight.present() ? 1 : 0;
  engine.encode("layer_norm_grad", {0, 3 * bytes_of(args.x)}, [&](Encoding& encoding) {
    Launch(encoding, "norm", "layer_norm_grad" + suffix(args.x.dtype))
        .tensor(x.arg())
        .optional(weight.arg(), x.arg())
        .tensor(args.mean)
        .tensor(args.rstd)
        .tensor(dy.arg())
        .tensor(dx.arg())
        .tensor(rest)
        .params(params)
        .rows(params.rows, params.length);
  });
  dx.finish(engine);
  if (args.dweight.present()) encode_column_sums(engine, dy.arg(), x.arg(), statistics, true, args.dweight);
  if (args.dbias.present()) encode_column_sums(engine, dy.arg(), x.arg(), statistics, false, args.dbias);
}

}  // namespace

void fill_norm(KernelTable& table, const Offer&) {
  table.rms_norm.add(
      "native", [](const RmsNormArgs& args) { return supports(args.x); }, rms_norm);
  table.rms_norm_grad.add(
      "native", [](const RmsNormGradArgs& args) { return supports(args.x); }, rms_norm_grad);
  table.layer_norm.add(
      "native", [](const LayerNormArgs& args) { return supports(args.x); }, layer_norm);
  table.layer_norm_grad.add(
      "native", [](const LayerNormGradArgs& args) { return supports(args.x); }, layer_norm_grad);
}

}  // namespace candela::metal
