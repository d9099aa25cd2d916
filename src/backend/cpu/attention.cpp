#include "backend/cpu/attention.h"

#include <atomic>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"

namespace candela {
namespace attention_detail {

Range visible_keys(const AttentionArgs& args, std::int64_t b, std::int64_t t) {
  const std::int64_t keys = args.k.shape[1];
  std::int64_t position = keys - args.q.shape[1] + t;
  if (args.q_start.present()) position = args.q_start.as<std::int32_t>()[b * args.q_start.strides[0]] + t;
  Range seen{0, keys};
  if (args.cu_seqlens.present()) {
    const auto bound = [&](std::int64_t n) {
      return std::int64_t{args.cu_seqlens.as<std::int32_t>()[n * args.cu_seqlens.strides[0]]};
    };
    // The sequence of t: between the last bound at or before it and the first after it.
    std::int64_t low = 0;
    std::int64_t high = args.cu_seqlens.shape[0];
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      (bound(middle) <= t ? low : high) = bound(middle) <= t ? middle + 1 : middle;
    }
    if (low > 0) seen.begin = std::clamp<std::int64_t>(bound(low - 1), 0, keys);
    if (low < args.cu_seqlens.shape[0]) seen.end = std::clamp<std::int64_t>(bound(low), 0, keys);
  }
  if (args.causal) seen.end = std::min(seen.end, position + 1);
  if (args.window_after > 0) seen.end = std::min(seen.end, position + args.window_after);
  if (args.window > 0) seen.begin = std::max(seen.begin, position - args.window + 1);
  return seen.empty() ? Range{} : seen;
}

Tile::Tile(const AttentionArgs& args, const Geometry& g, std::int64_t of_b, std::int64_t of_key_head,
           std::int64_t index)
    : b(of_b),
      key_head(of_key_head),
      first(index * kTileRows),
      count(std::min(kTileRows, g.rows - first)),
      hull{g.keys, 0},
      common{0, g.keys} {
  std::int64_t t = first / g.group;
  std::int64_t of_group = first % g.group;
  for (std::int64_t i = 0; i < count; ++i, ++of_group) {
    if (of_group == g.group) {
      ++t;
      of_group = 0;
    }
    query[i] = t;
    head[i] = key_head * g.group + of_group;
    rows[i] = i > 0 && of_group > 0 ? rows[i - 1] : visible_keys(args, b, t);
    common.begin = std::max(common.begin, rows[i].begin);
    common.end = std::min(common.end, rows[i].end);
    if (rows[i].empty()) continue;
    hull.begin = std::min(hull.begin, rows[i].begin);
    hull.end = std::max(hull.end, rows[i].end);
  }
  if (hull.empty()) hull = {};
}

}  // namespace attention_detail

namespace {

using attention_detail::Geometry;
using attention_detail::KeyCache;
using attention_detail::kKeyBlock;
using attention_detail::kTileRows;
using attention_detail::Range;
using attention_detail::Sums;
using attention_detail::Tile;

/// Work is cut into at least this many pieces where it can be, so that as many threads find something to do.
/// How it is cut decides how sums are rounded, so it does not look at the number of threads.
constexpr std::int64_t kPieces = 64;
/// Keys below which a piece is not cut further: joining costs more then.
constexpr std::int64_t kPieceKeys = 4 * kKeyBlock;
/// Multiply-adds that are worth waking a thread for.
constexpr double kThreadWork = 1 << 19;

/// How many threads share the tasks. All or one: the runtime ends the threads that a smaller team leaves out,
/// and starts them again later.
std::int64_t threads_for(std::int64_t tasks, double multiply_adds) {
  return tasks > 1 && multiply_adds > 2 * kThreadWork ? std::max(thread_count(), 1) : 1;
}

/// Calls body(task, work) for every task, each thread with a `work` of its own. A thread takes the next few
/// tasks that are left, neighbours, which share keys: what a task computes must not depend on who runs it.
template <class MakeWork, class Body>
void share(std::int64_t tasks, double multiply_adds, MakeWork&& make_work, Body&& body) {
  const std::int64_t threads = threads_for(tasks, multiply_adds);
  constexpr std::int64_t kTurns = 8;  // of each thread: enough for even loads
  const std::int64_t step = std::max<std::int64_t>(tasks / (threads * kTurns), 1);
  std::atomic<std::int64_t> next{0};
  parallel_for(threads, 1, [&](std::int64_t, std::int64_t) {
    std::int64_t first = next.fetch_add(step);
    if (first >= tasks) return;
    auto work = make_work();
    for (; first < tasks; first = next.fetch_add(step)) {
      for (std::int64_t task = first; task < std::min(first + step, tasks); ++task) body(task, work);
    }
  });
}

/// Multiply-adds of one product of all rows with all keys.
double product_work(const Geometry& g) {
  return static_cast<double>(g.batch * g.key_heads * g.rows) * static_cast<double>(g.keys * g.size);
}

/// One thread's buffers.
struct Work {
  Work(const Geometry& g, std::int64_t elements, WorkspaceSlots& slots)
      : slot(slots), floats(slot.array<float>(KeyCache::elements(g) + elements)), cache(g, floats) {}
  float* memory(const Geometry& g) const { return floats + KeyCache::elements(g); }
  /// For the threads that share the tasks.
  static WorkspaceSlots slots(const Geometry& g, std::int64_t elements, std::int64_t tasks,
                              double multiply_adds, Workspace& memory) {
    return {memory, concurrent_bodies(std::min(threads_for(tasks, multiply_adds), tasks), 1),
            static_cast<std::size_t>(KeyCache::elements(g) + elements) * sizeof(float)};
  }

