#include <algorithm>
#include <cstring>

#include <candela/core/parallel.h>

#include "backend/cpu/blocks.h"
#include "backend/cpu/convert.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"
#include "backend/layout.h"

namespace candela {
namespace {

constexpr std::int64_t kGrain = 1 << 15;

template <class From, class To>
void copy_as(const CopyArgs& args) {
  const Loops<2> loops({args.out, args.x});
  const std::int64_t inner = loops.inner();
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(inner, 1));
  const auto run_inner = [&](std::int64_t index, std::int64_t begin, std::int64_t end) {
    std::int64_t offsets[2];
    loops.offsets(index, offsets);
    To* out = args.out.as<To>() + offsets[0];
    const From* x = args.x.as<From>() + offsets[1];
    const std::int64_t out_stride = loops.strides[0][loops.rank - 1];
    const std::int64_t x_stride = loops.strides[1][loops.rank - 1];
    if constexpr (std::is_same_v<From, To>) {
      if (out_stride == 1 && x_stride == 1) {
        std::memcpy(out + begin, x + begin, static_cast<std::size_t>(end - begin) * sizeof(To));
        return;
      }
    }
    for (std::int64_t i = begin; i < end; ++i) out[i * out_stride] = convert<To>(x[i * x_stride]);
  };
  if (loops.outer() == 1) {
    parallel_for(inner, kGrain, [&](std::int64_t begin, std::int64_t end) { run_inner(0, begin, end); });
  } else {
    parallel_for(loops.outer(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) run_inner(i, 0, inner);
    });
  }
}

void copy(const CopyArgs& args, Stream&) {
  dispatch_all(args.x.dtype, "copy", [&]<class From>() {
    dispatch_all(args.out.dtype, "copy", [&]<class To>() { copy_as<From, To>(args); });
  });
}

/// A copy between layouts whose innermost dimensions differ (a transposition): in tiles, so that both sides
/// use whole cache lines.
std::string supports_tiles(const CopyArgs& args) {
  if (args.x.dtype != args.out.dtype) return "copies one dtype";
  const Loops<2> loops({args.out, args.x});
  if (loops.rank < 2 || loops.strides[0][loops.rank - 1] != 1)
    return "out must be contiguous in the last dimension";
  return loops.strides[1][loops.rank - 2] == 1 ? "" : "x must be contiguous in the last dimension but one";
}

template <class T>
void copy_tile(const T* x, std::int64_t x_step, T* out, std::int64_t out_step, std::int64_t rows,
               std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) out[r * out_step + c] = x[r + c * x_step];
  }
}

void copy_tiles(const CopyArgs& args, Stream&) {
  constexpr std::int64_t kTile = 32;
  Loops<2> loops({args.out, args.x});
  const int last = loops.rank - 1;
  const std::int64_t rows = loops.shape[last - 1];
  const std::int64_t columns = loops.shape[last];
  const std::int64_t out_step = loops.strides[0][last - 1];
  const std::int64_t x_step = loops.strides[1][last];
  const std::int64_t bands = (rows + kTile - 1) / kTile;
  std::int64_t matrices = 1;
  for (int d = 0; d < last - 1; ++d) matrices *= loops.shape[d];
  dispatch_all(args.x.dtype, "copy", [&]<class T>() {
    parallel_for(matrices * bands, std::max<std::int64_t>(1, kGrain / (kTile * columns)),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t task = begin; task < end; ++task) {
                     std::int64_t at[2];
                     loops.offsets(task / bands * rows, at);
                     const std::int64_t r = task % bands * kTile;
                     for (std::int64_t c = 0; c < columns; c += kTile) {
                       copy_tile(args.x.as<T>() + at[1] + r + c * x_step, x_step,
                                 args.out.as<T>() + at[0] + r * out_step + c, out_step,
                                 std::min(kTile, rows - r), std::min(kTile, columns - c));
                     }
                   }
                 });
  });
}

void fill(const FillArgs& args, Stream&) {
  dispatch_all(args.out.dtype, "fill", [&]<class T>() {
    const Loops<1> loops({args.out});
    const T value = convert<T>(args.value);
    const std::int64_t stride = loops.strides[0][loops.rank - 1];
    for_each_block(loops, loops.inner(), false,
                   [&](const std::int64_t(&at)[1], std::int64_t first, std::int64_t count) {
                     T* out = args.out.as<T>() + at[0] + first * stride;
                     if (stride == 1) {
                       std::fill(out, out + count, value);
                     } else {
                       for (std::int64_t i = 0; i < count; ++i) out[i * stride] = value;
                     }
                   });
  });
}

}  // namespace

void fill_copy(KernelTable& table) {
  fill_copy_simd(table);
  table.copy.add("tiles", supports_tiles, copy_tiles);
  table.copy.add("loops", supports_all, copy);
  table.fill.add("loops", supports_all, fill);
}

}  // namespace candela
