#include <algorithm>

#include "backend/metal/launch.h"
#include "backend/metal/matmul.h"
#include "backend/metal/mps_matrix.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

constexpr std::size_t kTile = 64;
constexpr std::size_t kTileThreads = 128;

/// One more dispatch, and the pass over y that it takes, cost about as much as this much arithmetic: below it
/// the fused shader's single pass wins, above it MPS's products, which are tuned for each GPU.
constexpr double kLargeProduct = 2e7;
/// With fewer rows most of the fused shader's tile is empty.
constexpr std::int64_t kFewRows = static_cast<std::int64_t>(kTile) / 4;

MatmulArgs product(const TensorArg& a, const TensorArg& b, const TensorArg& out, double alpha = 1,
                   double beta = 0) {
  return {a, b, out, {}, alpha, beta};
}

/// The columns of xa (or dxa) that belong to one adapter.
TensorArg adapter_columns(const TensorArg& xa, const LoraBranch& branch) {
  return columns_of(xa, branch.first_row, branch.rank);
}

/// The columns of y (or dy) that one adapter adds to.
TensorArg output_columns(const TensorArg& y, const LoraBranch& branch) {
  return columns_of(y, branch.first_output, branch.outputs);
}

/// Every product of a forward pass goes through `supports` as it will be encoded.
template <class SupportsMatmul>
std::string forward_supports(const LoraLinearArgs& args, SupportsMatmul supports_matmul) {
  if (args.a.present()) {
    const std::string refusal = supports_matmul(product(args.lora_x, swapped(args.a), args.xa));
    if (!refusal.empty()) return refusal;
  }
  return supports_matmul(product(args.x, swapped(args.weight), args.y));
}

std::string native_supports(const LoraLinearArgs& args) {
  const DType adapter = args.a.present() ? args.a.dtype : args.x.dtype;
  if (adapter != args.x.dtype && adapter != DType::F32) return "the adapter must be f32 or as the weight";
  return forward_supports(args, native_matmul_supports);
}

std::string mps_supports(const LoraLinearArgs& args) {
  if (args.a.present() && args.a.dtype != args.x.dtype) return "MPS takes operands of one dtype";
  return forward_supports(args, mps_matmul_supports);
}

/// A run of outputs: those of one adapter, or those between two that have none (`branch` null).
struct Segment {
  std::int64_t first, count;
  const LoraBranch* branch;
};

/// All outputs in order, in at most two segments per adapter and one more.
std::vector<Segment> segments_of(const LoraLinearArgs& args) {
  std::vector<Segment> segments;
  std::int64_t done = 0;
  for (int i = 0; i < args.branch_count; ++i) {
    const LoraBranch& branch = args.branches[i];
    if (branch.first_output > done) segments.push_back({done, branch.first_output - done, nullptr});
    if (branch.outputs > 0) segments.push_back({branch.first_output, branch.outputs, &branch});
    done = branch.first_output + branch.outputs;
  }
  const std::int64_t outputs = args.weight.shape[0];
  if (done < outputs) segments.push_back({done, outputs - done, nullptr});
  return segments;
}

/// Whether the MPS chain, where it takes the arguments, is to be preferred to the fused shader. With tuning
/// on the measurement decides instead.
bool fused_yields(const LoraLinearArgs& args) {
  if (args.x.shape[0] < kFewRows) return true;
  const double flop = 2 * static_cast<double>(args.weight.numel()) * static_cast<double>(args.x.shape[0]);
  return flop >= kLargeProduct * static_cast<double>(segments_of(args).size());
}