  WorkspaceSlots::Slot slot;
  float* floats;
  KeyCache cache;
};

bool unit_last(const TensorArg& x) {
  return x.strides[3] == 1 || x.shape[3] <= 1;
}

std::string attention_supports(const AttentionArgs& args) {
  if (auto refusal = refuse_f64(args.q); !refusal.empty()) return refusal;
  if (!unit_last(args.q) || !unit_last(args.k) || !unit_last(args.v) || !unit_last(args.out))
    return "needs unit last strides";
  return {};
}

/// How the forward pass is cut, and the elements it takes: a thread's memory, and the sums of a tile.
struct ForwardCut {
  std::int64_t tiles, parts, rows, memory_size, sums_size;

  explicit ForwardCut(const Geometry& g)
      : tiles(g.batch * g.key_heads * g.tiles),
        parts(std::clamp<std::int64_t>((kPieces + tiles - 1) / tiles, 1, (g.keys - 1) / kPieceKeys + 1)),
        rows(std::min(kTileRows, g.rows)),
        memory_size(attention_detail::forward_memory(g)),
        sums_size(attention_detail::sums_size(g, rows)) {}
};

/// Throws InvalidArgument unless cu_seqlens goes from 0 to T without decreasing. Checked where the host has
/// the values without waiting; kernels of all devices stay within T whatever they are.
void check_bounds(const AttentionArgs& args) {
  if (!args.cu_seqlens.present()) return;
  const auto bound = [&](std::int64_t n) {
    return args.cu_seqlens.as<std::int32_t>()[n * args.cu_seqlens.strides[0]];
  };
  require(bound(0) == 0, "attention: cu_seqlens must start at 0; got {}", bound(0));
  const std::int64_t last = args.cu_seqlens.shape[0] - 1;
  for (std::int64_t n = 1; n <= last; ++n) {
    require(bound(n) >= bound(n - 1), "attention: cu_seqlens must not decrease; got {} after {} at index {}",
            bound(n), bound(n - 1), n);
  }
  require(bound(last) == args.q.shape[1], "attention: cu_seqlens must end at T = {}; got {}", args.q.shape[1],
          bound(last));
}

void attention(const AttentionArgs& args, Workspace memory) {
  const Geometry g(args);
  const ForwardCut cut(g);
  const std::int64_t tiles = cut.tiles;
  const std::int64_t parts = cut.parts;
  const std::int64_t rows = cut.rows;
  const std::int64_t memory_size = cut.memory_size;
  const std::int64_t sums_size = cut.sums_size;
  auto* partial = memory.take<float>(parts > 1 ? tiles * parts * sums_size : 0);
  const double multiply_adds = 2 * product_work(g);
  WorkspaceSlots slots = Work::slots(g, memory_size + sums_size, tiles * parts, multiply_adds, memory);
  if (memory.measuring()) return;
  check_bounds(args);
  // Few rows fill less of a vector than the head size does. But the gradient takes the scores again, tile by
  // tile, and they have to come out as they do here.
  const bool decode = g.queries == 1 && g.group <= gemm_detail::kNarrowRows && !args.top.present();
  // Later tiles first: with a causal mask they have more to do, and what is left at the end is small.
  const auto tile_at = [&](std::int64_t index) {
    const std::int64_t head = index / g.tiles;
    return Tile(args, g, head / g.key_heads, head % g.key_heads, g.tiles - 1 - index % g.tiles);
  };
  const auto make_work = [&] { return Work(g, memory_size + sums_size, slots); };
  const auto attend = [&](const Tile& tile, Range keys, Work& work, const Sums& sums) {
    if (decode) return attention_detail::decode_tile(args, g, tile, keys, work.memory(g), sums);
    attention_detail::forward_tile(args, g, tile, keys, work.memory(g), work.cache, sums);
  };
  if (parts == 1) {
    share(tiles, multiply_adds, make_work, [&](std::int64_t task, Work& work) {
      const Tile tile = tile_at(task);
      const Sums sums = attention_detail::sums_at(work.memory(g) + memory_size);
      attend(tile, tile.hull, work, sums);
      attention_detail::finish_tile(args, g, tile, &sums, 1);
    });
    return;
  }
  const auto sums_of = [&](std::int64_t task) {
    return attention_detail::sums_at(partial + task * sums_size);
  };
  share(tiles * parts, multiply_adds, make_work, [&](std::int64_t task, Work& work) {
    const Tile tile = tile_at(task / parts);
    attend(tile, tile.hull.part(task % parts, parts), work, sums_of(task));
  });
  share(
      tiles, static_cast<double>(tiles * parts * rows * g.size), [] { return 0; },
      [&](std::int64_t index, int) {
        std::vector<Sums> sums;
        for (std::int64_t part = 0; part < parts; ++part) sums.push_back(sums_of(index * parts + part));
        attention_detail::finish_tile(args, g, tile_at(index), sums.data(), parts);
      });
}

/// How the backward pass of one key head is cut: `runs` runs of tiles, each against `parts` parts of the keys
/// it sees. Runs have sums dk and dv of their own, parts of one run sums dq.
struct Grid {
  std::int64_t runs = 1, parts = 1;
};

/// Bytes that the sums of all pieces may take.
constexpr double kGradBytes = 128 << 20;

/// The grid of kPieces pieces, or as many as fit kGradBytes, that takes the least memory.
Grid choose_grid(const Geometry& g) {
  const std::int64_t heads = g.batch * g.key_heads;
  const std::int64_t most_parts = (g.keys - 1) / kPieceKeys + 1;
  for (std::int64_t pieces = (kPieces + heads - 1) / heads; pieces > 1; pieces /= 2) {
    Grid best;
    double least = kGradBytes;
    for (std::int64_t runs = 1; runs <= std::min(pieces, g.tiles); ++runs) {
      const std::int64_t parts = std::min((pieces + runs - 1) / runs, most_parts);
      const std::int64_t rows = 2 * runs * g.keys + (parts > 1 ? parts * g.rows : 0);
      const double bytes = static_cast<double>(heads * rows) * static_cast<double>(g.padded) * sizeof(float);
      const bool fills = runs * parts >= pieces || runs == std::min(pieces, g.tiles);
      if (!fills || bytes >= least) continue;
      least = bytes;
      best = {runs, parts};
    }
    if (least < kGradBytes) return best;
  }
  return {};
}

/// Tiles [begin, end) of one key head, in the order of their rows, against the keys `keys`. Sums: dk and dv
/// [keys, padded]; dq [end - begin, kTileRows, padded] where the run has several parts.
struct Piece {
  std::int64_t begin, end;
  Range keys;
  /// of its sums in those of the head
  std::int64_t offset;
};

/// How the key heads of one row of the batch are cut.
struct Cut {
  /// run by run, the parts of each in turn
  std::vector<Piece> pieces;
  std::int64_t parts = 1;
  /// elements of the sums of one head
  std::int64_t memory = 0;
};

/// Runs have about equally many keys to see.
Cut cut_work(const AttentionArgs& args, const Geometry& g, const Grid& grid, std::int64_t b) {
  std::vector<Range> hulls;
  std::int64_t total = 0;
  for (std::int64_t tile = 0; tile < g.tiles; ++tile) {
    hulls.push_back(Tile(args, g, b, 0, tile).hull);
    total += hulls.back().count();
  }
  Cut cut;
  cut.parts = grid.parts;
  std::int64_t begin = 0;
  std::int64_t done = 0;
  for (std::int64_t run = 1; run <= grid.runs; ++run) {
    Range keys{g.keys, 0};
    std::int64_t end = begin;
    for (; end < g.tiles && (run == grid.runs || done * grid.runs < total * run); ++end) {
      const Range& hull = hulls[static_cast<std::size_t>(end)];
      done += hull.count();
      if (!hull.empty()) keys = {std::min(keys.begin, hull.begin), std::max(keys.end, hull.end)};
    }
    if (keys.empty()) keys = {};
    for (std::int64_t part = 0; part < grid.parts; ++part) {
      cut.pieces.push_back({begin, end, keys.part(part, grid.parts), cut.memory});
      cut.memory += 2 * cut.pieces.back().keys.count() * g.padded;
      if (grid.parts > 1) cut.memory += (end - begin) * kTileRows * g.padded;
    }
    begin = end;
  }
  return cut;
}

/// The backward pass of one key head.
struct GradHead {
  const AttentionGradArgs& args;
  const Geometry& g;
  const Cut& cut;
  std::int64_t b, key_head;
  /// of its pieces, cut.memory elements
  float* sums;

