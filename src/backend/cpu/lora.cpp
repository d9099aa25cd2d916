#include <algorithm>
#include <initializer_list>

#include "backend/cpu/gemm.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/table.h"
#include "backend/kernels.h"

namespace candela {
namespace {

/// Rows of f32 sums kept at once where the result is rounded to 16 bits: 16 MiB at most.
constexpr std::int64_t kSumElements = std::int64_t{1} << 22U;

/// Of `rows`, those whose sums are kept at once.
std::int64_t sum_rows(std::int64_t rows, std::int64_t cols) {
  return std::clamp<std::int64_t>(kSumElements / std::max<std::int64_t>(cols, 1), 1, rows);
}

/// Calls `multiply(first, count, sums)` for blocks of rows of `out` [rows, cols], with `sums` an f32 matrix
/// to add products into: out itself if it is f32, else scratch that is rounded into out once all products are
/// in.
template <class Multiply>
void accumulate(const Matrix& out, std::int64_t rows, std::int64_t cols, const RowBias& bias,
                Multiply&& multiply) {
  if (out.dtype == DType::F32) {
    multiply(std::int64_t{0}, rows, out, bias);
    return;
  }
  const std::int64_t block = sum_rows(rows, cols);
  const Scratch<float> sums(block * cols);
  const Matrix target = {sums.data(), DType::F32, cols, 1};
  for (std::int64_t first = 0; first < rows; first += block) {
    const std::int64_t count = std::min(block, rows - first);
    multiply(first, count, target, RowBias{});
    gemm_detail::finish(sums.data(), cols, count, cols, out.at(first, 0), 1, 0, bias);
  }
}

/// y = x weight^T + bias + scale xa b^T for one branch.
void branch_forward(const LoraLinearArgs& args, const LoraBranch& branch) {
  const std::int64_t n = args.x.shape[0];
  const std::int64_t width = args.x.shape[1];
  const std::int64_t outputs = branch.weight.shape[0];
  const RowBias bias = {branch.bias.data, branch.bias.dtype,
                        branch.bias.present() ? branch.bias.strides[0] : 1};
  const Matrix weight = as_matrix(branch.weight).transposed();
  if (!branch.b.present()) {
    gemm(n, outputs, width, as_matrix(args.x), weight, as_matrix(branch.y), 1, 0, bias);
    return;
  }
  accumulate(as_matrix(branch.y), n, outputs, bias,
             [&](std::int64_t first, std::int64_t count, const Matrix& sums, const RowBias& start) {
               gemm(count, outputs, width, as_matrix(args.x).at(first, 0), weight, sums, 1, 0, start);
               gemm(count, outputs, branch.b.shape[1], as_matrix(args.xa).at(first, branch.first_row),
                    as_matrix(branch.b).transposed(), sums, branch.scale, 1);
             });
}

void lora_linear(const LoraLinearArgs& args, Stream&) {
  if (args.a.present()) {
    gemm(args.x.shape[0], args.a.shape[0], args.x.shape[1], as_matrix(args.lora_x),
         as_matrix(args.a).transposed(), as_matrix(args.xa));
  }
  for (int i = 0; i < args.branch_count; ++i) branch_forward(args, args.branches[i]);
}

/// dxa[:, rows of i] = scale_i dy_i b_i, db_i = scale_i dy_i^T xa_i.
void adapter_gradients(const LoraLinearGradArgs& args, int i) {
  const LoraBranch& branch = args.forward.branches[i];
  if (!branch.b.present()) return;
  const std::int64_t n = args.forward.x.shape[0];
  const std::int64_t outputs = branch.b.shape[0];
  const std::int64_t rank = branch.b.shape[1];
  const Matrix dy = as_matrix(args.dy[i]);
  gemm(n, rank, outputs, dy, as_matrix(branch.b), as_matrix(args.dxa).at(0, branch.first_row), branch.scale);
  if (args.db[i].present()) {
    gemm(outputs, rank, n, dy.transposed(), as_matrix(args.forward.xa).at(0, branch.first_row),
         as_matrix(args.db[i]), branch.scale);
  }
}

/// dx = sum_i dy_i weight_i, and dxa a where the adapters see x itself.
void input_gradient(const LoraLinearGradArgs& args) {
  const LoraLinearArgs& forward = args.forward;
  const std::int64_t n = forward.x.shape[0];
  const std::int64_t width = forward.x.shape[1];
  const bool shared = forward.a.present() && !forward.separate;
  accumulate(as_matrix(args.dx), n, width, {},
             [&](std::int64_t first, std::int64_t count, const Matrix& sums, const RowBias&) {
               for (int i = 0; i < forward.branch_count; ++i) {
                 gemm(count, width, forward.branches[i].weight.shape[0], as_matrix(args.dy[i]).at(first, 0),
                      as_matrix(forward.branches[i].weight), sums, 1, i == 0 ? 0 : 1);
               }
               if (shared) {
                 gemm(count, width, forward.a.shape[0], as_matrix(args.dxa).at(first, 0),
                      as_matrix(forward.a), sums, 1, 1);
               }
             });
}

void lora_linear_grad(const LoraLinearGradArgs& args, Stream&) {
  const LoraLinearArgs& forward = args.forward;
  const std::int64_t n = forward.x.shape[0];
  const std::int64_t width = forward.x.shape[1];
  if (forward.a.present()) {
    for (int i = 0; i < forward.branch_count; ++i) adapter_gradients(args, i);
    const std::int64_t rank = forward.a.shape[0];
    if (args.da.present()) {
      gemm(rank, width, n, as_matrix(args.dxa).transposed(), as_matrix(forward.lora_x), as_matrix(args.da));
    }
    if (args.dlora_x.present()) {
      gemm(n, width, rank, as_matrix(args.dxa), as_matrix(forward.a), as_matrix(args.dlora_x));
    }
  }
  if (args.dx.present()) input_gradient(args);
}

/// Those of a product: a [rows, depth], b [depth, cols].
struct Operands {
  Matrix a, b;
  std::int64_t depth;
};

/// What accumulate() takes: the sums, and beside them what the largest of the products takes.
ScratchBlocks accumulate_scratch(const Matrix& out, std::int64_t rows, std::int64_t cols,
                                 std::initializer_list<Operands> products) {
  const bool direct = out.dtype == DType::F32;
  const std::int64_t count = direct ? rows : sum_rows(rows, cols);
  const Matrix sums = direct ? out : Matrix{nullptr, DType::F32, cols, 1};
  ScratchBlocks product;
  for (const Operands& of : products)
    product = larger(std::move(product), gemm_scratch(count, cols, of.depth, of.a, of.b, sums));
  return together(direct ? ScratchBlocks() : blocks_of_floats({count * cols}), product);
}

ScratchBlocks lora_linear_scratch(const LoraLinearArgs& args) {
  const std::int64_t n = args.x.shape[0];
  const std::int64_t width = args.x.shape[1];
  ScratchBlocks most;
  if (args.a.present()) {
    most = gemm_scratch(n, args.a.shape[0], width, as_matrix(args.lora_x), as_matrix(args.a).transposed(),
                        as_matrix(args.xa));
  }
  for (int i = 0; i < args.branch_count; ++i) {
    const LoraBranch& branch = args.branches[i];
    const std::int64_t outputs = branch.weight.shape[0];
    const Operands base{as_matrix(args.x), as_matrix(branch.weight).transposed(), width};
    ScratchBlocks own;
    if (branch.b.present()) {
      const Operands adapter{as_matrix(args.xa), as_matrix(branch.b).transposed(), branch.b.shape[1]};
      own = accumulate_scratch(as_matrix(branch.y), n, outputs, {base, adapter});
    } else {
      own = gemm_scratch(n, outputs, width, base.a, base.b, as_matrix(branch.y));
    }
    most = larger(std::move(most), std::move(own));
  }
  return most;
}

/// Of adapter_gradients and the gradients of a and lora_x.
ScratchBlocks adapter_gradients_scratch(const LoraLinearGradArgs& args) {
  const LoraLinearArgs& forward = args.forward;
  const std::int64_t n = forward.x.shape[0];
  const std::int64_t width = forward.x.shape[1];
  const std::int64_t rank = forward.a.shape[0];
  const Matrix dxa = as_matrix(args.dxa);
  ScratchBlocks most;
  const auto add = [&](ScratchBlocks own) { most = larger(std::move(most), std::move(own)); };
  for (int i = 0; i < forward.branch_count; ++i) {
    const LoraBranch& branch = forward.branches[i];
    if (!branch.b.present()) continue;
    const std::int64_t outputs = branch.b.shape[0];
    const std::int64_t r = branch.b.shape[1];
    const Matrix dy = as_matrix(args.dy[i]);
    add(gemm_scratch(n, r, outputs, dy, as_matrix(branch.b), dxa));
    if (args.db[i].present())
      add(gemm_scratch(outputs, r, n, dy.transposed(), as_matrix(forward.xa), as_matrix(args.db[i])));
  }
  if (args.da.present())
    add(gemm_scratch(rank, width, n, dxa.transposed(), as_matrix(forward.lora_x), as_matrix(args.da)));
  if (args.dlora_x.present())
    add(gemm_scratch(n, width, rank, dxa, as_matrix(forward.a), as_matrix(args.dlora_x)));
  return most;
}

ScratchBlocks lora_linear_grad_scratch(const LoraLinearGradArgs& args) {
  const LoraLinearArgs& forward = args.forward;
  ScratchBlocks most = forward.a.present() ? adapter_gradients_scratch(args) : ScratchBlocks();
  if (!args.dx.present()) return most;
  const auto add = [&](const Matrix& a, const TensorArg& b) {
    most = larger(std::move(most), accumulate_scratch(as_matrix(args.dx), forward.x.shape[0],
                                                      forward.x.shape[1], {{a, as_matrix(b), b.shape[0]}}));
  };
  for (int i = 0; i < forward.branch_count; ++i) add(as_matrix(args.dy[i]), forward.branches[i].weight);
  if (forward.a.present() && !forward.separate) add(as_matrix(args.dxa), forward.a);
  return most;
}

std::string supports(const LoraLinearArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_grad(const LoraLinearGradArgs& args) {
  return refuse_f64(args.forward.x);
}

}  // namespace

void fill_lora(KernelTable& table) {
  table.lora_linear.add("gemm", supports, lora_linear).scratch = lora_linear_scratch;
  table.lora_linear_grad.add("gemm", supports_grad, lora_linear_grad).scratch = lora_linear_grad_scratch;
}

}  // namespace candela