/// y = x w^T + bias + scale xa b^T for the outputs of one adapter, one shader.
void encode_fused(Engine& engine, const LoraLinearArgs& args, const TensorArg& weight, const TensorArg& y,
                  const TensorArg& bias_columns, const LoraBranch& branch) {
  const TensorArg xa = adapter_columns(args.xa, branch);
  shader::LoraParams params{};
  params.m = static_cast<std::uint32_t>(args.x.shape[0]);
  params.n = static_cast<std::uint32_t>(weight.shape[0]);
  params.k = static_cast<std::uint32_t>(args.x.shape[1]);
  params.rank = static_cast<std::uint32_t>(branch.rank);
  params.x_row = args.x.strides[0];
  params.x_column = args.x.strides[1];
  params.w_row = weight.strides[0];
  params.w_column = weight.strides[1];
  params.xa_row = xa.strides[0];
  params.xa_column = xa.strides[1];
  params.b_row = branch.b.strides[0];
  params.b_column = branch.b.strides[1];
  params.y_row = y.strides[0];
  params.scale = static_cast<float>(branch.scale);
  params.has_bias = bias_columns.present() ? 1 : 0;
  params.bias_step = bias_columns.strides[0];
  const ShaderConstant constants[] = {shader_constant(
      0, read_in_fours(args.x) && read_in_fours(weight) && read_in_fours(xa) && read_in_fours(branch.b))};
  const double flop = 2.0 * params.m * params.n * (static_cast<double>(params.k) + params.rank);
  const double bytes = bytes_of(args.x) + bytes_of(weight) + bytes_of(y);
  engine.encode("lora_linear", {flop, bytes}, [&](Encoding& encoding) {
    Launch(encoding, "lora", "lora_linear" + suffix(args.x.dtype) + suffix(xa.dtype), constants)
        .tensor(args.x)
        .tensor(weight)
        .optional(bias_columns, args.x)
        .tensor(xa)
        .tensor(branch.b)
        .tensor(y)
        .params(params)
        .groups({(params.n + kTile - 1) / kTile, (params.m + kTile - 1) / kTile, 1}, kTileThreads);
  });
}

/// The chain of products: xa = lora_x A^T, y = x W^T + bias, y_i += scale_i xa_i b_i^T.
template <class Encode>
void encode_chain(Engine* engine, const LoraLinearArgs& args, Workspace memory, Encode encode) {
  if (args.a.present()) encode(engine, product(args.lora_x, swapped(args.a), args.xa), memory);
  encode(engine, MatmulArgs{args.x, swapped(args.weight), args.y, args.bias, 1, 0}, memory);
  for (int i = 0; i < args.branch_count; ++i) {
    const LoraBranch& branch = args.branches[i];
    if (branch.outputs == 0) continue;
    encode(engine,
           product(adapter_columns(args.xa, branch), swapped(branch.b), output_columns(args.y, branch),
                   branch.scale, 1),
           memory);
  }
}

void native_lora(const LoraLinearArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  // Of few rows the tile would be mostly empty.
  if (args.x.shape[0] <= kFewRows) return encode_chain(&engine, args, {}, encode_native_matmul);
  if (args.a.present()) encode_native_matmul(&engine, product(args.lora_x, swapped(args.a), args.xa), {});
  for (const Segment& segment : segments_of(args)) {
    const TensorArg weight = swapped(columns_of(swapped(args.weight), segment.first, segment.count));
    const TensorArg y = columns_of(args.y, segment.first, segment.count);
    const TensorArg bias =
        args.bias.present() ? columns_of(args.bias, segment.first, segment.count) : TensorArg();
    if (segment.branch != nullptr) {
      encode_fused(engine, args, weight, y, bias, *segment.branch);
    } else {
      encode_native_matmul(&engine, {args.x, swapped(weight), y, bias, 1, 0}, {});
    }
  }
}

void mps_lora(const LoraLinearArgs& args, Engine* engine, Workspace memory) {
  encode_chain(engine, args, memory, encode_mps_matmul);
}

/// An operand as the native shader takes it: as it lies.
class AnyOperand {
 public:
  AnyOperand(Engine*, const TensorArg& arg, Workspace&) : arg_(arg) {}
  const TensorArg& arg() const { return arg_; }

 private:
  TensorArg arg_;
};

