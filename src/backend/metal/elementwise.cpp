#include "backend/metal/launch.h"
#include "backend/metal/loop_params.h"
#include "backend/metal/operand.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

// shaders/elementwise.metal repeats these numbers.
static_assert(static_cast<int>(UnaryOp::Affine) == 0 && static_cast<int>(UnaryOp::Square) == 6 &&
              static_cast<int>(UnaryOp::Silu) == 11 && static_cast<int>(UnaryOp::GeluTanh) == 13);
static_assert(static_cast<int>(BinaryOp::Add) == 0 && static_cast<int>(BinaryOp::Maximum) == 4 &&
              static_cast<int>(BinaryOp::Where) == 9);

std::string supports(const TensorArg& out) {
  if (!is_shader_float(out.dtype)) return "takes f32, f16 and bf16";
  if (out.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

template <int N>
void over(Launch& launch, const Loops<N>& loops) {
  launch.over(static_cast<std::size_t>(loops.inner()), static_cast<std::size_t>(loops.outer()));
}

void unary(const UnaryArgs& args, Stream& stream) {
  const Loops<2> loops({args.out, args.x});
  const shader::UnaryParams params{loop_params(loops), static_cast<std::uint32_t>(args.op),
                                   static_cast<float>(args.alpha), static_cast<float>(args.beta)};
  static_cast<Engine&>(stream).encode("unary", {0, 2 * bytes_of(args.x)}, [&](Encoding& encoding) {
    over(Launch(encoding, "elementwise", "unary" + suffix(args.out.dtype))
             .tensor(args.out)
             .tensor(args.x)
             .params(params),
         loops);
  });
}

void unary_grad(const UnaryGradArgs& args, Stream& stream) {
  const Loops<3> loops({args.dx, args.x, args.dy});
  const shader::UnaryParams params{loop_params(loops), static_cast<std::uint32_t>(args.op),
                                   static_cast<float>(args.alpha), 0};
  static_cast<Engine&>(stream).encode("unary_grad", {0, 3 * bytes_of(args.x)}, [&](Encoding& encoding) {
    over(Launch(encoding, "elementwise", "unary_grad" + suffix(args.dx.dtype))
             .tensor(args.dx)
             .tensor(args.x)
             .tensor(args.dy)
             .params(params),
         loops);
  });
}

void binary(const BinaryArgs& args, Stream& stream) {
  const Loops<3> loops({args.out, args.a, args.b});
  const shader::UnaryParams params{loop_params(loops), static_cast<std::uint32_t>(args.op), 1, 0};
  static_cast<Engine&>(stream).encode("binary", {0, 3 * bytes_of(args.out)}, [&](Encoding& encoding) {
    over(Launch(encoding, "elementwise", "binary" + suffix(args.out.dtype))
             .tensor(args.out)
             .tensor(args.a)
             .tensor(args.b)
             .params(params),
         loops);
  });
}

/// Of SwiGLU and GeGLU, which differ in the op on the gate.
void encode_gated(Engine& engine, std::string_view name, UnaryOp op, const TensorArg& gate,
                  const TensorArg& up, const TensorArg& out) {
  const Loops<3> loops({out, gate, up});
  const shader::GatedParams params{loop_params(loops), static_cast<std::uint32_t>(op)};
  engine.encode(name, {0, 3 * bytes_of(out)}, [&](Encoding& encoding) {
    over(Launch(encoding, "elementwise", "gated" + suffix(out.dtype))
             .tensor(out)
             .tensor(gate)
             .tensor(up)
             .params(params),
         loops);
  });
}

template <class Args>
void encode_gated_grad(Engine& engine, std::string_view name, UnaryOp op, const Args& args) {
  const Loops<5> loops({args.dgate, args.dup, args.gate, args.up, args.dy});
  const shader::GatedParams params{loop_params(loops), static_cast<std::uint32_t>(op)};
  engine.encode(name, {0, 5 * bytes_of(args.dy)}, [&](Encoding& encoding) {
    over(Launch(encoding, "elementwise", "gated_grad" + suffix(args.dy.dtype))
             .tensor(args.dgate)
             .tensor(args.dup)
             .tensor(args.gate)
             .tensor(args.up)
             .tensor(args.dy)
             .params(params),
         loops);
  });
}

void swiglu(const SwigluArgs& args, Stream& stream) {
  encode_gated(static_cast<Engine&>(stream), "swiglu", UnaryOp::Silu, args.gate, args.up, args.out);
}
void swiglu_grad(const SwigluGradArgs& args, Stream& stream) {
  encode_gated_grad(static_cast<Engine&>(stream), "swiglu_grad", UnaryOp::Silu, args);
}
void geglu(const GegluArgs& args, Stream& stream) {
  encode_gated(static_cast<Engine&>(stream), "geglu", args.gelu, args.gate, args.up, args.out);
}
void geglu_grad(const GegluGradArgs& args, Stream& stream) {
  encode_gated_grad(static_cast<Engine&>(stream), "geglu_grad", args.gelu, args);
}

}  // namespace

void fill_elementwise(KernelTable& table, const Offer&) {
  table.unary.add(
      "native", [](const UnaryArgs& args) { return supports(args.out); }, unary);
  table.unary_grad.add(
      "native", [](const UnaryGradArgs& args) { return supports(args.dx); }, unary_grad);
  table.binary.add(
      "native", [](const BinaryArgs& args) { return supports(args.out); }, binary);
  table.swiglu.add(
      "native", [](const SwigluArgs& args) { return supports(args.out); }, swiglu);
  table.swiglu_grad.add(
      "native", [](const SwigluGradArgs& args) { return supports(args.dy); }, swiglu_grad);
  table.geglu.add(
      "native", [](const GegluArgs& args) { return supports(args.out); }, geglu);
  table.geglu_grad.add(
      "native", [](const GegluGradArgs& args) { return supports(args.dy); }, geglu_grad);
}

}  // namespace candela::metal
