#include "backend/metal/launch.h"
#include "backend/metal/line_params.h"
#include "backend/metal/operand.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string supports(const TensorArg& values, const TensorArg& whole, const TensorArg& index) {
  if (!is_shader_float(values.dtype)) return "takes f32, f16 and bf16";
  if (index.dtype != DType::I32 && index.dtype != DType::I64) return "takes i32 and i64 indices";
  if (values.numel() > kMaxCount || whole.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

/// `rows` are the rows of the result, or of its gradient.
shader::EmbeddingParams embedding_params(const TensorArg& weight, const TensorArg& ids,
                                         const TensorArg& rows) {
  return {static_cast<std::uint32_t>(weight.shape[0]),
          static_cast<std::uint32_t>(ids.shape[0]),
          static_cast<std::uint32_t>(weight.shape[1]),
          weight.strides[0],
          weight.strides[1],
          ids.strides[0],
          rows.strides[0],
          rows.strides[1]};
}

void embedding(const EmbeddingArgs& args, Stream& stream) {
  const shader::EmbeddingParams params = embedding_params(args.weight, args.ids, args.out);
  static_cast<Engine&>(stream).encode("embedding", {0, 2 * bytes_of(args.out)}, [&](Encoding& encoding) {
    Launch(encoding, "gather", "embedding" + suffix(args.weight.dtype) + suffix(args.ids.dtype))
        .tensor(args.weight)
        .tensor(args.ids)
        .tensor(args.out)
        .fault()
        .params(params)
        .over(params.width, params.count);
  });
}

std::string embedding_grad_supports(const EmbeddingGradArgs& args) {
  if (args.dweight.dtype != DType::F32) return "sums in f32";
  return supports(args.dy, args.dweight, args.ids);
}

void embedding_grad(const EmbeddingGradArgs& args, Stream& stream) {
  constexpr std::size_t kThreads = 128;
  /// Threadgroups that share the classes: each reads all ids, and the gradient's rows of its own classes.
  constexpr std::size_t kParts = 32;
  const shader::EmbeddingParams params = embedding_params(args.dweight, args.ids, args.dy);
  const std::size_t parts = std::clamp<std::size_t>(params.classes, 1, kParts);
  const double bytes = bytes_of(args.dy) + bytes_of(args.dweight);
  static_cast<Engine&>(stream).encode("embedding_grad", {0, bytes}, [&](Encoding& encoding) {
    Launch(encoding, "gather", "embedding_grad" + suffix(args.dy.dtype) + suffix(args.ids.dtype))
        .tensor(args.dy)
        .tensor(args.ids)
        .tensor(args.dweight)
        .params(params)
        .groups({(params.width + kThreads - 1) / kThreads, parts, 1}, kThreads);
  });
}

shader::GatherParams gather_params(const Lines& lines, const TensorArg& index, const TensorArg& whole,
                                   int dim) {
  return {lines.params, static_cast<std::uint32_t>(whole.shape[dim]),
          static_cast<std::uint32_t>(index.shape[dim])};
}

void gather(const GatherArgs& args, Stream& stream) {
  const Lines lines({args.out, args.index, args.x}, args.dim);
  const shader::GatherParams params = gather_params(lines, args.index, args.x, args.dim);
  static_cast<Engine&>(stream).encode("gather", {0, 2 * bytes_of(args.out)}, [&](Encoding& encoding) {
    Launch(encoding, "gather", "gather" + suffix(args.x.dtype) + suffix(args.index.dtype))
        .tensor(args.out)
        .tensor(args.index)
        .tensor(args.x)
        .fault()
        .params(params)
        .over(params.picks, lines.count);
  });
}

std::string gather_grad_supports(const GatherGradArgs& args) {
  if (args.dx.dtype != DType::F32) return "sums in f32";
  return supports(args.dy, args.dx, args.index);
}

void gather_grad(const GatherGradArgs& args, Stream& stream) {
  const Lines lines({args.dy, args.index, args.dx}, args.dim);
  const shader::GatherParams params = gather_params(lines, args.index, args.dx, args.dim);
  const double bytes = bytes_of(args.dx) + bytes_of(args.dy);
  static_cast<Engine&>(stream).encode("gather_grad", {0, bytes}, [&](Encoding& encoding) {
    Launch(encoding, "gather", "gather_grad" + suffix(args.dy.dtype) + suffix(args.index.dtype))
        .tensor(args.dy)
        .tensor(args.index)
        .tensor(args.dx)
        .params(params)
        .rows(lines.count, params.length);
  });
}

}  // namespace

void fill_gather(KernelTable& table, const Offer&) {
  table.embedding.add(
      "native", [](const EmbeddingArgs& args) { return supports(args.out, args.weight, args.ids); },
      embedding);
  table.embedding_grad.add("native", embedding_grad_supports, embedding_grad);
  table.gather.add(
      "native", [](const GatherArgs& args) { return supports(args.out, args.x, args.index); }, gather);
  table.gather_grad.add("native", gather_grad_supports, gather_grad);
}

}  // namespace candela::metal
