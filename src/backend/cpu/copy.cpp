#include <algorithm>
#include <cstring>

#include <candela/core/parallel.h>

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

void fill(const FillArgs& args, Stream&) {
  dispatch_all(args.out.dtype, "fill", [&]<class T>() {
    const Loops<1> loops({args.out});
    const T value = convert<T>(args.value);
    const std::int64_t stride = loops.strides[0][loops.rank - 1];
    parallel_for(loops.outer(), std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(loops.inner(), 1)),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     std::int64_t offset[1];
                     loops.offsets(i, offset);
                     T* out = args.out.as<T>() + offset[0];
                     for (std::int64_t j = 0; j < loops.inner(); ++j) out[j * stride] = value;
                   }
                 });
  });
}

}  // namespace

void fill_copy(KernelTable& table) {
  table.copy.add("loops", supports_all, copy);
  table.fill.add("loops", supports_all, fill);
}

}  // namespace candela
