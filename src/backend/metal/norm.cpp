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

void rms_norm(const RmsNormArgs& args, Engine* on, Workspace memory) {
  const RowMajor x(on, args.x, memory);
  const RowMajor residual(on, args.residual, memory);
  const RowMajor weight(on, args.weight, memory);
  RowMajorResult out(args.out, memory);
  RowMajorResult sum(args.sum, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
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

/// Sums of columns in pieces of kChunk rows; none for an absent result.
TensorArg take_pieces(const TensorArg& dy, bool wanted, Workspace& memory) {
  if (!wanted) return {};
  return memory.take_tensor({(dy.rows() + kChunk - 1) / kChunk, dy.last()}, DType::F32);
}

/// out [D] = sum over rows of dy, or of dy (x - mean - rest) rstd: in pieces, then the pieces in order.
void encode_column_sums(Engine& engine, const TensorArg& dy, const TensorArg& x, const Statistics& statistics,
                        bool products, const TensorArg& sums, const TensorArg& out) {
  const auto rows = static_cast<std::uint32_t>(dy.rows());
  const auto length = static_cast<std::uint32_t>(dy.last());
  const auto pieces = static_cast<std::uint32_t>(sums.shape[0]);
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

void rms_norm_grad(const RmsNormGradArgs& args, Engine* on, Workspace memory) {
  const RowMajor x(on, args.x, memory);
  const RowMajor weight(on, args.weight, memory);
  const RowMajor dy(on, args.dy, memory);
  const RowMajor dsum(on, args.dsum, memory);
  RowMajorResult dx(args.dx, memory);
  const TensorArg sums = take_pieces(args.dy, args.dweight.present(), memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
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
    encode_column_sums(engine, dy.arg(), x.arg(), {{}, {}, args.rstd}, true, sums, args.dweight);
}

void layer_norm(const LayerNormArgs& args, Engine* on, Workspace memory) {
  const RowMajor x(on, args.x, memory);
  const RowMajor weight(on, args.weight, memory);
  const RowMajor bias(on, args.bias, memory);
  RowMajorResult out(args.out, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
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

void layer_norm_grad(const LayerNormGradArgs& args, Engine* on, Workspace memory) {
  const RowMajor x(on, args.x, memory);
  const RowMajor weight(on, args.weight, memory);
  const RowMajor dy(on, args.dy, memory);
  RowMajorResult dx(args.dx, memory);
  const TensorArg rest = memory.take_like(args.rstd);
  const TensorArg sums = take_pieces(args.dy, args.dweight.present() || args.dbias.present(), memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
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
  if (args.dweight.present())
    encode_column_sums(engine, dy.arg(), x.arg(), statistics, true, sums, args.dweight);
  if (args.dbias.present())
    encode_column_sums(engine, dy.arg(), x.arg(), statistics, false, sums, args.dbias);
}

}  // namespace

void fill_norm(KernelTable& table, const Offer&) {
  add_measured<rms_norm>(table.rms_norm, "native", [](const RmsNormArgs& args) { return supports(args.x); });
  add_measured<rms_norm_grad>(table.rms_norm_grad, "native",
                              [](const RmsNormGradArgs& args) { return supports(args.x); });
  add_measured<layer_norm>(table.layer_norm, "native",
                           [](const LayerNormArgs& args) { return supports(args.x); });
  add_measured<layer_norm_grad>(table.layer_norm_grad, "native",
                                [](const LayerNormGradArgs& args) { return supports(args.x); });
}

}  // namespace candela::metal
