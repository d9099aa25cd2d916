#include <algorithm>

#include "backend/cpu/gemm.h"
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

/// Calls `multiply(first, count, sums, bias, memory)` for blocks of rows of `out` [rows, cols], with `sums`
/// an f32 matrix to add products into: out itself if it is f32, else workspace that is rounded into out once
/// all products are in. `memory` is the remaining workspace.
template <class Multiply>
void accumulate(const Matrix& out, std::int64_t rows, std::int64_t cols, const RowBias& bias,
                Workspace memory, Multiply&& multiply) {
  if (out.dtype == DType::F32) {
    multiply(std::int64_t{0}, rows, out, bias, memory);
    return;
  }
  const std::int64_t block = sum_rows(rows, cols);
  auto* sums = memory.take<float>(block * cols);
  const Matrix target = {sums, DType::F32, cols, 1};
  for (std::int64_t first = 0; first < rows; first += block) {
    const std::int64_t count = std::min(block, rows - first);
    multiply(first, count, target, RowBias{}, memory);
    if (!memory.measuring()) gemm_detail::finish(sums, cols, count, cols, out.at(first, 0), 1, 0, bias);
  }
}

void lora_linear(const LoraLinearArgs& args, Workspace memory) {
  const std::int64_t n = args.x.shape[0];
  const std::int64_t width = args.x.shape[1];
  const std::int64_t outputs = args.weight.shape[0];
  const Matrix x = as_matrix(args.x);
  const Matrix weight = as_matrix(args.weight).transposed();
  const RowBias bias = {args.bias.data, args.bias.dtype, args.bias.present() ? args.bias.strides[0] : 1};
  if (args.branch_count == 0) {
    gemm(n, outputs, width, x, weight, as_matrix(args.y), memory, 1, 0, bias);
    return;
  }
  gemm(n, args.a.shape[0], width, as_matrix(args.lora_x), as_matrix(args.a).transposed(), as_matrix(args.xa),
       memory);
  accumulate(
      as_matrix(args.y), n, outputs, bias, memory,
      [&](std::int64_t first, std::int64_t count, const Matrix& sums, const RowBias& start, Workspace rest) {
        gemm(count, outputs, width, x.at(first, 0), weight, sums, rest, 1, 0, start);
        for (int i = 0; i < args.branch_count; ++i) {
          const LoraBranch& branch = args.branches[i];
          gemm(count, branch.outputs, branch.rank, as_matrix(args.xa).at(first, branch.first_row),
               as_matrix(branch.b).transposed(), sums.at(0, branch.first_output), rest, branch.scale, 1);
        }
      });
}

/// dxa_i = scale_i dy_i b_i, db_i = scale_i dy_i^T xa_i.
void adapter_gradients(const LoraLinearGradArgs& args, int i, Workspace memory) {
  const LoraBranch& branch = args.forward.branches[i];
  const std::int64_t n = args.forward.x.shape[0];
  const Matrix dy = as_matrix(args.dy).at(0, branch.first_output);
  gemm(n, branch.rank, branch.outputs, dy, as_matrix(branch.b), as_matrix(args.dxa).at(0, branch.first_row),
       memory, branch.scale);
  if (args.db[i].present()) {
    gemm(branch.outputs, branch.rank, n, dy.transposed(), as_matrix(args.forward.xa).at(0, branch.first_row),
         as_matrix(args.db[i]), memory, branch.scale);
  }
}

/// dx = dy weight, and dxa a where the adapters see x itself.
void input_gradient(const LoraLinearGradArgs& args, Workspace memory) {
  const LoraLinearArgs& forward = args.forward;
  const std::int64_t n = forward.x.shape[0];
  const std::int64_t width = forward.x.shape[1];
  const std::int64_t outputs = forward.weight.shape[0];
  const Matrix dy = as_matrix(args.dy);
  const Matrix weight = as_matrix(forward.weight);
  if (!forward.a.present() || forward.separate) {
    gemm(n, width, outputs, dy, weight, as_matrix(args.dx), memory);
    return;
  }
  accumulate(as_matrix(args.dx), n, width, {}, memory,
             [&](std::int64_t first, std::int64_t count, const Matrix& sums, const RowBias&, Workspace rest) {
               gemm(count, width, outputs, dy.at(first, 0), weight, sums, rest);
               gemm(count, width, forward.a.shape[0], as_matrix(args.dxa).at(first, 0), as_matrix(forward.a),
                    sums, rest, 1, 1);
             });
}

void lora_linear_grad(const LoraLinearGradArgs& args, Workspace memory) {
  const LoraLinearArgs& forward = args.forward;
  const std::int64_t n = forward.x.shape[0];
  const std::int64_t width = forward.x.shape[1];
  if (forward.a.present()) {
    for (int i = 0; i < forward.branch_count; ++i) adapter_gradients(args, i, memory);
    const std::int64_t rank = forward.a.shape[0];
    if (args.da.present()) {
      gemm(rank, width, n, as_matrix(args.dxa).transposed(), as_matrix(forward.lora_x), as_matrix(args.da),
           memory);
    }
    if (args.dlora_x.present()) {
      gemm(n, width, rank, as_matrix(args.dxa), as_matrix(forward.a), as_matrix(args.dlora_x), memory);
    }
  }
  if (args.dx.present()) input_gradient(args, memory);
}

std::string supports(const LoraLinearArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_grad(const LoraLinearGradArgs& args) {
  return refuse_f64(args.forward.x);
}

}  // namespace

void fill_lora(KernelTable& table) {
  table.lora_linear.add_measured<lora_linear>("gemm", supports);
  table.lora_linear_grad.add_measured<lora_linear_grad>("gemm", supports_grad);
}

}  // namespace candela
