#include "backend/metal/matmul.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>
#include <set>

#include "backend/metal/launch.h"
#include "backend/metal/mps_matrix.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

// shaders/matmul_tile.h repeats these.
constexpr std::size_t kTile = 64;
constexpr std::size_t kTileThreads = 128;
/// Matrices that MPS may be given one by one: each is a kernel of its own, where the own shader is one
/// dispatch for all of them.
constexpr std::int64_t kMaxMpsEncodes = 8;

/// The leading dimensions of a, b and out, those of size 1 dropped and neighbours merged where all three step
/// through them evenly.
struct Batches {
  int rank = 0;
  std::int64_t shape[kMaxRank] = {};
  std::int64_t strides[3][kMaxRank] = {};

  Batches(const TensorArg& a, const TensorArg& b, const TensorArg& out) {
    const TensorArg* operands[3] = {&a, &b, &out};
    for (int d = 0; d < out.rank - 2; ++d) {
      if (out.shape[d] == 1) continue;
      bool merge = rank > 0;
      for (int n = 0; n < 3 && merge; ++n)
        merge = strides[n][rank - 1] == operands[n]->strides[d] * out.shape[d];
      if (merge) {
        shape[rank - 1] *= out.shape[d];
      } else {
        shape[rank++] = out.shape[d];
      }
      for (int n = 0; n < 3; ++n) strides[n][rank - 1] = operands[n]->strides[d];
    }
  }

  std::int64_t count(int dims) const {
    std::int64_t total = 1;
    for (int d = 0; d < dims; ++d) total *= shape[d];
    return total;
  }
  /// Element offsets of the three operands at `index` over the first `dims` dimensions.
  std::array<std::int64_t, 3> offsets(std::int64_t index, int dims) const {
    std::array<std::int64_t, 3> result{};
    for (int d = dims - 1; d >= 0; --d) {
      const std::int64_t i = index % shape[d];
      index /= shape[d];
      for (std::size_t n = 0; n < 3; ++n) result[n] += i * strides[n][d];
    }
    return result;
  }
};

std::int64_t row_stride(const TensorArg& arg) {
  return arg.strides[arg.rank - 2];
}
std::int64_t column_stride(const TensorArg& arg) {
  return arg.strides[arg.rank - 1];
}
std::int64_t row_count(const TensorArg& arg) {
  return arg.shape[arg.rank - 2];
}

/// A product as MPS sees it: op(A) [m, k] op(B) [k, n], all three operands row-major in their buffers.
struct Product {
  TensorArg a, b, out;
  MatrixView a_view, b_view, out_view;
  std::size_t m = 0, n = 0, k = 0;
  double alpha = 1, beta = 0;
};

/// Where the batch's second operand is one matrix and the rows of the first follow on, the whole batch is one
/// product of more rows.
void fold_batch_into_rows(Batches& batches, MatmulArgs& args) {
  while (batches.rank > 0) {
    const int d = batches.rank - 1;
    const std::int64_t rows = row_count(args.a);
    const bool follows_on = batches.strides[1][d] == 0 &&
                            batches.strides[0][d] == rows * row_stride(args.a) &&
                            batches.strides[2][d] == rows * row_stride(args.out) &&
                            column_stride(args.a) == 1 && column_stride(args.out) == 1;
    if (!follows_on) return;
    args.a.shape[args.a.rank - 2] *= batches.shape[d];
    args.out.shape[args.out.rank - 2] *= batches.shape[d];
    --batches.rank;
  }
}

/// C^T = B^T A^T: for results that lie column by column.
void swap_roles(Product& product, Batches& batches) {
  std::swap(product.a, product.b);
  std::swap(product.a_view, product.b_view);
  std::swap(product.m, product.n);
  product.a_view.transposed = !product.a_view.transposed;
  product.b_view.transposed = !product.b_view.transposed;
  std::swap(batches.strides[0], batches.strides[1]);
}

