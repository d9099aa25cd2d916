#include "backend/cuda/kernels/lora.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

TensorArg adapter_columns(const TensorArg& x, const LoraBranch& branch) {
  return columns_of(x, branch.first_row, branch.rank);
}

TensorArg output_columns(const TensorArg& y, const LoraBranch& branch) {
  return columns_of(y, branch.first_output, branch.outputs);
}

/// The chain of products: xa = lora_x A^T, y = x W^T + bias, y_i += scale_i xa_i B_i^T.
void products(const LoraLinearArgs& args, Stream& given) {
  CudaStream& stream = stream_of(given);
  enqueue_product(stream, {args.x, swapped(args.weight), args.y, args.bias, 1, 0});
  if (args.branch_count == 0) return;
  enqueue_product(stream, product(args.lora_x, swapped(args.a), args.xa));
  for (int i = 0; i < args.branch_count; ++i) {
    const LoraBranch& branch = args.branches[i];
    enqueue_product(stream, product(adapter_columns(args.xa, branch), swapped(branch.b),
                                    output_columns(args.y, branch), branch.scale, 1));
  }
}

void products_grad(const LoraLinearGradArgs& args, Stream& given) {
  CudaStream& stream = stream_of(given);
  const LoraLinearArgs& forward = args.forward;
  if (args.dx.present()) enqueue_product(stream, product(args.dy, forward.weight, args.dx));
  if (forward.branch_count == 0) return;
  for (int i = 0; i < forward.branch_count; ++i) {
    const LoraBranch& branch = forward.branches[i];
    const TensorArg dy = output_columns(args.dy, branch);
    enqueue_product(stream, product(dy, branch.b, adapter_columns(args.dxa, branch), branch.scale));
    if (args.db[i].present())
      enqueue_product(stream,
                      product(swapped(dy), adapter_columns(forward.xa, branch), args.db[i], branch.scale));
  }
  if (forward.separate) {
    if (args.dlora_x.present()) enqueue_product(stream, product(args.dxa, forward.a, args.dlora_x));
  } else if (args.dx.present()) {
    enqueue_product(stream, product(args.dxa, forward.a, args.dx, 1, 1));
  }
  if (args.da.present()) enqueue_product(stream, product(swapped(args.dxa), forward.lora_x, args.da));
}

/// A wide matrix that the fused kernels read and write 16 bytes at a time.
bool is_wide(const TensorArg& x) {
  return x.dtype == DType::BF16 && x.strides[1] == 1 && x.strides[0] % 8 == 0 && x.shape[1] % 8 == 0 &&
         reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
}

std::string fused_supports(const LoraLinearArgs& args) {
  if (args.branch_count == 0) return "there is no adapter";
  if (args.a.dtype != DType::F32 && args.a.dtype != DType::BF16) return "takes adapters in f32 and bf16";
  // Ranks are cut into pieces of 64, a branch's last one may be smaller.
  if (args.a.shape[0] > std::int64_t{kMaxGroupRank} * (kMaxPieces - kMaxLoraBranches))
    return "takes fewer ranks";
  if (!is_wide(args.x) || !is_wide(args.lora_x)) return "takes bf16 in rows of 16 bytes";
  if (args.xa.strides[1] != 1) return "takes xa in rows";
  for (int i = 0; i < args.branch_count; ++i) {
    if (args.branches[i].first_output % 8 != 0 || args.branches[i].outputs % 8 != 0)
      return "takes outputs in groups of 8";
  }
  return {};
}

std::string fused_forward_supports(const LoraLinearArgs& args) {
  return is_wide(args.y) ? fused_supports(args) : "takes bf16 in rows of 16 bytes";
}

std::string fused_grad_supports(const LoraLinearGradArgs& args) {
  const auto fits = [](const TensorArg& x) { return !x.present() || is_wide(x); };
  if (!fits(args.dy) || !fits(args.dx) || !fits(args.dlora_x)) return "takes bf16 in rows of 16 bytes";
  const auto adapter = [&](const TensorArg& x) {
    return !x.present() || x.dtype == DType::F32 || x.dtype == DType::BF16;
  };
  if (!adapter(args.da)) return "da must be f32 or bf16";
  for (int i = 0; i < args.forward.branch_count; ++i) {
    if (!adapter(args.db[i]) || (args.db[i].present() && args.db[i].dtype != args.db[0].dtype))
      return "all db must be f32 or bf16";
  }
  return fused_supports(args.forward);
}

constexpr std::int64_t kColumnGroup = 32;  // columns of `expand` come in whole groups