/// All five products of the gradient: dxa, dx, dlora_x, da and db of every branch. `Operand` makes dy, which
/// they share, fit for `encode`, once.
template <class Operand, class Encode>
void encode_gradient(Engine* engine, const LoraLinearGradArgs& args, Workspace memory,
                     Encode encode_product) {
  const LoraLinearArgs& forward = args.forward;
  // A grid has no empty dimension: there is nothing to write.
  const Operand dy(engine, args.dy, memory);
  const auto encode = [&](Engine* on, const MatmulArgs& product) {
    if (product.out.numel() > 0) encode_product(on, product, memory);
  };
  if (args.dx.present()) encode(engine, product(dy.arg(), forward.weight, args.dx));
  for (int i = 0; i < forward.branch_count; ++i) {
    const LoraBranch& branch = forward.branches[i];
    const TensorArg columns = output_columns(dy.arg(), branch);
    encode(engine, product(columns, branch.b, adapter_columns(args.dxa, branch), branch.scale));
    if (args.db[i].present()) {
      encode(engine,
             product(swapped(columns), adapter_columns(forward.xa, branch), args.db[i], branch.scale));
    }
  }
  if (!forward.a.present()) return;
  if (forward.separate) {
    if (args.dlora_x.present()) encode(engine, product(args.dxa, forward.a, args.dlora_x));
  } else if (args.dx.present()) {
    encode(engine, product(args.dxa, forward.a, args.dx, 1, 1));
  }
  if (args.da.present()) encode(engine, product(swapped(args.dxa), forward.lora_x, args.da));
}

/// Whether all adapters' gradients come out in the adapter's dtype, which both ways can write.
std::string gradient_dtypes(const LoraLinearGradArgs& args) {
  const DType adapter = args.forward.a.present() ? args.forward.a.dtype : args.forward.x.dtype;
  if (args.da.present() && args.da.dtype != adapter) return "da must have the adapter's dtype";
  for (int i = 0; i < args.forward.branch_count; ++i) {
    if (args.db[i].present() && args.db[i].dtype != adapter) return "db must have the adapter's dtype";
  }
  return {};
}

std::string native_grad_supports(const LoraLinearGradArgs& args) {
  const std::string refusal = gradient_dtypes(args);
  return refusal.empty() ? native_supports(args.forward) : refusal;
}

std::string mps_grad_supports(const LoraLinearGradArgs& args) {
  const std::string refusal = gradient_dtypes(args);
  if (!refusal.empty()) return refusal;
  if (args.forward.x.dtype != DType::F32 && args.forward.x.dtype != DType::F16)
    return "MPS takes f32 and f16";
  if (args.forward.a.present() && args.forward.a.dtype != args.forward.x.dtype)
    return "MPS takes operands of one dtype";
  const LoraBranch* const begin = args.forward.branches;
  const bool empty = std::any_of(begin, begin + args.forward.branch_count,
                                 [](const LoraBranch& branch) { return branch.outputs == 0; });
  return empty || args.dy.last() == 0 ? "MPS takes no empty operand" : "";
}

void mps_lora_grad(const LoraLinearGradArgs& args, Engine* engine, Workspace memory) {
  encode_gradient<MatrixOperand>(engine, args, memory, encode_mps_matmul);
}
void native_lora_grad(const LoraLinearGradArgs& args, Engine* engine, Workspace memory) {
  encode_gradient<AnyOperand>(engine, args, memory, encode_native_matmul);
}

}  // namespace

void fill_lora(KernelTable& table, const Offer& offer) {
  table.lora_linear.add("fused", native_supports, native_lora).yields = fused_yields;
  if (offer.mps) {
    add_measured<mps_lora>(table.lora_linear, "mps", mps_supports);
    add_measured<mps_lora_grad>(table.lora_linear_grad, "mps", mps_grad_supports);
  }
  // Nothing is fused in the gradient: here the order is that of single products.
  add_measured<native_lora_grad>(table.lora_linear_grad, "simdgroup", native_grad_supports);
}

}  // namespace candela::metal