objc::MatrixMultiplication& kernel_for(Encoding& encoding, const Product& product) {
  const objc::ProductShape shape{product.a_view.transposed,
                                 product.b_view.transposed,
                                 product.m,
                                 product.n,
                                 product.k,
                                 product.alpha,
                                 product.beta};
  const std::string key =
      fmt::format("matmul {} {} {} {} {} {} {}", shape.transpose_left, shape.transpose_right, shape.rows,
                  shape.columns, shape.interior, shape.alpha, shape.beta);
  return encoding.kernel<objc::MatrixMultiplication>(
      key, [&] { return objc::MatrixMultiplication(encoding.device(), shape); });
}

/// A single row times a matrix (m = 1): y [n] = op(B)^T x, the way one token goes through a layer.
void encode_vector(Encoding& encoding, const Product& product) {
  const objc::VectorProductShape shape{!product.b_view.transposed, product.n, product.k, product.alpha,
                                       product.beta};
  const std::string key = fmt::format("matvec {} {} {} {} {}", shape.transpose, shape.rows, shape.columns,
                                      shape.alpha, shape.beta);
  auto& kernel = encoding.kernel<objc::MatrixVectorMultiplication>(
      key, [&] { return objc::MatrixVectorMultiplication(encoding.device(), shape); });
  const auto vector = [](const TensorArg& arg, std::size_t length) {
    return objc::Vector(arg.storage->native(), static_cast<std::size_t>(arg.offset) * size_of(arg.dtype),
                        length, arg.dtype);
  };
  kernel.encode(encoding.buffer(), matrix_at(product.b, product.b_view), vector(product.a, product.k),
                vector(product.out, product.n));
}

/// Whether the innermost batch dimension can be one MPS batch: every operand steps on by whole rows.
bool is_mps_batch(const Batches& batches, const Product& product) {
  if (batches.rank == 0) return false;
  const int d = batches.rank - 1;
  const MatrixView* views[3] = {&product.a_view, &product.b_view, &product.out_view};
  const std::size_t width = size_of(product.out.dtype);
  for (int n = 0; n < 3; ++n) {
    const std::size_t step = static_cast<std::size_t>(batches.strides[n][d]) * width;
    if (step == 0 || step % views[n]->row_bytes != 0 || step < views[n]->row_bytes * views[n]->rows)
      return false;
  }
  return true;
}

/// The batch dimensions that are left to walk, one encode per index.
int loops_of(const Batches& batches, const Product& product) {
  return is_mps_batch(batches, product) ? batches.rank - 1 : batches.rank;
}

/// A product with its batch, of operands that MPS can see as matrices.
struct Plan {
  Product product;
  Batches batches;

  explicit Plan(MatmulArgs args) : batches(args.a, args.b, args.out) {
    fold_batch_into_rows(batches, args);
    product = {args.a,
               args.b,
               args.out,
               *matrix_view(args.a),
               *matrix_view(args.b),
               *matrix_view(args.out),
               static_cast<std::size_t>(row_count(args.out)),
               static_cast<std::size_t>(args.out.shape[args.out.rank - 1]),
               static_cast<std::size_t>(args.a.shape[args.a.rank - 1]),
               args.alpha,
               args.beta};
    if (product.out_view.transposed) swap_roles(product, batches);
  }
};

/// What MatrixOperand makes of it: itself, or the layout of its row-major copy.
TensorArg as_matrix_operand(const TensorArg& arg) {
  if (matrix_view(arg).has_value()) return arg;
  TensorArg copy = arg;
  std::int64_t stride = 1;
  for (int d = arg.rank - 1; d >= 0; --d) {
    copy.strides[d] = stride;
    stride *= arg.shape[d];
  }
  return copy;
}