/// The ranks of all branches in pieces of at most 64, each padded to a multiple of 16.
LowRankParams cut_ranks(const LoraLinearArgs& args) {
  LowRankParams params{};
  params.factor_type = type_of(args.a);
  for (int i = 0; i < args.branch_count; ++i) {
    const LoraBranch& branch = args.branches[i];
    for (std::int64_t start = 0; start < branch.rank; start += kMaxGroupRank) {
      const std::int64_t rank = std::min<std::int64_t>(kMaxGroupRank, branch.rank - start);
      params.pieces[params.piece_count++] = {branch.first_row + start, rank, params.padded};
      params.padded += (rank + 15) / 16 * 16;
    }
  }
  return params;
}

std::int64_t padded_rank(const LowRankParams& ranks, int piece) {
  return (piece + 1 < ranks.piece_count ? ranks.pieces[piece + 1].padded_rank : ranks.padded) -
         ranks.pieces[piece].padded_rank;
}

/// Pieces [first, first + count) that a kernel takes at once.
struct PieceRun {
  int first, count;
  std::int64_t padded;
};

/// Neighbouring pieces together, up to `most` padded ranks.
std::vector<PieceRun> join_pieces(const LowRankParams& ranks, std::int64_t most) {
  std::vector<PieceRun> runs;
  for (int i = 0; i < ranks.piece_count; ++i) {
    const std::int64_t padded = padded_rank(ranks, i);
    if (runs.empty() || runs.back().padded + padded > most) {
      runs.push_back({i, 1, padded});
    } else {
      ++runs.back().count;
      runs.back().padded += padded;
    }
  }
  return runs;
}

/// The branch that a piece is cut from, and its first rank there.
std::pair<int, std::int64_t> branch_of(const LoraLinearArgs& args, const RankPiece& piece) {
  int i = 0;
  while (piece.first_rank >= args.branches[i].first_row + args.branches[i].rank) ++i;
  return {i, piece.first_rank - args.branches[i].first_row};
}

/// What a call prepares for its products: its factors' terms, their form for launch_expand, and the terms of
/// the low matrices. Elements are bf16.
struct Prepared {
  LowRankParams ranks;
  WideParams project, expand;
  std::int64_t terms = 0, columns = 0;  // elements of the two forms
};

FactorParams factor_of(const TensorArg& factor, int piece) {
  return {factor.data, factor.strides[0], factor.strides[1], factor.shape[1], piece, 0, 0, 0, 0};
}

WideGroup wide_group(std::int64_t first, std::int64_t count, std::int64_t padded_rank, std::int64_t padded,
                     double scale) {
  WideGroup group{};
  group.first = first;
  group.count = count;
  group.padded_rank = padded_rank;
  group.padded = padded;
  group.scale = static_cast<float>(scale);
  return group;
}

WideParams wide_params(const TensorArg& wide) {
  WideParams params{};
  params.data = wide.data;
  params.rows = wide.shape[0];
  params.stride = wide.strides[0];
  return params;
}

/// A group of launch_project over `run`, whose factors [rank, count] are `factors` in order.
void add_project(Prepared& p, const PieceRun& run, std::span<const TensorArg> factors, std::int64_t first,
                 double scale) {
  WideGroup group =
      wide_group(first, factors[0].shape[1], p.ranks.pieces[run.first].padded_rank, run.padded, scale);
  group.terms_offset = p.terms;
  for (int i = 0; i < run.count; ++i) {
    FactorParams& factor = p.ranks.factors[p.ranks.factor_count++];
    factor = factor_of(factors[static_cast<std::size_t>(i)], run.first + i);
    factor.terms_offset =
        p.terms + (p.ranks.pieces[run.first + i].padded_rank - group.padded_rank) * group.count;
    factor.terms_step = run.padded * group.count;
  }
  p.terms += kTerms * run.padded * group.count;
  p.project.groups[p.project.group_count++] = group;
}

/// The same for launch_expand; the factors are prepared by a launch of their own.
void add_expand(Prepared& p, LowRankParams& into, const PieceRun& run, std::span<const TensorArg> factors,
                std::int64_t first, double scale) {
  WideGroup group =
      wide_group(first, factors[0].shape[1], p.ranks.pieces[run.first].padded_rank, run.padded, scale);
  group.expand_offset = p.columns;
  for (int i = 0; i < run.count; ++i) {
    FactorParams& factor = into.factors[into.factor_count++];
    factor = factor_of(factors[static_cast<std::size_t>(i)], run.first + i);
    factor.expand_offset = p.columns + p.ranks.pieces[run.first + i].padded_rank - group.padded_rank;
    factor.expand_pitch = run.padded;
  }
  p.columns += (group.count + kColumnGroup - 1) / kColumnGroup * kColumnGroup * run.padded;
  p.expand.groups[p.expand.group_count++] = group;
}

constexpr std::int64_t kAnyRank = std::int64_t{1} << 40U;

