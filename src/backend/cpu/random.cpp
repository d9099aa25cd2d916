#include "backend/cpu/blocks.h"
#include "backend/cpu/row_spans.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

constexpr std::int64_t kGrain = 1 << 13;

std::string supports_uniform(const UniformArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_normal(const NormalArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_dropout(const DropoutArgs& args) {
  return refuse_f64(args.x);
}

/// Calls body(at, count, target) for blocks of a fresh (contiguous) `out`, and converts what it leaves in
/// `target`.
template <class Body>
void for_each_new_block(const TensorArg& out, Body&& body) {
  dispatch_floating(out.dtype, "random", [&]<class T>() {
    parallel_for(out.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      alignas(64) float scratch[kBlock];
      for (std::int64_t at = begin; at < end; at += kBlock) {
        const std::int64_t count = std::min(kBlock, end - at);
        float* target = float_target(out.as<T>() + at, 1, scratch);
        body(static_cast<std::uint64_t>(at), count, target);
        write_floats(target, out.as<T>() + at, 1, count);
      }
    });
  });
}

void uniform(const UniformArgs& args, Stream&) {
  for_each_new_block(args.out, [&](std::uint64_t at, std::int64_t count, float* target) {
    spans::uniform(args.seed, args.offset + at, target, count);
    spans::unary(UnaryOp::Affine, target, target, count, static_cast<float>(args.high - args.low),
                 static_cast<float>(args.low));
    const auto least = static_cast<float>(args.least);
    const auto most = static_cast<float>(args.most);
    for (std::int64_t i = 0; i < count; ++i) target[i] = std::min(std::max(target[i], least), most);
  });
}

void normal(const NormalArgs& args, Stream&) {
  for_each_new_block(args.out, [&](std::uint64_t at, std::int64_t count, float* target) {
    alignas(64) float u[2 * kBlock];
    spans::uniform(args.seed, args.offset + 2 * at, u, 2 * count);
    spans::box_muller(u, target, count, static_cast<float>(args.mean), static_cast<float>(args.stddev));
  });
}

/// The numbers follow the row-major index of an element, whatever x's layout: the innermost dimension is
/// walked with its own position.
void dropout(const DropoutArgs& args, Stream&) {
  const std::uint64_t start =
      args.offset + (args.base.present() ? static_cast<std::uint64_t>(*args.base.as<std::int64_t>()) : 0);
  const auto p = static_cast<float>(args.p);
  const auto scale = static_cast<float>(1 / (1 - args.p));
  dispatch_floating(args.x.dtype, "dropout", [&]<class T>() {
    const Loops<2> loops({args.out, args.x});
    const std::int64_t inner = loops.inner();
    const std::int64_t out_stride = loops.strides[0][loops.rank - 1];
    const std::int64_t x_stride = loops.strides[1][loops.rank - 1];
    parallel_for(loops.outer() * inner, kGrain, [&](std::int64_t begin, std::int64_t end) {
      alignas(64) float scratch[kBlock];
      alignas(64) float u[kBlock];
      for (std::int64_t at = begin; at < end;) {
        std::int64_t offsets[2];
        loops.offsets(at / inner, offsets);
        const std::int64_t first = at % inner;
        const std::int64_t count = std::min({kBlock, end - at, inner - first});
        spans::uniform(args.seed, start + static_cast<std::uint64_t>(at), u, count);
        const float* x =
            read_floats(args.x.as<T>() + offsets[1] + first * x_stride, x_stride, count, scratch);
        T* out = args.out.as<T>() + offsets[0] + first * out_stride;
        float* target = float_target(out, out_stride, scratch);
        spans::keep_scaled(x, u, target, count, p, scale);
        write_floats(target, out, out_stride, count);
        at += count;
      }
    });
  });
}

}  // namespace

void fill_random(KernelTable& table) {
  table.uniform.add("highway", supports_uniform, uniform);
  table.normal.add("highway", supports_normal, normal);
  table.dropout.add("highway", supports_dropout, dropout);
}

}  // namespace candela