void encode_product(Encoding& encoding, const Batches& batches, const Product& product) {
  if (batches.rank == 0 && product.m == 1 && !product.a_view.transposed && !product.out_view.transposed)
    return encode_vector(encoding, product);
  const int loops = loops_of(batches, product);
  const bool batched = loops < batches.rank;
  const std::size_t matrices = batched ? static_cast<std::size_t>(batches.shape[loops]) : 1;
  const std::size_t width = size_of(product.out.dtype);
  const auto matrix_bytes = [&](std::size_t n) {
    return batched ? static_cast<std::size_t>(batches.strides[n][loops]) * width : 0;
  };
  objc::MatrixMultiplication& kernel = kernel_for(encoding, product);
  for (std::int64_t i = 0; i < batches.count(loops); ++i) {
    const std::array<std::int64_t, 3> at = batches.offsets(i, loops);
    kernel.encode(encoding.buffer(), matrix_at(product.a, product.a_view, at[0], matrices, matrix_bytes(0)),
                  matrix_at(product.b, product.b_view, at[1], matrices, matrix_bytes(1)),
                  matrix_at(product.out, product.out_view, at[2], matrices, matrix_bytes(2)), matrices);
  }
}

Work work_of(const MatmulArgs& args) {
  const double k = static_cast<double>(args.a.shape[args.a.rank - 1]);
  return {2 * static_cast<double>(args.out.numel()) * k,
          bytes_of(args.a) + bytes_of(args.b) + bytes_of(args.out)};
}

}  // namespace

TensorArg swapped(const TensorArg& arg) {
  TensorArg result = arg;
  std::swap(result.shape[arg.rank - 1], result.shape[arg.rank - 2]);
  std::swap(result.strides[arg.rank - 1], result.strides[arg.rank - 2]);
  return result;
}

TensorArg columns_of(const TensorArg& arg, std::int64_t first, std::int64_t count) {
  TensorArg result = arg;
  const std::int64_t skip = first * arg.strides[arg.rank - 1];
  result.shape[arg.rank - 1] = count;
  result.offset += skip;
  if (result.data != nullptr) {
    result.data = static_cast<std::byte*>(arg.data) + skip * static_cast<std::int64_t>(size_of(arg.dtype));
  }
  return result;
}

TensorArg rows_of(const TensorArg& arg, std::int64_t first, std::int64_t count) {
  return swapped(columns_of(swapped(arg), first, count));
}

namespace {

/// Columns of one MPS product of these sizes: M1 and M2 corrupt rows where (row + 2 K) N element size reaches
/// 2^31 (Metal.jl, issue 381). Of a result that lies by columns MPS sees the transpose: then N is the rows'
/// count, which no cut of columns lowers.
std::int64_t most_mps_columns(const MatmulArgs& args, double limit) {
  const auto width = static_cast<double>(size_of(args.out.dtype));
  const auto m = static_cast<double>(row_count(args.out));
  const auto n = static_cast<double>(args.out.shape[args.out.rank - 1]);
  const auto k = static_cast<double>(args.a.shape[args.a.rank - 1]);
  const bool by_columns = matrix_view(args.out)->transposed;
  // (row + 2 K) N: rows below M, and below N of the transpose.
  const double most = by_columns ? limit / (m * width) - 2 * k : limit / ((m + 2 * k) * width);
  return static_cast<std::int64_t>(std::clamp(std::ceil(most) - 1, 0.0, n));
}

}  // namespace

