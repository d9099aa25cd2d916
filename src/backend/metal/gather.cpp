#include "backend/metal/launch.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string grad_supports(const GatherGradArgs& args) {
  if (!is_shader_float(args.dy.dtype)) return "takes f32, f16 and bf16";
  if (args.dx.dtype != DType::F32) return "sums in f32";
  if (args.index.dtype != DType::I32 && args.index.dtype != DType::I64) return "takes i32 and i64 indices";
  if (args.dx.numel() > kMaxCount || args.index.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

void gather_grad(const GatherGradArgs& args, Stream& stream) {
  Engine& engine = static_cast<Engine&>(stream);
  shader::GatherParams params{};
  std::size_t rows = 1;
  for (int d = 0; d < args.dx.rank; ++d) {
    if (d == args.dim) continue;
    params.outer_shape[params.outer_rank] = static_cast<std::uint32_t>(args.dx.shape[d]);
    params.dy_outer[params.outer_rank] = args.dy.strides[d];
    params.index_outer[params.outer_rank] = args.index.strides[d];
    params.dx_outer[params.outer_rank] = args.dx.strides[d];
    ++params.outer_rank;
    rows *= static_cast<std::size_t>(args.dx.shape[d]);
  }
  params.length = static_cast<std::uint32_t>(args.dx.shape[args.dim]);
  params.picks = static_cast<std::uint32_t>(args.index.shape[args.dim]);
  params.dy_step = args.dy.strides[args.dim];
  params.index_step = args.index.strides[args.dim];
  params.dx_step = args.dx.strides[args.dim];
  engine.encode("gather_grad", {0, bytes_of(args.dx) + bytes_of(args.dy)}, [&](Encoding& encoding) {
    Launch(encoding, "gather", "gather_grad" + suffix(args.dy.dtype) + suffix(args.index.dtype))
        .tensor(args.dy)
        .tensor(args.index)
        .tensor(args.dx)
        .params(params)
        .rows(rows, params.length);
  });
}

}  // namespace

void fill_gather(KernelTable& table, const Offer&) {
  table.gather_grad.add("own", grad_supports, gather_grad);
}

}  // namespace candela::metal
