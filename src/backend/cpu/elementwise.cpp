#include <algorithm>
#include <cmath>
#include <numbers>

#include <candela/core/parallel.h>

#include "backend/cpu/blocks.h"
#include "backend/cpu/convert.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"
#include "backend/layout.h"

namespace candela {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

/// Calls body(offsets, begin, end, strides of the innermost loop) over all elements of N operands, in
/// parallel.
template <int N, class Body>
void for_each_loop(const Loops<N>& loops, Body&& body) {
  const std::int64_t inner = loops.inner();
  if (loops.outer() == 1) {
    parallel_for(inner, kGrain, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t offsets[N] = {};
      body(offsets, begin, end);
    });
    return;
  }
  parallel_for(loops.outer(), std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(inner, 1)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   std::int64_t offsets[N];
                   loops.offsets(i, offsets);
                   body(offsets, std::int64_t{0}, inner);
                 }
               });
}

template <class A>
A sigmoid(A x) {
  return A{1} / (A{1} + std::exp(-x));
}

template <class A>
A normal_cdf(A x) {
  return A{0.5} * std::erfc(-x / std::numbers::sqrt2_v<A>);
}

template <class A>
A normal_pdf(A x) {
  return std::exp(A{-0.5} * x * x) * std::numbers::inv_sqrtpi_v<A> / std::numbers::sqrt2_v<A>;
}

/// The argument of tanh in the approximation of GELU, sqrt(2 / pi) (x + 0.044715 x^3), and its slope.
template <class A>
A gelu_inner(A x) {
  return std::sqrt(A{2} * std::numbers::inv_pi_v<A>) * (x + A{0.044715} * x * x * x);
}
template <class A>
A gelu_inner_slope(A x) {
  return std::sqrt(A{2} * std::numbers::inv_pi_v<A>) * (A{1} + A{3} * A{0.044715} * x * x);
}

template <class A>
A apply(UnaryOp op, A x, A alpha, A beta) {
  switch (op) {
    case UnaryOp::Affine:
      return alpha * x + beta;
    case UnaryOp::Exp:
      return std::exp(x);
    case UnaryOp::Log:
      return std::log(x);
    case UnaryOp::Sqrt:
      return std::sqrt(x);
    case UnaryOp::Rsqrt:
      return A{1} / std::sqrt(x);
    case UnaryOp::Reciprocal:
      return A{1} / x;
    case UnaryOp::Square:
      return x * x;
    case UnaryOp::Abs:
      return std::abs(x);
    case UnaryOp::Tanh:
      return std::tanh(x);
    case UnaryOp::Sigmoid:
      return sigmoid(x);
    case UnaryOp::Relu:
      return x > A{0} || std::isnan(x) ? x : A{0};
    case UnaryOp::Silu:
      return x * sigmoid(x);
    case UnaryOp::Gelu:
      return x * normal_cdf(x);
    case UnaryOp::GeluTanh:
      return A{0.5} * x * (A{1} + std::tanh(gelu_inner(x)));
  }
  return x;
}

template <class A>
A slope(UnaryOp op, A x, A alpha) {
  switch (op) {
    case UnaryOp::Affine:
      return alpha;
    case UnaryOp::Exp:
      return std::exp(x);
    case UnaryOp::Log:
      return A{1} / x;
    case UnaryOp::Sqrt:
      return A{0.5} / std::sqrt(x);
    case UnaryOp::Rsqrt:
      return A{-0.5} / (x * std::sqrt(x));
    case UnaryOp::Reciprocal:
      return A{-1} / (x * x);
    case UnaryOp::Square:
      return A{2} * x;
    case UnaryOp::Abs:
      return x > A{0} ? A{1} : (x < A{0} ? A{-1} : A{0});
    case UnaryOp::Tanh: {
      const A y = std::tanh(x);
      return A{1} - y * y;
    }
    case UnaryOp::Sigmoid: {
      const A y = sigmoid(x);
      return y * (A{1} - y);
    }
    case UnaryOp::Relu:
      return x > A{0} ? A{1} : A{0};
    case UnaryOp::Silu: {
      const A y = sigmoid(x);
      return y * (A{1} + x * (A{1} - y));
    }
    case UnaryOp::Gelu:
      return normal_cdf(x) + x * normal_pdf(x);
    case UnaryOp::GeluTanh: {
      const A t = std::tanh(gelu_inner(x));
      return A{0.5} * (A{1} + t) + A{0.5} * x * (A{1} - t * t) * gelu_inner_slope(x);
    }
  }
  return A{1};
}

template <class A>
A combine(BinaryOp op, A a, A b) {
  switch (op) {
    case BinaryOp::Add:
      return a + b;
    case BinaryOp::Sub:
      return a - b;
    case BinaryOp::Mul:
      return a * b;
    case BinaryOp::Div:
      return a / b;
    case BinaryOp::Maximum:
      return std::isnan(a) || a > b ? a : b;
    case BinaryOp::Minimum:
      return std::isnan(a) || a < b ? a : b;
    case BinaryOp::Equal:
      return a == b ? A{1} : A{0};
    case BinaryOp::Greater:
      return a > b ? A{1} : A{0};
    case BinaryOp::GreaterEqual:
      return a >= b ? A{1} : A{0};
    case BinaryOp::Where:
      return b != A{0} ? a : A{0};
  }
  return a;
}