  float* dk(const Piece& piece) const { return sums + piece.offset; }
  float* dv(const Piece& piece) const { return dk(piece) + piece.keys.count() * g.padded; }
  float* dq(const Piece& piece, std::int64_t tile) const {
    return dv(piece) + (piece.keys.count() + (tile - piece.begin) * kTileRows) * g.padded;
  }

  /// The sums of one piece; dq goes by way of the thread's memory and is written at once where its run has
  /// one part.
  void run(const Piece& piece, Work& work) const {
    float* tile_dq = work.memory(g) + attention_detail::grad_memory(g);
    std::fill_n(dk(piece), 2 * piece.keys.count() * g.padded, 0.0F);
    // The last tile first: with a causal mask it sees the most keys, and the others find them in the cache.
    for (std::int64_t index = piece.end - 1; index >= piece.begin; --index) {
      const Tile tile(args.forward, g, b, key_head, index);
      const Range keys{std::max(tile.hull.begin, piece.keys.begin), std::min(tile.hull.end, piece.keys.end)};
      const std::int64_t at = keys.empty() ? 0 : (keys.begin - piece.keys.begin) * g.padded;
      float* to = cut.parts > 1 ? dq(piece, index) : tile_dq;
      attention_detail::grad_tile(args, g, tile, keys, work.memory(g), work.cache, to, dk(piece) + at,
                                  dv(piece) + at);
      if (cut.parts == 1) attention_detail::store_tile(&to, 1, args.dq, g, tile);
    }
  }