std::string mps_matmul_supports(const MatmulArgs& args) {
  if (args.a.dtype != DType::F32 && args.a.dtype != DType::F16) return "MPS takes f32 and f16";
  if (args.b.dtype != args.a.dtype || args.out.dtype != args.a.dtype)
    return "MPS takes operands and results of one dtype";
  if (args.a.shape[args.a.rank - 1] == 0) return "MPS needs an inner dimension";
  if (args.bias.present() && args.beta != 0) return "the bias takes the place of the third term";
  if (!matrix_view(args.out).has_value()) return "MPS writes results whose rows or columns lie together";
  if (args.out.numel() > 0 && most_mps_columns(args, kMpsProductLimit) == 0)
    return "MPS would corrupt a product of this inner dimension";
  if (args.out.rank == 2 || args.out.numel() == 0) return {};
  MatmulArgs seen = args;
  seen.a = as_matrix_operand(args.a);
  seen.b = as_matrix_operand(args.b);
  const Plan plan(seen);
  if (plan.batches.count(loops_of(plan.batches, plan.product)) > kMaxMpsEncodes)
    return fmt::format("MPS would take this batch in more than {} parts", kMaxMpsEncodes);
  return {};
}

namespace {

void encode_mps_part(Engine* on, const MatmulArgs& original, Workspace memory) {
  MatmulArgs args = original;
  const MatrixOperand a(on, original.a, memory);
  const MatrixOperand b(on, original.b, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
  args.a = a.arg();
  args.b = b.arg();
  if (args.bias.present()) {
    TensorArg rows = args.out;  // the bias, once per row
    rows.storage = args.bias.storage;
    rows.data = args.bias.data;
    rows.offset = args.bias.offset;
    rows.dtype = args.bias.dtype;
    for (int d = 0; d < rows.rank - 1; ++d) rows.strides[d] = 0;
    rows.strides[rows.rank - 1] = args.bias.strides[0];
    encode_copy(engine, rows, args.out);
    args.beta = 1;
  }
  const Plan plan(args);
  engine.encode("matmul", work_of(original),
                [&](Encoding& encoding) { encode_product(encoding, plan.batches, plan.product); });
}

}  // namespace

void encode_mps_parts(Engine* engine, const MatmulArgs& args, Workspace memory, double limit) {
  const std::int64_t columns = args.out.shape[args.out.rank - 1];
  const std::int64_t most = std::max<std::int64_t>(1, most_mps_columns(args, limit));
  for (std::int64_t first = 0; first < columns; first += most) {
    const std::int64_t count = std::min(most, columns - first);
    MatmulArgs part = args;
    part.b = columns_of(args.b, first, count);
    part.out = columns_of(args.out, first, count);
    if (args.bias.present()) part.bias = columns_of(args.bias, first, count);
    encode_mps_part(engine, part, memory);
  }
}

void encode_mps_matmul(Engine* engine, const MatmulArgs& args, Workspace memory) {
  encode_mps_parts(engine, args, memory, kMpsProductLimit);
}

std::string native_matmul_supports(const MatmulArgs& args) {
  static const std::set<std::string> kinds = {"f32_f32_f32",   "f16_f16_f16", "bf16_bf16_bf16", "f16_f16_f32",
                                              "bf16_bf16_f32", "f16_f32_f32", "bf16_f32_f32",   "f32_f16_f32",
                                              "f32_bf16_f32",  "f32_f32_f16", "f32_f32_bf16",   "f32_f16_f16",
                                              "f32_bf16_bf16"};
  const std::string kind =
      fmt::format("{}_{}_{}", to_string(args.a.dtype), to_string(args.b.dtype), to_string(args.out.dtype));
  if (!kinds.contains(kind)) return "the shader takes f32, f16 and bf16";
  if (args.bias.present() && args.bias.dtype != args.a.dtype) return "the bias must have the operands' dtype";
  for (const TensorArg* arg : {&args.a, &args.b, &args.out}) {
    for (int d = 0; d < arg->rank; ++d) {
      if (arg->shape[d] > kMaxCount) return "takes at most 2^31 - 1 elements per dimension";
    }
  }
  return {};
}

namespace {

/// What the native shaders share: m, n, k, strides and the batch.
struct NativeProduct {
  MatmulArgs args;
  Batches batches;
  shader::MatmulParams params{};

