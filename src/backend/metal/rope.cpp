#include "backend/metal/launch.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string supports(const RopeArgs& args) {
  if (!is_shader_float(args.x.dtype)) return "takes f32, f16 and bf16";
  if (args.x.numel() > kMaxCount || args.cos.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

shader::RopeParams params_of(const RopeArgs& args) {
  shader::RopeParams params{};
  for (int d = 0; d < 4; ++d) params.shape[d] = static_cast<std::uint32_t>(args.x.shape[d]);
  for (int d = 0; d < 3; ++d) {
    params.x_strides[d] = args.x.strides[d];
    params.out_strides[d] = args.out.strides[d];
  }
  params.length = static_cast<std::uint32_t>(args.cos.shape[0]);
  params.half_size = static_cast<std::uint32_t>(args.cos.shape[1]);
  params.inverse = args.inverse ? 1 : 0;
  params.position_strides[0] = args.positions.strides[0];
  params.position_strides[1] = args.positions.strides[1];
  params.cos_row = args.cos.strides[0];
  params.cos_column = args.cos.strides[1];
  params.sin_row = args.sin.strides[0];
  params.sin_column = args.sin.strides[1];
  return params;
}

void rope(const RopeArgs& args, Stream& stream) {
  const shader::RopeParams params = params_of(args);
  const std::size_t heads = std::size_t{params.shape[0]} * params.shape[1] * params.shape[2];
  static_cast<Engine&>(stream).encode("rope", {0, 2 * bytes_of(args.x)}, [&](Encoding& encoding) {
    Launch(encoding, "rope", "rope" + suffix(args.x.dtype))
        .tensor(args.x)
        .tensor(args.out)
        .optional(args.cos, args.x)
        .optional(args.sin, args.x)
        .tensor(args.positions)
        .fault()
        .params(params)
        .over(params.shape[3] - params.half_size, heads);
  });
}

}  // namespace

void fill_rope(KernelTable& table, const Offer&) {
  table.rope.add("native", supports, rope);
}

}  // namespace candela::metal
