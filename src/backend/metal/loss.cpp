#include "backend/metal/launch.h"
#include "backend/metal/matmul.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string supports(const TensorArg& logits) {
  if (!is_shader_float(logits.dtype)) return "takes f32, f16 and bf16";
  if (logits.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

shader::LossParams loss_params(const TensorArg& logits, const TensorArg& targets, std::int64_t ignored) {
  shader::LossParams params{};
  params.classes = static_cast<std::uint32_t>(logits.shape[1]);
  params.ignored = ignored;
  params.logits_row = logits.strides[0];
  params.logits_column = logits.strides[1];
  params.target_step = targets.strides[0];
  return params;
}

void cross_entropy(const CrossEntropyArgs& args, Stream& stream) {
  shader::LossParams params = loss_params(args.logits, args.targets, args.ignore_index);
  params.loss_step = args.loss.strides[0];
  params.lse_step = args.lse.strides[0];
  static_cast<Engine&>(stream).encode(
      "cross_entropy", {0, 2 * bytes_of(args.logits)}, [&](Encoding& encoding) {
        Launch(encoding, "loss", "cross_entropy" + suffix(args.logits.dtype) + suffix(args.targets.dtype))
            .tensor(args.logits)
            .tensor(args.targets)
            .tensor(args.loss)
            .tensor(args.lse)
            .fault()
            .params(params)
            .rows(static_cast<std::size_t>(args.logits.shape[0]), params.classes);
      });
}

void cross_entropy_grad(const CrossEntropyGradArgs& args, Stream& stream) {
  shader::LossParams params = loss_params(args.logits, args.targets, args.ignore_index);
  params.loss_step = args.dloss.strides[0];
  params.lse_step = args.lse.strides[0];
  params.dlogits_row = args.dlogits.strides[0];
  params.dlogits_column = args.dlogits.strides[1];
  const double bytes = 2 * bytes_of(args.logits);
  static_cast<Engine&>(stream).encode("cross_entropy_grad", {0, bytes}, [&](Encoding& encoding) {
    Launch(encoding, "loss", "cross_entropy_grad" + suffix(args.logits.dtype) + suffix(args.targets.dtype))
        .tensor(args.logits)
        .tensor(args.targets)
        .tensor(args.dloss)
        .tensor(args.lse)
        .tensor(args.dlogits)
        .fault()
        .params(params)
        .rows(static_cast<std::size_t>(args.logits.shape[0]), params.classes);
  });
}

MatmulArgs product(const TensorArg& a, const TensorArg& b, const TensorArg& out, double beta = 0) {
  return {a, b, out, {}, 1, beta};
}

/// The products of rows [first, first + count) with their logits, or the gradient of them, in `logits`.
struct ChunkProducts {
  const LinearCrossEntropyArgs& args;
  std::int64_t first;
  TensorArg logits;

  TensorArg part(const TensorArg& rows) const { return rows_of(rows, first, logits.shape[0]); }
  /// Calls encode(product) in order. Sums over the rows go on from chunk to chunk.
  template <class Encode>
  void forward(Encode&& encode) const {
    encode(product(part(args.x), swapped(args.weight), logits));
    if (args.low.present()) encode(product(part(args.low), swapped(args.b), logits, 1));
  }
  template <class Encode>
  void backward(Encode&& encode) const {
    const double sofar = first > 0 ? 1 : 0;
    if (args.dx.present()) encode(product(logits, args.weight, part(args.dx)));
    if (args.dweight.present()) encode(product(swapped(logits), part(args.x), args.dweight, sofar));
    if (args.dlow.present()) encode(product(logits, args.b, part(args.dlow)));
    if (args.db.present()) encode(product(swapped(logits), part(args.low), args.db, sofar));
  }
};

void encode_head_loss(Engine& engine, const LinearCrossEntropyArgs& args, const ChunkProducts& chunk,
                      const TensorArg& losses) {
  const std::int64_t rows = chunk.logits.shape[0];
  const TensorArg targets = columns_of(args.targets, chunk.first, rows);
  shader::LossParams params = loss_params(chunk.logits, targets, args.ignore_index);
  params.gradient = args.any_gradient() ? 1 : 0;
  engine.encode("linear_cross_entropy", {0, 4 * bytes_of(chunk.logits)}, [&](Encoding& encoding) {
    Launch(encoding, "loss", "head_loss" + suffix(targets.dtype))
        .tensor(chunk.logits)
        .tensor(targets)
        .tensor(losses)
        .fault()
        .params(params)
        .rows(static_cast<std::size_t>(rows), params.classes);
    const shader::SumParams sum{static_cast<std::uint32_t>(rows), chunk.first > 0 ? 1U : 0U};
    Launch(encoding, "loss", "sum_losses").tensor(losses).tensor(args.loss).params(sum).rows(1, sum.count);
  });
}

/// Logits, and the gradient over them, are f32 whatever the dtype of x: small probabilities are lost in 16
/// bits.
template <void (*kEncode)(Engine*, const MatmulArgs&, Workspace)>
void linear_cross_entropy(const LinearCrossEntropyArgs& args, Engine* engine, Workspace memory) {
  const std::int64_t rows = args.x.shape[0];
  const std::int64_t classes = args.weight.shape[0];
  const std::int64_t most = cross_entropy_chunk_rows(rows, classes);
  const TensorArg logits = memory.take_tensor({most, std::max<std::int64_t>(classes, 1)}, DType::F32);
  const TensorArg losses = memory.take_tensor({most}, DType::F32);
  const auto encode = [&](const MatmulArgs& args_of_product) {
    // A grid has no empty dimension.
    if (args_of_product.out.numel() > 0) kEncode(engine, args_of_product, memory);
  };
  for (std::int64_t first = 0; first < rows; first += most) {
    const std::int64_t count = std::min(most, rows - first);
    const ChunkProducts chunk{args, first, columns_of(rows_of(logits, 0, count), 0, classes)};
    chunk.forward(encode);
    if (!memory.measuring()) encode_head_loss(*engine, args, chunk, losses);
    chunk.backward(encode);
    if (memory.measuring()) return;  // the first chunk is the largest
  }
}

/// Whether `supports_matmul` takes every product.
template <class SupportsMatmul>
std::string products_support(const LinearCrossEntropyArgs& args, SupportsMatmul supports_matmul) {
  std::size_t bytes = 0;
  const TensorArg logits =
      Workspace::measuring(bytes).take_tensor({args.x.shape[0], args.weight.shape[0]}, DType::F32);
  std::string refusal;
  const auto check = [&](const MatmulArgs& args_of_product) {
    if (refusal.empty() && args_of_product.out.numel() > 0) refusal = supports_matmul(args_of_product);
  };
  const ChunkProducts whole{args, 0, logits};
  whole.forward(check);
  whole.backward(check);
  return refusal;
}

std::string native_supports(const LinearCrossEntropyArgs& args) {
  if (!is_shader_float(args.x.dtype)) return "takes f32, f16 and bf16";
  return products_support(args, native_matmul_supports);
}

std::string mps_supports(const LinearCrossEntropyArgs& args) {
  if (args.x.dtype != DType::F32)
    return "MPS takes operands and results of one dtype, and the logits are f32";
  return products_support(args, mps_matmul_supports);
}

}  // namespace

void fill_loss(KernelTable& table, const Offer& offer) {
  table.cross_entropy.add(
      "native", [](const CrossEntropyArgs& args) { return supports(args.logits); }, cross_entropy);
  table.cross_entropy_grad.add(
      "native", [](const CrossEntropyGradArgs& args) { return supports(args.logits); }, cross_entropy_grad);
  if (offer.mps)
    add_measured<linear_cross_entropy<encode_mps_matmul>>(table.linear_cross_entropy, "mps", mps_supports);
  add_measured<linear_cross_entropy<encode_native_matmul>>(table.linear_cross_entropy, "chunked",
                                                           native_supports);
}

}  // namespace candela::metal
