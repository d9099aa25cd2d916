#include <algorithm>
#include <cmath>
#include <numbers>

#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"
#include "backend/layout.h"

namespace candela {
namespace {

// Any dtype and layout, element by element: the path for f64.

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

}  // namespace

void fill_elementwise(KernelTable& table) {
  fill_elementwise_simd(table);
  table.unary.add("loops", supports_all, unary);
  table.unary_grad.add("loops", supports_all, unary_grad);
  table.binary.add("loops", supports_all, binary);
  table.swiglu.add("loops", supports_all, swiglu);
  table.swiglu_grad.add("loops", supports_all, swiglu_grad);
}

}  // namespace candela
