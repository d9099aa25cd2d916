#include <algorithm>
#include <vector>

#include "backend/cpu/gemm.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/table.h"
#include "backend/kernels.h"

namespace candela {
namespace {

/// Rows of f32 sums kept at once where the result is rounded to 16 bits: 16 MiB, but rows enough that the
/// weight, which each block of rows reads once, is not what the time goes to.
constexpr std::int64_t kSumElements = std::int64_t{1} << 22U;
constexpr std::int64_t kMinSumRows = 256;

/// Of `rows`, those whose sums are kept at once.
std::int64_t sum_rows(std::int64_t rows, std::int64_t cols) {
  return std::min(std::max(kSumElements / std::max<std::int64_t>(cols, 1), kMinSumRows), rows);
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

void lora_linear(const LoraLinearArgs& args, Stream&) {
  const std::int64_t n = args.x.shape[0];
  const std::int64_t width = args.x.shape[1];
  const std::int64_t outputs = args.weight.shape[0];
  const Matrix x = as_matrix(args.x);
  const Matrix weight = as_matrix(args.weight).transposed();
  const RowBias bias = {args.bias.data, args.bias.dtype, args.bias.present() ? args.bias.strides[0] : 1};
  if (args.branch_count == 0) {
    gemm(n, outputs, width, x, weight, as_matrix(args.y), 1, 0, bias);
    return;
  }
  gemm(n, args.a.shape[0], width, as_matrix(args.lora_x), as_matrix(args.a).transposed(),
       as_matrix(args.xa));
  accumulate(as_matrix(args.y), n, outputs, bias,
             [&](std::int64_t first, std::int64_t count, const Matrix& sums, const RowBias& start) {
               gemm(count, outputs, width, x.at(first, 0), weight, sums, 1, 0, start);
               for (int i = 0; i < args.branch_count; ++i) {
                 const LoraBranch& branch = args.branches[i];
                 gemm(count, branch.outputs, branch.rank, as_matrix(args.xa).at(first, branch.first_row),
                      as_matrix(branch.b).transposed(), sums.at(0, branch.first_output), branch.scale, 1);
               }
             });
}

/// dxa_i = scale_i dy_i b_i, db_i = scale_i dy_i^T xa_i.
void adapter_gradients(const LoraLinearGradArgs& args, int i) {
  const LoraBranch& branch = args.forward.branches[i];
  const std::int64_t n = args.forward.x.shape[0];
  const Matrix dy = as_matrix(args.dy).at(0, branch.first_output);
  gemm(n, branch.rank, branch.outputs, dy, as_matrix(branch.b), as_matrix(args.dxa).at(0, branch.first_row),
       branch.scale);
  if (args.db[i].present()) {
    gemm(branch.outputs, branch.rank, n, dy.transposed(), as_matrix(args.forward.xa).at(0, branch.first_row),
         as_matrix(args.db[i]), branch.scale);
  }
}

/// dx = dy weight, and dxa a where the adapters see x itself.
void input_gradient(const LoraLinearGradArgs& args) {
  const LoraLinearArgs& forward = args.forward;
  const std::int64_t n = forward.x.shape[0];
  const std::int64_t width = forward.x.shape[1];
  const std::int64_t outputs = forward.weight.shape[0];
  const Matrix dy = as_matrix(args.dy);
  const Matrix weight = as_matrix(forward.weight);
  if (!forward.a.present() || forward.separate) {
    gemm(n, width, outputs, dy, weight, as_matrix(args.dx));
    return;
  }
  accumulate(as_matrix(args.dx), n, width, {},
             [&](std::int64_t first, std::int64_t count, const Matrix& sums, const RowBias&) {
               gemm(count, width, outputs, dy.at(first, 0), weight, sums);
               gemm(count, width, forward.a.shape[0], as_matrix(args.dxa).at(first, 0), as_matrix(forward.a),
                    sums, 1, 1);
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

/// Adding up `products` in accumulate(): the sums, and beside them what the largest product takes. Every
/// product may cover some columns of the sums only.
struct Product {
  Operands operands;
  std::int64_t cols;
};
ScratchBlocks accumulate_scratch(const Matrix& out, std::int64_t rows, std::int64_t cols,
                                 const std::vector<Product>& products) {
  const bool direct = out.dtype == DType::F32;
  const std::int64_t count = direct ? rows : sum_rows(rows, cols);
  const Matrix sums = direct ? out : Matrix{nullptr, DType::F32, cols, 1};
  ScratchBlocks most;
  for (const Product& of : products) {
    const Operands& operands = of.operands;
    most = larger(std::move(most), gemm_scratch(count, of.cols, operands.depth, operands.a, operands.b, sums));
  }
  return together(direct ? ScratchBlocks() : blocks_of_floats({count * cols}), most);
}

ScratchBlocks lora_linear_scratch(const LoraLinearArgs& args) {
  const std::int64_t n = args.x.shape[0];
  const std::int64_t width = args.x.shape[1];
  const std::int64_t outputs = args.weight.shape[0];
  const Matrix x = as_matrix(args.x);
  const Matrix weight = as_matrix(args.weight).transposed();
  if (args.branch_count == 0) return gemm_scratch(n, outputs, width, x, weight, as_matrix(args.y));
  std::vector<Product> products = {{{x, weight, width}, outputs}};
  for (int i = 0; i < args.branch_count; ++i) {
    const LoraBranch& branch = args.branches[i];
    products.push_back(
        {{as_matrix(args.xa), as_matrix(branch.b).transposed(), branch.rank}, branch.outputs});
  }
  return larger(gemm_scratch(n, args.a.shape[0], width, as_matrix(args.lora_x),
                             as_matrix(args.a).transposed(), as_matrix(args.xa)),
                accumulate_scratch(as_matrix(args.y), n, outputs, products));
}

/// Of adapter_gradients and the gradients of a and lora_x.
ScratchBlocks adapter_gradients_scratch(const LoraLinearGradArgs& args) {
  const LoraLinearArgs& forward = args.forward;
  const std::int64_t n = forward.x.shape[0];
  const std::int64_t width = forward.x.shape[1];
  const std::int64_t rank = forward.a.shape[0];
  const Matrix dxa = as_matrix(args.dxa);
  const Matrix dy = as_matrix(args.dy);
  ScratchBlocks most;
  const auto add = [&](ScratchBlocks own) { most = larger(std::move(most), std::move(own)); };
  for (int i = 0; i < forward.branch_count; ++i) {
    const LoraBranch& branch = forward.branches[i];
    add(gemm_scratch(n, branch.rank, branch.outputs, dy, as_matrix(branch.b), dxa));
    if (args.db[i].present()) {
      add(gemm_scratch(branch.outputs, branch.rank, n, dy.transposed(), as_matrix(forward.xa),
                       as_matrix(args.db[i])));
    }
  }
  if (args.da.present())
    add(gemm_scratch(rank, width, n, dxa.transposed(), as_matrix(forward.lora_x), as_matrix(args.da)));
  if (args.dlora_x.present())
    add(gemm_scratch(n, width, rank, dxa, as_matrix(forward.a), as_matrix(args.dlora_x)));
  return most;
}

ScratchBlocks lora_linear_grad_scratch(const LoraLinearGradArgs& args) {
  const LoraLinearArgs& forward = args.forward;
  const std::int64_t n = forward.x.shape[0];
  const std::int64_t width = forward.x.shape[1];
  const std::int64_t outputs = forward.weight.shape[0];
  const ScratchBlocks adapters = forward.a.present() ? adapter_gradients_scratch(args) : ScratchBlocks();
  if (!args.dx.present()) return adapters;
  const Matrix dx = as_matrix(args.dx);
  const Operands base = {as_matrix(args.dy), as_matrix(forward.weight), outputs};
  if (!forward.a.present() || forward.separate)
    return larger(adapters, gemm_scratch(n, width, outputs, base.a, base.b, dx));
  const Operands low = {as_matrix(args.dxa), as_matrix(forward.a), forward.a.shape[0]};
  return larger(adapters, accumulate_scratch(dx, n, width, {{base, width}, {low, width}}));
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