void unary(const UnaryArgs& args, Stream&) {
  dispatch_plain(args.out.dtype, "unary", [&]<class T>() {
    using A = AccumulatorOf<T>;
    const Loops<2> loops({args.out, args.x});
    const std::int64_t so = loops.strides[0][loops.rank - 1];
    const std::int64_t sx = loops.strides[1][loops.rank - 1];
    for_each_loop(loops, [&](const std::int64_t(&at)[2], std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        args.out.as<T>()[at[0] + i * so] =
            T(apply<A>(args.op, A(args.x.as<T>()[at[1] + i * sx]), A(args.alpha), A(args.beta)));
      }
    });
  });
}

void unary_grad(const UnaryGradArgs& args, Stream&) {
  dispatch_plain(args.dx.dtype, "unary_grad", [&]<class T>() {
    using A = AccumulatorOf<T>;
    const Loops<3> loops({args.dx, args.x, args.dy});
    const int last = loops.rank - 1;
    for_each_loop(loops, [&](const std::int64_t(&at)[3], std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const A x = A(args.x.as<T>()[at[1] + i * loops.strides[1][last]]);
        const A dy = A(args.dy.as<T>()[at[2] + i * loops.strides[2][last]]);
        args.dx.as<T>()[at[0] + i * loops.strides[0][last]] = T(dy * slope<A>(args.op, x, A(args.alpha)));
      }
    });
  });
}

void binary(const BinaryArgs& args, Stream&) {
  dispatch_plain(args.out.dtype, "binary", [&]<class T>() {
    using A = AccumulatorOf<T>;
    const Loops<3> loops({args.out, args.a, args.b});
    const int last = loops.rank - 1;
    for_each_loop(loops, [&](const std::int64_t(&at)[3], std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const A a = A(args.a.as<T>()[at[1] + i * loops.strides[1][last]]);
        const A b = A(args.b.as<T>()[at[2] + i * loops.strides[2][last]]);
        args.out.as<T>()[at[0] + i * loops.strides[0][last]] = T(combine<A>(args.op, a, b));
      }
    });
  });
}

void swiglu(const SwigluArgs& args, Stream&) {
  dispatch_plain(args.out.dtype, "swiglu", [&]<class T>() {
    using A = AccumulatorOf<T>;
    const Loops<3> loops({args.out, args.gate, args.up});
    const int last = loops.rank - 1;
    for_each_loop(loops, [&](const std::int64_t(&at)[3], std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const A gate = A(args.gate.as<T>()[at[1] + i * loops.strides[1][last]]);
        const A up = A(args.up.as<T>()[at[2] + i * loops.strides[2][last]]);
        args.out.as<T>()[at[0] + i * loops.strides[0][last]] = T(gate * sigmoid(gate) * up);
      }
    });
  });
}

void swiglu_grad(const SwigluGradArgs& args, Stream&) {
  dispatch_plain(args.dgate.dtype, "swiglu_grad", [&]<class T>() {
    using A = AccumulatorOf<T>;
    const Loops<5> loops({args.dgate, args.dup, args.gate, args.up, args.dy});
    const int last = loops.rank - 1;
    for_each_loop(loops, [&](const std::int64_t(&at)[5], std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const A gate = A(args.gate.as<T>()[at[2] + i * loops.strides[2][last]]);
        const A up = A(args.up.as<T>()[at[3] + i * loops.strides[3][last]]);
        const A dy = A(args.dy.as<T>()[at[4] + i * loops.strides[4][last]]);
        args.dgate.as<T>()[at[0] + i * loops.strides[0][last]] =
            T(dy * up * slope<A>(UnaryOp::Silu, gate, A{1}));
        args.dup.as<T>()[at[1] + i * loops.strides[1][last]] = T(dy * gate * sigmoid(gate));
      }
    });
  });
}