  /// Joins dq of the run whose first piece is `first`.
  void join_queries(std::size_t first) const {
    const Piece& run = cut.pieces[first];
    for (std::int64_t index = run.begin; index < run.end; ++index) {
      std::vector<const float*> parts;
      for (std::int64_t part = 0; part < cut.parts; ++part)
        parts.push_back(dq(cut.pieces[first + static_cast<std::size_t>(part)], index));
      attention_detail::store_tile(parts.data(), cut.parts, args.dq, g,
                                   Tile(args.forward, g, b, key_head, index));
    }
  }

  /// Writes dk and dv of the keys: the sums of all pieces that met them, in order.
  void store_keys(Range keys) const {
    const Matrix to_k = attention_detail::head_of(args.dk, b, key_head);
    const Matrix to_v = attention_detail::head_of(args.dv, b, key_head);
    std::vector<const float*> k_rows;
    std::vector<const float*> v_rows;
    // Stretches that the same pieces met.
    for (std::int64_t key = keys.begin, end = keys.end; key < keys.end; key = end, end = keys.end) {
      k_rows.clear();
      v_rows.clear();
      for (const Piece& piece : cut.pieces) {
        if (piece.keys.begin > key) end = std::min(end, piece.keys.begin);
        if (piece.keys.end > key) end = std::min(end, piece.keys.end);
        if (key < piece.keys.begin || key >= piece.keys.end) continue;
        k_rows.push_back(dk(piece) + (key - piece.keys.begin) * g.padded);
        v_rows.push_back(dv(piece) + (key - piece.keys.begin) * g.padded);
      }
      const auto count = static_cast<std::int64_t>(k_rows.size());
      attention_detail::store_rows(k_rows.data(), count, to_k.at(key, 0), end - key, g);
      attention_detail::store_rows(v_rows.data(), count, to_v.at(key, 0), end - key, g);
    }
  }
};

std::string attention_grad_supports(const AttentionGradArgs& args) {
  if (!unit_last(args.dout) || !unit_last(args.dq) || !unit_last(args.dk) || !unit_last(args.dv))
    return "needs unit last strides";
  return attention_supports(args.forward);
}

/// Elements of a thread's memory in the backward pass.
std::int64_t grad_memory_size(const Geometry& g) {
  return attention_detail::grad_memory(g) + kTileRows * g.padded;
}

/// Elements of the sums of one head, whatever its cut.
std::int64_t most_sums(const AttentionGradArgs& args, const Geometry& g, const Grid& grid) {
  // q_start and cu_seqlens decide which keys a query sees, and may not be there yet.
  if (args.forward.q_start.present() || args.forward.cu_seqlens.present())
    return (2 * grid.runs * g.keys + (grid.parts > 1 ? grid.parts * g.tiles * kTileRows : 0)) * g.padded;
  return cut_work(args.forward, g, grid, 0).memory;
}

void attention_grad(const AttentionGradArgs& args, Workspace memory) {
  const Geometry g(args.forward);
  const Grid grid = choose_grid(g);
  const std::int64_t largest = most_sums(args, g, grid);
  const std::int64_t heads = g.batch * g.key_heads;
  const std::int64_t memory_size = grad_memory_size(g);
  const double multiply_adds = 5 * product_work(g);
  const std::int64_t pieces = grid.runs * grid.parts;
  auto* sums = memory.take<float>(pieces > 1 ? heads * largest : 0);
  const std::int64_t thread_size = memory_size + (pieces > 1 ? 0 : largest);
  WorkspaceSlots slots = Work::slots(g, thread_size, heads * pieces, multiply_adds, memory);
  if (memory.measuring()) return;
  std::vector<Cut> cuts;
  for (std::int64_t b = 0; b < g.batch; ++b) {
    const bool as_first = b > 0 && !args.forward.q_start.present();
    cuts.push_back(as_first ? cuts.front() : cut_work(args.forward, g, grid, b));
  }
  const auto head_at = [&](std::int64_t index, float* own) {
    const std::int64_t b = index / g.key_heads;
    return GradHead{args, g, cuts[static_cast<std::size_t>(b)], b, index % g.key_heads, own};
  };
  const auto make_work = [&] { return Work(g, thread_size, slots); };
  if (pieces == 1) {
    share(heads, multiply_adds, make_work, [&](std::int64_t task, Work& work) {
      const GradHead head = head_at(task, work.memory(g) + memory_size);
      head.run(head.cut.pieces[0], work);
      head.store_keys({0, g.keys});
    });
    return;
  }
  const auto shared_head = [&](std::int64_t index) { return head_at(index, sums + index * largest); };
  share(heads * pieces, multiply_adds, make_work, [&](std::int64_t task, Work& work) {
    const GradHead head = shared_head(task / pieces);
    head.run(head.cut.pieces[static_cast<std::size_t>(task % pieces)], work);
  });
  const auto nothing = [] { return 0; };
  const auto rows = static_cast<double>(heads * g.size);
  const std::int64_t blocks = (g.keys + kKeyBlock - 1) / kKeyBlock;
  share(heads * blocks, rows * static_cast<double>(2 * grid.runs * g.keys), nothing,
        [&](std::int64_t task, int) {
          const std::int64_t key = task % blocks * kKeyBlock;
          shared_head(task / blocks).store_keys({key, std::min(key + kKeyBlock, g.keys)});
        });
  if (grid.parts == 1) return;
  share(heads * grid.runs, rows * static_cast<double>(grid.parts * g.rows), nothing,
        [&](std::int64_t task, int) {
          shared_head(task / grid.runs).join_queries(static_cast<std::size_t>(task % grid.runs * grid.parts));
        });
}

}  // namespace

void fill_attention(KernelTable& table) {
  table.attention.add_measured<attention>("flash", attention_supports);
  table.attention_grad.add_measured<attention_grad>("flash", attention_grad_supports);
}

}  // namespace candela
