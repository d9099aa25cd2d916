#include "backend/cuda/kernels/elementwise.h"

#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

// kernels/elementwise.cu repeats these numbers.
static_assert(static_cast<int>(UnaryOp::Affine) == 0 && static_cast<int>(UnaryOp::Square) == 6 &&
              static_cast<int>(UnaryOp::Silu) == 11 && static_cast<int>(UnaryOp::GeluTanh) == 13);
static_assert(static_cast<int>(BinaryOp::Add) == 0 && static_cast<int>(BinaryOp::Maximum) == 4 &&
              static_cast<int>(BinaryOp::Where) == 9);

void unary(const UnaryArgs& args, Stream& stream) {
  check(
      launch_unary(loop_params<2>({args.out, args.x}), type_of(args.out), static_cast<int>(args.op),
                   static_cast<float>(args.alpha), static_cast<float>(args.beta), stream_of(stream).handle()),
      "unary");
}

void unary_grad(const UnaryGradArgs& args, Stream& stream) {
  check(launch_unary_grad(loop_params<3>({args.dx, args.x, args.dy}), type_of(args.dx),
                          static_cast<int>(args.op), static_cast<float>(args.alpha),
                          stream_of(stream).handle()),
        "unary_grad");
}

void binary(const BinaryArgs& args, Stream& stream) {
  check(launch_binary(loop_params<3>({args.out, args.a, args.b}), type_of(args.out),
                      static_cast<int>(args.op), stream_of(stream).handle()),
        "binary");
}

void swiglu(const SwigluArgs& args, Stream& stream) {
  check(launch_swiglu(loop_params<3>({args.out, args.gate, args.up}), type_of(args.out),
                      stream_of(stream).handle()),
        "swiglu");
}

void swiglu_grad(const SwigluGradArgs& args, Stream& stream) {
  check(launch_swiglu_grad(loop_params<5>({args.dgate, args.dup, args.gate, args.up, args.dy}),
                           type_of(args.dy), stream_of(stream).handle()),
        "swiglu_grad");
}

void geglu(const GegluArgs& args, Stream& stream) {
  check(launch_geglu(loop_params<3>({args.out, args.gate, args.up}), type_of(args.out),
                     static_cast<int>(args.gelu), stream_of(stream).handle()),
        "geglu");
}

void geglu_grad(const GegluGradArgs& args, Stream& stream) {
  check(launch_geglu_grad(loop_params<5>({args.dgate, args.dup, args.gate, args.up, args.dy}),
                          type_of(args.dy), static_cast<int>(args.gelu), stream_of(stream).handle()),
        "geglu_grad");
}

}  // namespace

void fill_elementwise(KernelTable& table, const Offer&) {
  table.unary.add(
      "native", [](const UnaryArgs& args) { return refuse_other_floats(args.out); }, unary);
  table.unary_grad.add(
      "native", [](const UnaryGradArgs& args) { return refuse_other_floats(args.dx); }, unary_grad);
  table.binary.add(
      "native", [](const BinaryArgs& args) { return refuse_other_floats(args.out); }, binary);
  table.swiglu.add(
      "native", [](const SwigluArgs& args) { return refuse_other_floats(args.out); }, swiglu);
  table.swiglu_grad.add(
      "native", [](const SwigluGradArgs& args) { return refuse_other_floats(args.dy); }, swiglu_grad);
  table.geglu.add(
      "native", [](const GegluArgs& args) { return refuse_other_floats(args.out); }, geglu);
  table.geglu_grad.add(
      "native", [](const GegluGradArgs& args) { return refuse_other_floats(args.dy); }, geglu_grad);
}

}  // namespace candela::cuda