std::string supports_unary(const UnaryArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_unary_grad(const UnaryGradArgs& args) {
  return refuse_f64(args.dx);
}
std::string supports_binary(const BinaryArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_swiglu(const SwigluArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_swiglu_grad(const SwigluGradArgs& args) {
  return refuse_f64(args.dgate);
}

/// Runs `body(inputs, outputs, count)` on blocks of floats of the operands: the first `Outputs` of them are
/// written, the others read.
template <class T, int Outputs, int N, class Body>
void on_blocks(const TensorArg (&operands)[N], Body&& body) {
  const Loops<N> loops(operands);
  const int last = loops.rank - 1;
  const bool stream = streams(operands[0], operands[N - 1]) && streams(operands[0], operands[Outputs]);
  for_each_block(
      loops, kBlock, stream, [&](const std::int64_t(&at)[N], std::int64_t first, std::int64_t count) {
        alignas(64) float scratch[N][kBlock];
        const float* inputs[N];
        float* outputs[Outputs];
        T* targets[Outputs];
        for (int n = Outputs; n < N; ++n) {
          const std::int64_t stride = loops.strides[n][last];
          inputs[n] =
              read_floats(operands[n].template as<T>() + at[n] + first * stride, stride, count, scratch[n]);
        }
        for (int n = 0; n < Outputs; ++n) {
          const std::int64_t stride = loops.strides[n][last];
          targets[n] = operands[n].template as<T>() + at[n] + first * stride;
          outputs[n] = float_target(targets[n], stride, scratch[n], stream);
        }
        body(inputs + Outputs, outputs, count);
        for (int n = 0; n < Outputs; ++n)
          write_floats(outputs[n], targets[n], loops.strides[n][last], count, stream);
      });
}

void unary_blocks(const UnaryArgs& args, Stream&) {
  dispatch_floating(args.out.dtype, "unary", [&]<class T>() {
    on_blocks<T, 1>({args.out, args.x}, [&](const float* const* in, float* const* out, std::int64_t count) {
      spans::unary(args.op, in[0], out[0], count, static_cast<float>(args.alpha),
                   static_cast<float>(args.beta));
    });
  });
}

void unary_grad_blocks(const UnaryGradArgs& args, Stream&) {
  dispatch_floating(args.dx.dtype, "unary_grad", [&]<class T>() {
    on_blocks<T, 1>({args.dx, args.x, args.dy},
                    [&](const float* const* in, float* const* out, std::int64_t count) {
                      spans::unary_grad(args.op, in[0], in[1], out[0], count, static_cast<float>(args.alpha));
                    });
  });
}

void binary_blocks(const BinaryArgs& args, Stream&) {
  dispatch_floating(args.out.dtype, "binary", [&]<class T>() {
    on_blocks<T, 1>({args.out, args.a, args.b},
                    [&](const float* const* in, float* const* out, std::int64_t count) {
                      spans::binary(args.op, in[0], in[1], out[0], count);
                    });
  });
}

void swiglu_blocks(const SwigluArgs& args, Stream&) {
  dispatch_floating(args.out.dtype, "swiglu", [&]<class T>() {
    on_blocks<T, 1>({args.out, args.gate, args.up},
                    [&](const float* const* in, float* const* out, std::int64_t count) {
                      spans::swiglu(in[0], in[1], out[0], count);
                    });
  });
}

void swiglu_grad_blocks(const SwigluGradArgs& args, Stream&) {
  dispatch_floating(args.dgate.dtype, "swiglu_grad", [&]<class T>() {
    on_blocks<T, 2>({args.dgate, args.dup, args.gate, args.up, args.dy},
                    [&](const float* const* in, float* const* out, std::int64_t count) {
                      spans::swiglu_grad(in[0], in[1], in[2], out[0], out[1], count);
                    });
  });
}

void geglu_blocks(const GegluArgs& args, Stream&) {
  dispatch_floating(args.out.dtype, "geglu", [&]<class T>() {
    on_blocks<T, 1>({args.out, args.gate, args.up},
                    [&](const float* const* in, float* const* out, std::int64_t count) {
                      alignas(64) float gelu[kBlock];
                      spans::unary(args.gelu, in[0], gelu, count, 1, 0);
                      spans::binary(BinaryOp::Mul, gelu, in[1], out[0], count);
                    });
  });
}

void geglu_grad_blocks(const GegluGradArgs& args, Stream&) {
  dispatch_floating(args.dgate.dtype, "geglu_grad", [&]<class T>() {
    on_blocks<T, 2>({args.dgate, args.dup, args.gate, args.up, args.dy},
                    [&](const float* const* in, float* const* out, std::int64_t count) {
                      const float* const gate = in[0];
                      const float* const up = in[1];
                      const float* const dy = in[2];
                      alignas(64) float work[kBlock];
                      spans::binary(BinaryOp::Mul, dy, up, work, count);
                      spans::unary_grad(args.gelu, gate, work, out[0], count, 1);
                      spans::unary(args.gelu, gate, work, count, 1, 0);
                      spans::binary(BinaryOp::Mul, dy, work, out[1], count);
                    });
  });
}

std::string supports_geglu(const GegluArgs& args) {
  return refuse_f64(args.out);
}
std::string supports_geglu_grad(const GegluGradArgs& args) {
  return refuse_f64(args.dgate);
}

}  // namespace

void fill_elementwise(KernelTable& table) {
  table.unary.add("highway", supports_unary, unary_blocks);
  table.unary.add("loops", supports_all, unary);
  table.unary_grad.add("highway", supports_unary_grad, unary_grad_blocks);
  table.unary_grad.add("loops", supports_all, unary_grad);
  table.binary.add("highway", supports_binary, binary_blocks);
  table.binary.add("loops", supports_all, binary);
  table.swiglu.add("highway", supports_swiglu, swiglu_blocks);
  table.swiglu.add("loops", supports_all, swiglu);
  table.swiglu_grad.add("highway", supports_swiglu_grad, swiglu_grad_blocks);
  table.swiglu_grad.add("loops", supports_all, swiglu_grad);
  table.geglu.add("highway", supports_geglu, geglu_blocks);
  table.geglu_grad.add("highway", supports_geglu_grad, geglu_grad_blocks);
}

}  // namespace candela
