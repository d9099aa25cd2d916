#include <initializer_list>

#include "backend/metal/launch.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

/// How a shader for heads of up to `size` elements is cut: queries of a threadgroup, forward; queries or
/// keys, for gradients. shaders/attention.metal has the same numbers: 8 rows for each simdgroup.
struct HeadTile {
  std::int64_t size;
  std::size_t forward_simdgroups, grad_simdgroups;
};
constexpr HeadTile kTiles[] = {{32, 4, 4}, {64, 4, 4}, {128, 4, 2}, {256, 2, 1}, {320, 2, 1}};
constexpr std::size_t kBand = 8;
constexpr std::size_t kSimdWidth = 32;

const HeadTile& tile_of(std::int64_t size) {
  for (const HeadTile& tile : kTiles) {
    if (size <= tile.size) return tile;
  }
  throw Unsupported(fmt::format("attention: heads of {} elements do not fit threadgroup memory", size));
}

std::string supports(const AttentionArgs& args) {
  if (!is_shader_float(args.q.dtype)) return "takes f32, f16 and bf16";
  const std::int64_t largest = std::end(kTiles)[-1].size;
  if (args.q.shape[3] > largest) return fmt::format("takes heads of at most {} elements", largest);
  for (const TensorArg* x : {&args.q, &args.k}) {
    if (x->numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  }
  return {};
}

shader::HeadStrides strides_of(const TensorArg& x) {
  return {x.strides[0], x.strides[1], x.strides[2]};
}

/// Heads that may be read four elements at a time.
bool in_fours(const TensorArg& x) {
  bool fits = x.offset % 4 == 0;
  for (int d = 0; d < 3; ++d) fits = fits && (x.strides[d] % 4 == 0 || x.shape[d] == 1);
  return fits;
}

shader::AttentionParams params_of(const AttentionArgs& args) {
  shader::AttentionParams params{};
  params.q = strides_of(args.q);
  params.k = strides_of(args.k);
  params.v = strides_of(args.v);
  params.out = strides_of(args.out);
  params.queries = static_cast<std::uint32_t>(args.q.shape[1]);
  params.keys = static_cast<std::uint32_t>(args.k.shape[1]);
  params.heads = static_cast<std::uint32_t>(args.q.shape[2]);
  params.group = static_cast<std::uint32_t>(args.q.shape[2] / args.k.shape[2]);
  params.size = static_cast<std::uint32_t>(args.q.shape[3]);
  params.causal = args.causal ? 1 : 0;
  params.has_statistics = args.top.present() ? 1 : 0;
  params.has_q_start = args.q_start.present() ? 1 : 0;
  params.sequences = args.cu_seqlens.present() ? static_cast<std::uint32_t>(args.cu_seqlens.shape[0] - 1) : 0;
  params.in_fours = in_fours(args.q) && in_fours(args.k) && in_fours(args.v) ? 1 : 0;
  params.scale = static_cast<float>(args.scale);
  params.window = args.window;
  params.window_after = args.window_after;
  params.q_start_step = args.q_start.strides[0];
  params.cu_seqlens_step = args.cu_seqlens.strides[0];
  if (args.distance_bias.present()) {
    params.has_bias = 1;
    params.bias_head = args.distance_bias.strides[0];
    params.bias_step = args.distance_bias.strides[1];
    params.reach = args.distance_bias.shape[1] / 2;
  }
  return params;
}

/// One product of queries and keys, both ways, as if every key were seen.
double flop_of(const AttentionArgs& args) {
  return 2.0 * static_cast<double>(args.q.numel()) * static_cast<double>(args.k.shape[1]);
}

std::size_t blocks_of(std::int64_t rows, std::size_t simdgroups) {
  return (static_cast<std::size_t>(rows) + simdgroups * kBand - 1) / (simdgroups * kBand);
}

/// Indices [first, first + count) of dimension d; an absent argument stays absent.
TensorArg slice_of(const TensorArg& x, int d, std::int64_t first, std::int64_t count) {
  if (!x.present()) return x;
  TensorArg part = x;
  const std::int64_t skip = first * x.strides[d];
  part.shape[d] = count;
  part.offset += skip;
  if (part.data != nullptr)
    part.data = static_cast<std::byte*>(x.data) + skip * static_cast<std::int64_t>(size_of(x.dtype));
  return part;
}

/// Rows [first, first + count) of the batch.
AttentionArgs batch_part(const AttentionArgs& args, std::int64_t first, std::int64_t count) {
  AttentionArgs part = args;
  for (TensorArg* x : {&part.q, &part.k, &part.v, &part.out, &part.top, &part.total, &part.q_start})
    *x = slice_of(*x, 0, first, count);
  return part;
}

/// The query heads of key heads [first, first + count).
AttentionArgs head_part(const AttentionArgs& args, std::int64_t first, std::int64_t count) {
  AttentionArgs part = args;
  const std::int64_t group = args.q.shape[2] / args.k.shape[2];
  for (TensorArg* x : {&part.k, &part.v}) *x = slice_of(*x, 2, first, count);
  for (TensorArg* x : {&part.q, &part.out}) *x = slice_of(*x, 2, first * group, count * group);
  for (TensorArg* x : {&part.top, &part.total}) *x = slice_of(*x, 1, first * group, count * group);
  part.distance_bias = slice_of(args.distance_bias, 0, first * group, count * group);
  return part;
}

/// Calls encode(part, cut) for parts that a display can wait for: rows of the batch, or key heads where one
/// row is too much. cut(x, of_keys) is the same part of a tensor like k, or like q, or of statistics [B, H,
/// T].
template <class Encode>
void in_parts(const AttentionArgs& args, double flop, double limit, Encode&& encode) {
  const std::int64_t batch = args.q.shape[0];
  const std::int64_t key_heads = args.k.shape[2];
  const std::int64_t group = args.q.shape[2] / key_heads;
  // How many of `units` of `each` FLOP make one part.
  const auto fitting = [limit](double each, std::int64_t units) {
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(limit / std::max(each, 1.0)), 1,
                                    std::max<std::int64_t>(units, 1));
  };
  const double row = flop / static_cast<double>(std::max<std::int64_t>(batch, 1));
  const std::int64_t rows = fitting(row, batch);
  const std::int64_t heads =
      row > limit ? fitting(row / static_cast<double>(key_heads), key_heads) : key_heads;
  for (std::int64_t b = 0; b < batch; b += rows) {
    const std::int64_t row_count = std::min(rows, batch - b);
    const AttentionArgs of_rows = batch_part(args, b, row_count);
    for (std::int64_t h = 0; h < key_heads; h += heads) {
      const std::int64_t head_count = std::min(heads, key_heads - h);
      encode(head_part(of_rows, h, head_count), [&](const TensorArg& x, bool of_keys) {
        const std::int64_t each = of_keys ? 1 : group;
        return slice_of(slice_of(x, 0, b, row_count), x.rank == 4 ? 2 : 1, h * each, head_count * each);
      });
    }
  }
}