/// The pieces of A [R, I], and the runs of them that one launch takes.
std::vector<TensorArg> pieces_of_a(const LowRankParams& ranks, const TensorArg& a, const PieceRun& run) {
  std::vector<TensorArg> factors;
  for (int i = run.first; i < run.first + run.count; ++i)
    factors.push_back(rows_of(a, ranks.pieces[i].first_rank, ranks.pieces[i].rank));
  return factors;
}

/// B_i^T [rank, O_i] of a piece.
TensorArg piece_of_b(const LoraLinearArgs& args, const RankPiece& piece, const TensorArg& b) {
  return swapped(columns_of(b, branch_of(args, piece).second, piece.rank));
}

/// Enqueues what `launch(stream)` does, but for a call that only measures its workspace.
template <class F>
void enqueue(CudaStream* stream, const F& launch) {
  if (stream != nullptr) check(launch(stream->handle()), "lora_linear");
}

/// A low matrix and room for its terms.
LowParams low_params(const TensorArg& low, const LowRankParams& ranks, Workspace& memory) {
  return {low.data, low.shape[0], low.strides[0], type_of(low),
          memory.take<BFloat16>(kTerms * low.shape[0] * ranks.padded)};
}

/// Brings the factors into both forms, and `low` into terms.
void enqueue_prepare(Prepared& p, LowRankParams& for_expand, const LowParams& low, CudaStream* stream,
                     Workspace& memory) {
  p.ranks.terms = memory.take<BFloat16>(p.terms);
  if (for_expand.factor_count > 0) for_expand.expand = memory.take<BFloat16>(p.columns);
  enqueue(stream, [&](cudaStream_t on) { return launch_prepare(p.ranks, for_expand, low, on); });
  p.ranks.expand = for_expand.expand;
}

/// Room for the parts of launch_project.
void take_projection(WideParams& wide, const LowRankParams& ranks, Workspace& memory) {
  const std::int64_t parts = project_parts(wide);
  if (parts > 1) wide.partial = memory.take<float>(parts * wide.rows * ranks.padded);
}

/// Whether the branches' outputs are all of `outputs`: then the delta may be there before the product, which
/// adds to it.
bool covers(const LoraLinearArgs& args, std::int64_t outputs) {
  std::int64_t covered = 0;
  for (int i = 0; i < args.branch_count; ++i) covered += args.branches[i].outputs;
  return covered == outputs;
}

/// Prepares expand over the branches: wide columns of each beside its own ranks.
void add_branches(Prepared& p, LowRankParams& into, const LoraLinearArgs& args) {
  for (int first = 0; first < p.ranks.piece_count;) {
    const LoraBranch& branch = args.branches[branch_of(args, p.ranks.pieces[first]).first];
    PieceRun run{first, 0, 0};
    std::vector<TensorArg> factors;
    while (first < p.ranks.piece_count && p.ranks.pieces[first].first_rank < branch.first_row + branch.rank) {
      factors.push_back(piece_of_b(args, p.ranks.pieces[first], branch.b));
      run.padded += padded_rank(p.ranks, first);
      ++run.count;
      ++first;
    }
    add_expand(p, into, run, factors, branch.first_output, branch.scale);
  }
}

/// xa and the deltas of all branches in one launch each; y = x W^T + bias by the library, which adds to the
/// deltas where they cover y: a wide y is then written once more and never read by a kernel of its own.
void fused(const LoraLinearArgs& args, CudaStream* stream, Workspace memory) {
  Prepared p;
  p.ranks = cut_ranks(args);
  LowRankParams for_expand = p.ranks;
  p.project = wide_params(args.lora_x);
  p.expand = wide_params(args.y);
  const bool first = covers(args, args.y.shape[1]);
  p.expand.add = !first;
  for (const PieceRun& run : join_pieces(p.ranks, kMaxGroupRank))
    add_project(p, run, pieces_of_a(p.ranks, args.a, run), 0, 1);
  add_branches(p, for_expand, args);
  enqueue_prepare(p, for_expand, {}, stream, memory);
  const LowParams xa = low_params(args.xa, p.ranks, memory);
  take_projection(p.project, p.ranks, memory);
  if (memory.measuring()) return;
  MatmulArgs base{args.x, swapped(args.weight), args.y, args.bias, 1, first ? 1.0 : 0.0};
  if (!first) enqueue_product(*stream, base);
  enqueue(stream, [&](cudaStream_t on) { return launch_project(p.ranks, p.project, xa, on); });
  enqueue(stream, [&](cudaStream_t on) { return launch_expand(p.ranks, p.expand, xa, on); });
  if (first) enqueue_product(*stream, base);
}

