#include <algorithm>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/reduce.h>

#include "backend/selector.h"
#include "ops/adjacent.h"
#include "ops/checks.h"
#include "ops/composed.h"
#include "ops/overlap.h"
#include "ops/select.h"

namespace candela {
namespace {

Tensor run_unary(const char* name, UnaryOp op, const Tensor& x, double alpha = 1, double beta = 0) {
  check_floating(name, "x", x);
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() > 0) run(&KernelTable::unary, x.device(), UnaryArgs{op, x, out, alpha, beta});
  if (!needs_grad({x})) return out;
  if (op == UnaryOp::Affine) {
    record(name, {x}, {&out}, [alpha](std::span<const Tensor> grads) -> std::vector<Tensor> {
      const Tensor& dy = grads[0];
      Tensor dx = Tensor::empty(dy.shape(), dy.dtype(), dy.device());
      // The slope is alpha wherever x is: dy stands for the x that the kernel does not look at.
      if (dy.numel() > 0)
        run(&KernelTable::unary_grad, dy.device(), UnaryGradArgs{UnaryOp::Affine, dy, dy, dx, alpha});
      return {dx};
    });
    return out;
  }
  record(name, {x}, {&out},
         [op, x = x.detach(), alpha](std::span<const Tensor> grads) -> std::vector<Tensor> {
           Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
           if (x.numel() > 0)
             run(&KernelTable::unary_grad, x.device(), UnaryGradArgs{op, x, grads[0], dx, alpha});
           return {dx};
         },
         {x});
  return out;
}

Tensor run_binary(const char* name, BinaryOp op, const Tensor& a, const Tensor& b) {
  check_floating(name, "a", a);
  check_floating(name, "b", b);
  const Device device = check_same_device(name, {a, b});
  check_same_dtype(name, a, b);
  const Shape shape = broadcast_shapes(a.shape(), b.shape(), name);
  Tensor out = Tensor::empty(shape, a.dtype(), device);
  if (out.numel() > 0) {
    run(&KernelTable::binary, device,
        BinaryArgs{op, a.with_layout(a.layout().broadcast_to(shape)),
                   b.with_layout(b.layout().broadcast_to(shape)), out});
  }
  return out;
}

/// One operand's gradient of a binary op, before it is summed down to the operand's shape, and which operands
/// it reads.
struct Slope {
  Tensor (*gradient)(const Tensor& a, const Tensor& b, const Tensor& dy);
  bool reads_a, reads_b;
};

Tensor binary_with_grad(const char* name, BinaryOp op, const Tensor& a, const Tensor& b, Slope to_a,
                        Slope to_b) {
  Tensor out = run_binary(name, op, a, b);
  if (!needs_grad({a, b})) return out;
  const bool need_a = a.requires_grad();
  const bool need_b = b.requires_grad();
  // What no gradient reads is not kept.
  const bool keep_a = (need_a && to_a.reads_a) || (need_b && to_b.reads_a);
  const bool keep_b = (need_a && to_a.reads_b) || (need_b && to_b.reads_b);
  const Tensor kept_a = keep_a ? a.detach() : Tensor();
  const Tensor kept_b = keep_b ? b.detach() : Tensor();
  record(name, {a, b}, {&out},
         [kept_a, kept_b, need_a, need_b, to_a, to_b, a_shape = a.shape(),
          b_shape = b.shape()](std::span<const Tensor> grads) -> std::vector<Tensor> {
           const auto run_slope = [&](const Slope& slope, bool needed, const Shape& shape) {
             return needed ? sum_to(slope.gradient(kept_a, kept_b, grads[0]), shape) : Tensor();
           };
           return {run_slope(to_a, need_a, a_shape), run_slope(to_b, need_b, b_shape)};
         },
         {kept_a, kept_b});
  return out;
}

Tensor pass_gradient(const Tensor&, const Tensor&, const Tensor& dy) {
  return dy;
}

/// 1 where mask is 0 and the other way round.
Tensor others(const Tensor& mask) {
  return affine(mask, -1, 1);
}

}  // namespace

Tensor select(const Tensor& x, const Tensor& mask) {
  return run_binary("select", BinaryOp::Where, x, mask);
}

Tensor add(const Tensor& a, const Tensor& b) {
  return binary_with_grad("add", BinaryOp::Add, a, b, {pass_gradient, false, false},
                          {pass_gradient, false, false});
}