void encode_attention(Engine& engine, const AttentionArgs& args) {
  const shader::AttentionParams params = params_of(args);
  const HeadTile& tile = tile_of(args.q.shape[3]);
  const std::string name = fmt::format("attention{}_{}", suffix(args.q.dtype), tile.size);
  const Work work{2 * flop_of(args), 2 * bytes_of(args.q) + 2 * bytes_of(args.k)};
  engine.encode("attention", work, [&](Encoding& encoding) {
    Launch(encoding, "attention", name)
        .tensor(args.q)
        .optional(args.k, args.q)
        .optional(args.v, args.q)
        .tensor(args.out)
        .optional(args.top, args.q)
        .optional(args.total, args.q)
        .optional(args.q_start, args.q)
        .optional(args.cu_seqlens, args.q)
        .optional(args.distance_bias, args.q)
        .fault()
        .params(params)
        .groups({blocks_of(args.q.shape[1], tile.forward_simdgroups), params.heads,
                 static_cast<std::size_t>(args.q.shape[0])},
                tile.forward_simdgroups * kSimdWidth);
  });
}

void attention(const AttentionArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  in_parts(args, 2 * flop_of(args), engine.limits().flop,
           [&](const AttentionArgs& part, const auto&) { encode_attention(engine, part); });
}

void encode_attention_grad(Engine& engine, const AttentionGradArgs& args, const TensorArg& delta) {
  const AttentionArgs& forward = args.forward;
  shader::AttentionGradParams params{params_of(forward), strides_of(args.dout), strides_of(args.dq),
                                     strides_of(args.dk), strides_of(args.dv)};
  if (!in_fours(args.dout)) params.forward.in_fours = 0;
  const HeadTile& tile = tile_of(forward.q.shape[3]);
  const std::size_t threads = tile.grad_simdgroups * kSimdWidth;
  const auto batch = static_cast<std::size_t>(forward.q.shape[0]);
  const std::string kind = fmt::format("{}_{}", suffix(forward.q.dtype), tile.size);
  const double bytes = 3 * bytes_of(forward.q) + 2 * bytes_of(forward.k);
  const auto launch = [&](const char* shader, std::initializer_list<const TensorArg*> results,
                          std::int64_t rows, std::int64_t heads) {
    engine.encode("attention_grad", {5 * flop_of(forward), bytes}, [&](Encoding& encoding) {
      Launch bindings(encoding, "attention", shader + kind);
      bindings.tensor(forward.q)
          .optional(forward.k, forward.q)
          .optional(forward.v, forward.q)
          .tensor(args.dout);
      for (const TensorArg* result : results) bindings.tensor(*result);
      bindings.tensor(forward.top)
          .tensor(forward.total)
          .tensor(delta)
          .optional(forward.q_start, forward.q)
          .optional(forward.cu_seqlens, forward.q)
          .optional(forward.distance_bias, forward.q)
          .params(params)
          .groups({blocks_of(rows, tile.grad_simdgroups), static_cast<std::size_t>(heads), batch}, threads);
    });
  };
  launch("attention_grad_queries", {&args.dq}, forward.q.shape[1], forward.q.shape[2]);
  if (forward.k.shape[1] > 0)
    launch("attention_grad_keys", {&args.dk, &args.dv}, forward.k.shape[1], forward.k.shape[2]);
}

void attention_grad(const AttentionGradArgs& args, Engine* engine, Workspace memory) {
  const AttentionArgs& forward = args.forward;
  const TensorArg delta =
      memory.take_tensor({forward.q.shape[0], forward.q.shape[2], forward.q.shape[1]}, DType::F32);
  if (memory.measuring()) return;
  in_parts(forward, 5 * flop_of(forward), engine->limits().flop,
           [&](const AttentionArgs& part, const auto& cut) {
             encode_attention_grad(
                 *engine,
                 {part, cut(args.dout, false), cut(args.dq, false), cut(args.dk, true), cut(args.dv, true)},
                 cut(delta, false));
           });
}

}  // namespace

void fill_attention(KernelTable& table, const Offer&) {
  table.attention.add("flash", supports, attention);
  add_measured<attention_grad>(table.attention_grad, "flash",
                               [](const AttentionGradArgs& args) { return supports(args.forward); });
}

}  // namespace candela::metal