  explicit NativeProduct(const MatmulArgs& given) : args(given), batches(given.a, given.b, given.out) {
    fold_batch_into_rows(batches, args);
    params.m = static_cast<std::uint32_t>(row_count(args.out));
    params.n = static_cast<std::uint32_t>(args.out.shape[args.out.rank - 1]);
    params.k = static_cast<std::uint32_t>(args.a.shape[args.a.rank - 1]);
    params.batch_rank = static_cast<std::uint32_t>(batches.rank);
    for (int d = 0; d < batches.rank; ++d) {
      params.batch_shape[d] = static_cast<std::uint32_t>(batches.shape[d]);
      params.a_batch[d] = batches.strides[0][d];
      params.b_batch[d] = batches.strides[1][d];
      params.out_batch[d] = batches.strides[2][d];
    }
    params.a_row = row_stride(args.a);
    params.a_column = column_stride(args.a);
    params.b_row = row_stride(args.b);
    params.b_column = column_stride(args.b);
    params.out_row = row_stride(args.out);
    params.out_column = column_stride(args.out);
    params.alpha = static_cast<float>(args.alpha);
    params.beta = static_cast<float>(args.beta);
    params.has_bias = args.bias.present() ? 1 : 0;
    params.bias_step = args.bias.strides[0];
  }
  std::size_t count() const { return static_cast<std::size_t>(batches.count(batches.rank)); }
};

/// C^T = B^T A^T.
MatmulArgs turned(const MatmulArgs& args) {
  return {swapped(args.b), swapped(args.a), swapped(args.out), {}, args.alpha, args.beta};
}

// shaders/gemv.metal repeats these.
constexpr std::int64_t kGemvRows = 16;
constexpr std::size_t kGemvThreads = 256;
constexpr std::size_t kGemvByColumns = 32;
constexpr std::size_t kGemvByRows = 128;

}  // namespace

bool read_in_fours(const TensorArg& x) {
  const bool by_rows = column_stride(x) == 1;
  if (!by_rows && row_stride(x) != 1) return false;
  bool fits = x.offset % 4 == 0 && x.shape[by_rows ? x.rank - 1 : x.rank - 2] % 4 == 0;
  for (int d = 0; d < x.rank; ++d) {
    const bool unit = d == (by_rows ? x.rank - 1 : x.rank - 2);
    fits = fits && (unit || x.strides[d] % 4 == 0 || x.shape[d] == 1);
  }
  return fits;
}

namespace {

/// Whether B's elements are neighbours along one of its dimensions.
bool has_neighbours(const TensorArg& b) {
  return row_stride(b) == 1 || column_stride(b) == 1;
}

bool is_gemv(const NativeProduct& product) {
  return product.params.m <= kGemvRows && has_neighbours(product.args.b);
}

/// The product as the shader for few rows takes it: itself or turned; none where neither has few rows.
std::optional<NativeProduct> gemv_product(const MatmulArgs& args) {
  NativeProduct product(args);
  if (is_gemv(product)) return product;
  // The bias goes by columns.
  const MatmulArgs other = turned(args);
  if (args.bias.present() || !native_matmul_supports(other).empty()) return std::nullopt;
  NativeProduct across(other);
  if (is_gemv(across)) return across;
  return std::nullopt;
}

void encode_gemv(Engine& engine, const NativeProduct& product, Work work) {
  const shader::MatmulParams& params = product.params;
  const bool by_columns = params.b_row == 1;
  const std::int64_t length = by_columns ? params.k : params.n;
  const std::int64_t stride = by_columns ? params.b_column : params.b_row;
  bool in_fours = length % 4 == 0 && stride % 4 == 0 && product.args.b.offset % 4 == 0;
  for (int d = 0; d < product.batches.rank; ++d) in_fours = in_fours && params.b_batch[d] % 4 == 0;
  const ShaderConstant constants[] = {shader_constant(0, std::bit_ceil(params.m)),
                                      shader_constant(1, in_fours)};
  const std::size_t columns = by_columns ? kGemvByColumns : kGemvByRows;
  engine.encode("matmul", work, [&](Encoding& encoding) {
    Launch(encoding, "gemv",
           (by_columns ? "gemv_columns" : "gemv_rows") + suffix(product.args.a.dtype) +
               suffix(product.args.b.dtype) + suffix(product.args.out.dtype),
           constants)
        .tensor(product.args.a)
        .tensor(product.args.b)
        .tensor(product.args.out)
        .optional(product.args.bias, product.args.out)
        .params(params)
        .groups({(params.n + columns - 1) / columns, 1, product.count()}, kGemvThreads);
  });
}

void encode_tile_rows(Engine& engine, const MatmulArgs& given) {
  const NativeProduct product(given);
  const shader::MatmulParams& params = product.params;
  const ShaderConstant constants[] = {
      shader_constant(0, read_in_fours(product.args.a) && read_in_fours(product.args.b))};
  const objc::Size groups{(params.n + kTile - 1) / kTile, (params.m + kTile - 1) / kTile, product.count()};
  engine.encode("matmul", work_of(given), [&](Encoding& encoding) {
    Launch(encoding, "matmul",
           "matmul" + suffix(product.args.a.dtype) + suffix(product.args.b.dtype) +
               suffix(product.args.out.dtype),
           constants)
        .tensor(product.args.a)
        .tensor(product.args.b)
        .tensor(product.args.out)
        .optional(product.args.bias, product.args.out)
        .params(params)
        .groups(groups, kTileThreads);
  });
}

/// In parts of whole tiles of rows that a display can wait for, each its own dispatch.
void encode_tiles(Engine& engine, const MatmulArgs& args) {
  const std::int64_t rows = row_count(args.out);
  const double row_flop = work_of(args).flop / static_cast<double>(std::max<std::int64_t>(rows, 1));
  const double most = engine.limits().flop / std::max(row_flop, 1.0);
  const auto tile = static_cast<std::int64_t>(kTile);
  const std::int64_t part = most >= static_cast<double>(rows)
                                ? rows
                                : std::max<std::int64_t>(tile, static_cast<std::int64_t>(most) / tile * tile);
  for (std::int64_t first = 0; first < rows; first += part) {
    const std::int64_t count = std::min(part, rows - first);
    MatmulArgs some = args;
    some.a = rows_of(args.a, first, count);
    some.out = rows_of(args.out, first, count);
    encode_tile_rows(engine, some);
  }
}

}  // namespace

std::string gemv_supports(const MatmulArgs& args) {
  const std::string refusal = native_matmul_supports(args);
  if (!refusal.empty()) return refusal;
  return gemv_product(args).has_value()
             ? ""
             : fmt::format("takes at most {} rows or columns, against an operand with neighbours", kGemvRows);
}

void encode_native_matmul(Engine* engine, const MatmulArgs& args, Workspace memory) {
  if (memory.measuring()) return;
  if (const std::optional<NativeProduct> few = gemv_product(args)) {
    encode_gemv(*engine, *few, work_of(args));
  } else {
    encode_tiles(*engine, args);
  }
}

namespace {

void mps_matmul(const MatmulArgs& args, Engine* engine, Workspace memory) {
  encode_mps_matmul(engine, args, memory);
}

}  // namespace

void fill_matmul(KernelTable& table, const Offer& offer) {
  if (offer.mps) {
    add_measured<mps_matmul>(table.matmul, "mps", mps_matmul_supports);
  }
  table.matmul.add("gemv", gemv_supports, [](const MatmulArgs& args, Stream& stream) {
    encode_native_matmul(&static_cast<Engine&>(stream), args, {});
  });
  table.matmul.add("simdgroup", native_matmul_supports, [](const MatmulArgs& args, Stream& stream) {
    encode_tiles(static_cast<Engine&>(stream), args);
  });
}

}  // namespace candela::metal
