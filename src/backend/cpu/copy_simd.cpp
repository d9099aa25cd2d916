#include <algorithm>

#include "backend/cpu/blocks.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/copy_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

void convert_blocks(const CopyArgs& args) {
  const Loops<2> loops({args.out, args.x});
  dispatch_floating(args.x.dtype, "copy", [&]<class From>() {
    dispatch_floating(args.out.dtype, "copy", [&]<class To>() {
      const bool stream = streams(args.out, args.x);
      for_each_block(loops, kBlock, stream,
                     [&](const std::int64_t(&at)[2], std::int64_t first, std::int64_t count) {
                       alignas(64) float buffer[kBlock];
                       To* out = args.out.as<To>() + at[0] + first;
                       const From* x = args.x.as<From>() + at[1] + first;
                       float* target = float_target(out, 1, buffer, stream);
                       if constexpr (std::is_same_v<From, float>) {
                         write_floats(x, out, 1, count, stream);
                       } else {
                         convert_span(x, target, count);
                         write_floats(target, out, 1, count, stream);
                       }
                     });
    });
  });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(convert_blocks);

void run_convert(const CopyArgs& args, Stream&) {
  HWY_DYNAMIC_DISPATCH(convert_blocks)(args);
}

bool is_short_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16;
}

/// Whether x and out step through memory one by one, so that whole spans can be converted.
std::string supports_convert(const CopyArgs& args) {
  if (!is_short_float(args.x.dtype) || !is_short_float(args.out.dtype) || args.x.dtype == args.out.dtype) {
    return "converts between f32, bf16 and f16";
  }
  const Loops<2> loops({args.out, args.x});
  const bool spans = loops.strides[0][loops.rank - 1] == 1 && loops.strides[1][loops.rank - 1] == 1;
  return spans ? "" : "x and out must be contiguous in the last dimension";
}

}  // namespace

void fill_copy_simd(KernelTable& table) {
  table.copy.add("highway", supports_convert, run_convert);
}

}  // namespace candela
#endif