Tensor sub(const Tensor& a, const Tensor& b) {
  const auto to_b = [](const Tensor&, const Tensor&, const Tensor& dy) { return neg(dy); };
  return binary_with_grad("sub", BinaryOp::Sub, a, b, {pass_gradient, false, false}, {to_b, false, false});
}

Tensor mul(const Tensor& a, const Tensor& b) {
  const auto to_a = [](const Tensor&, const Tensor& y, const Tensor& dy) { return mul(dy, y); };
  const auto to_b = [](const Tensor& x, const Tensor&, const Tensor& dy) { return mul(dy, x); };
  return binary_with_grad("mul", BinaryOp::Mul, a, b, {to_a, false, true}, {to_b, true, false});
}

Tensor div(const Tensor& a, const Tensor& b) {
  const auto to_a = [](const Tensor&, const Tensor& y, const Tensor& dy) { return div(dy, y); };
  const auto to_b = [](const Tensor& x, const Tensor& y, const Tensor& dy) {
    return neg(div(mul(div(dy, y), x), y));
  };
  return binary_with_grad("div", BinaryOp::Div, a, b, {to_a, false, true}, {to_b, true, true});
}

Tensor maximum(const Tensor& a, const Tensor& b) {
  const auto to_a = [](const Tensor& x, const Tensor& y, const Tensor& dy) {
    return select(dy, greater_equal(x, y));
  };
  const auto to_b = [](const Tensor& x, const Tensor& y, const Tensor& dy) {
    return select(dy, others(greater_equal(x, y)));
  };
  return binary_with_grad("maximum", BinaryOp::Maximum, a, b, {to_a, true, true}, {to_b, true, true});
}

Tensor minimum(const Tensor& a, const Tensor& b) {
  const auto to_a = [](const Tensor& x, const Tensor& y, const Tensor& dy) {
    return select(dy, greater_equal(y, x));
  };
  const auto to_b = [](const Tensor& x, const Tensor& y, const Tensor& dy) {
    return select(dy, others(greater_equal(y, x)));
  };
  return binary_with_grad("minimum", BinaryOp::Minimum, a, b, {to_a, true, true}, {to_b, true, true});
}

Tensor equal(const Tensor& a, const Tensor& b) {
  return run_binary("equal", BinaryOp::Equal, a, b);
}
Tensor greater(const Tensor& a, const Tensor& b) {
  return run_binary("greater", BinaryOp::Greater, a, b);
}
Tensor greater_equal(const Tensor& a, const Tensor& b) {
  return run_binary("greater_equal", BinaryOp::GreaterEqual, a, b);
}

Tensor affine(const Tensor& x, double alpha, double beta) {
  return run_unary("affine", UnaryOp::Affine, x, alpha, beta);
}
Tensor neg(const Tensor& x) {
  return affine(x, -1, 0);
}
Tensor exp(const Tensor& x) {
  return run_unary("exp", UnaryOp::Exp, x);
}
Tensor log(const Tensor& x) {
  return run_unary("log", UnaryOp::Log, x);
}
Tensor sqrt(const Tensor& x) {
  return run_unary("sqrt", UnaryOp::Sqrt, x);
}
Tensor rsqrt(const Tensor& x) {
  return run_unary("rsqrt", UnaryOp::Rsqrt, x);
}
Tensor reciprocal(const Tensor& x) {
  return run_unary("reciprocal", UnaryOp::Reciprocal, x);
}
Tensor square(const Tensor& x) {
  return run_unary("square", UnaryOp::Square, x);
}
Tensor abs(const Tensor& x) {
  return run_unary("abs", UnaryOp::Abs, x);
}
Tensor tanh(const Tensor& x) {
  return run_unary("tanh", UnaryOp::Tanh, x);
}
Tensor sigmoid(const Tensor& x) {
  return run_unary("sigmoid", UnaryOp::Sigmoid, x);
}
Tensor relu(const Tensor& x) {
  return run_unary("relu", UnaryOp::Relu, x);
}
Tensor silu(const Tensor& x) {
  return run_unary("silu", UnaryOp::Silu, x);
}
Tensor gelu(const Tensor& x) {
  return run_unary("gelu", UnaryOp::Gelu, x);
}
Tensor gelu_tanh(const Tensor& x) {
  return run_unary("gelu_tanh", UnaryOp::GeluTanh, x);
}