/// db_i = scale_i dy_i^T xa_i of every branch in one launch.
WideParams db_groups(const LowRankParams& ranks, const LoraLinearGradArgs& args) {
  WideParams wide = wide_params(args.dy);
  for (int i = 0; i < ranks.piece_count; ++i) {
    const auto [number, start] = branch_of(args.forward, ranks.pieces[i]);
    const LoraBranch& branch = args.forward.branches[number];
    if (!args.db[number].present()) continue;
    WideGroup group = wide_group(branch.first_output, branch.outputs, ranks.pieces[i].padded_rank,
                                 padded_rank(ranks, i), branch.scale);
    const TensorArg db = piece_of_b(args.forward, ranks.pieces[i], args.db[number]);
    group.result = db.data;
    group.rank_stride = db.strides[0];
    group.column_stride = db.strides[1];
    wide.groups[wide.group_count++] = group;
  }
  return wide;
}

/// da = dxa^T lora_x.
WideParams da_groups(const LowRankParams& ranks, const LoraLinearGradArgs& args) {
  WideParams wide = wide_params(args.forward.lora_x);
  if (!args.da.present()) return wide;
  for (const PieceRun& run : join_pieces(ranks, kMaxGroupRank)) {
    WideGroup group = wide_group(0, args.da.shape[1], ranks.pieces[run.first].padded_rank, run.padded, 1);
    const TensorArg da = rows_of(args.da, ranks.pieces[run.first].first_rank, 1);
    group.result = da.data;
    group.rank_stride = da.strides[0];
    group.column_stride = da.strides[1];
    wide.groups[wide.group_count++] = group;
  }
  return wide;
}

/// Room for the sums of launch_outer over shares of the rows.
void take_partial(WideParams& wide, DType result, Workspace& memory) {
  if (wide.group_count == 0) return;
  wide.result_type = type_of(result);
  wide.partial = memory.take<float>(outer_parts(wide) * outer_size(wide));
}

/// dxa first; its delta is in dx before the product, which adds to it; da and db in one launch.
void fused_grad(const LoraLinearGradArgs& args, CudaStream* stream, Workspace memory) {
  const LoraLinearArgs& forward = args.forward;
  const TensorArg& target = forward.separate ? args.dlora_x : args.dx;
  Prepared p;
  p.ranks = cut_ranks(forward);
  LowRankParams for_expand = p.ranks;
  p.project = wide_params(args.dy);
  for (int i = 0; i < p.ranks.piece_count; ++i) {
    const LoraBranch& branch = forward.branches[branch_of(forward, p.ranks.pieces[i]).first];
    const TensorArg factor = piece_of_b(forward, p.ranks.pieces[i], branch.b);
    add_project(p, {i, 1, padded_rank(p.ranks, i)}, std::span(&factor, 1), branch.first_output, branch.scale);
  }
  if (target.present()) {
    p.expand = wide_params(target);
    const PieceRun all = join_pieces(p.ranks, kAnyRank).front();
    add_expand(p, for_expand, all, pieces_of_a(p.ranks, forward.a, all), 0, 1);
  }
  WideParams db = db_groups(p.ranks, args);
  const LowParams xa = db.group_count > 0 ? low_params(forward.xa, p.ranks, memory) : LowParams{};
  enqueue_prepare(p, for_expand, xa, stream, memory);
  const LowParams dxa = low_params(args.dxa, p.ranks, memory);
  take_projection(p.project, p.ranks, memory);
  WideParams da = da_groups(p.ranks, args);
  take_partial(da, args.da.dtype, memory);
  take_partial(db, args.db[0].dtype, memory);
  if (memory.measuring()) return;
  enqueue(stream, [&](cudaStream_t on) { return launch_project(p.ranks, p.project, dxa, on); });
  if (target.present())
    enqueue(stream, [&](cudaStream_t on) { return launch_expand(p.ranks, p.expand, dxa, on); });
  if (args.dx.present())
    enqueue_product(*stream, product(args.dy, forward.weight, args.dx, 1, forward.separate ? 0 : 1));
  enqueue(stream, [&](cudaStream_t on) { return launch_outer(p.ranks, da, dxa, db, xa, on); });
}

}  // namespace

void fill_lora(KernelTable& table, const Offer&) {
  add_measured<fused>(table.lora_linear, "fused", fused_forward_supports);
  add_measured<fused_grad>(table.lora_linear_grad, "fused", fused_grad_supports);
  table.lora_linear.add(
      "products", [](const LoraLinearArgs& args) { return refuse_other_floats(args.x); }, products);
  table.lora_linear_grad.add(
      "products", [](const LoraLinearGradArgs& args) { return refuse_other_floats(args.forward.x); },
      products_grad);
}

}  // namespace candela::cuda
