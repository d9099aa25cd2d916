#include <algorithm>

#include "backend/cpu/gemm.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/table.h"
#include "backend/kernels.h"

namespace candela {
namespace {

/// Rows of f32 sums kept at once where the result is rounded to 16 bits: 16 MiB at most.
constexpr std::int64_t kSumElements = std::int64_t{1} << 22U;

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
  const std::int64_t block =
      std::clamp<std::int64_t>(kSumElements / std::max<std::int64_t>(cols, 1), 1, rows);
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

std::string supports(const LoraLinearArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_grad(const LoraLinearGradArgs& args) {
  return refuse_f64(args.forward.x);
}

}  // namespace

void fill_lora(KernelTable& table) {
  table.lora_linear.add("gemm", supports, lora_linear);
  table.lora_linear_grad.add("gemm", supports_grad, lora_linear_grad);
}

}  // namespace candela