namespace {

void check_gated(const char* op, const Tensor& gate, const Tensor& up) {
  check_floating(op, "gate", gate);
  check_floating(op, "up", up);
  check_same_device(op, {gate, up});
  check_same_dtype(op, gate, up);
  require(gate.shape() == up.shape(), "{}: gate and up must have one shape; got {} and {}", op, gate.shape(),
          up.shape());
}

/// Records the gradient of out, a product of up and a function of gate, and how to make it again.
/// `gradient(gate, up, dy, dgate, dup)` runs the kernel.
template <class Gradient, class Again>
void record_gated(const char* op, const Tensor& gate, const Tensor& up, Tensor& out, Gradient gradient,
                  Again again) {
  record(op, {gate, up}, {&out},
         [gate = gate.detach(), up = up.detach(),
          gradient](std::span<const Tensor> grads) -> std::vector<Tensor> {
           std::vector<Tensor> result = empty_beside(std::vector{gate, up}, std::max(gate.rank() - 1, 0));
           if (gate.numel() > 0) gradient(gate, up, grads[0], result[0], result[1]);
           return result;
         },
         {gate, up});
  const auto make = [again, gate = gate.detach(), up = up.detach()] { return again(gate, up); };
  out.set_recipe(std::make_shared<Recipe>(Recipe{make, {gate.detach(), up.detach()}}));
}

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  check_gated("swiglu", gate, up);
  Tensor out = Tensor::empty(gate.shape(), gate.dtype(), gate.device());
  std::string reasons;
  if (out.numel() > 0 && !try_run(&KernelTable::swiglu, gate.device(), SwigluArgs{gate, up, out}, &reasons)) {
    log_composed_once("swiglu", gate.device(), reasons);
    return composed::swiglu(gate, up);
  }
  if (needs_grad({gate, up})) {
    const auto gradient = [](const Tensor& g, const Tensor& u, const Tensor& dy, const Tensor& dg,
                             const Tensor& du) {
      run(&KernelTable::swiglu_grad, g.device(), SwigluGradArgs{g, u, dy, dg, du});
    };
    record_gated("swiglu", gate, up, out, gradient, swiglu);
  }
  return out;
}

Tensor geglu(const Tensor& gate, const Tensor& up, GeluKind kind) {
  check_gated("geglu", gate, up);
  const UnaryOp gelu = kind == GeluKind::Tanh ? UnaryOp::GeluTanh : UnaryOp::Gelu;
  Tensor out = Tensor::empty(gate.shape(), gate.dtype(), gate.device());
  std::string reasons;
  if (out.numel() > 0 &&
      !try_run(&KernelTable::geglu, gate.device(), GegluArgs{gelu, gate, up, out}, &reasons)) {
    log_composed_once("geglu", gate.device(), reasons);
    return composed::geglu(gate, up, kind);
  }
  if (needs_grad({gate, up})) {
    const auto gradient = [gelu](const Tensor& g, const Tensor& u, const Tensor& dy, const Tensor& dg,
                                 const Tensor& du) {
      run(&KernelTable::geglu_grad, g.device(), GegluGradArgs{gelu, g, u, dy, dg, du});
    };
    record_gated("geglu", gate, up, out, gradient,
                 [kind](const Tensor& g, const Tensor& u) { return geglu(g, u, kind); });
  }
  return out;
}

void add_(const Tensor& target, const Tensor& x) {
  const Device device = check_same_device("add_", {target, x});
  check_defined("add_", "x", x);
  require(target.shape() == x.shape(), "add_: shapes must match; got {} and {}", target.shape(), x.shape());
  check_writable("add_", "target", target);
  refuse_grad("add_", {target, x});
  const NoGrad guard;
  const Tensor term = unaffected_by(target, cast(x, target.dtype()));
  if (target.numel() > 0) run(&KernelTable::binary, device, BinaryArgs{BinaryOp::Add, target, term, target});
  target.storage()->bump_version();
}

namespace composed {

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  // silu as one op: the product rule on gate sigmoid(gate) would take infinity from infinity where up is
  // infinite.
  return mul(silu(gate), up);
}

Tensor geglu(const Tensor& gate, const Tensor& up, GeluKind kind) {
  return mul(kind == GeluKind::Tanh ? gelu_tanh(gate) : gelu(gate), up);
}

}  // namespace composed
}  // namespace candela
