#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/reduce.h>

#include "backend/selector.h"
#include "ops/checks.h"

namespace candela {
namespace {

Shape leading(const Shape& shape) {
  Shape result = shape;
  result.erase(result.rank() - 1);
  result.erase(result.rank() - 1);
  return result;
}

Shape with_matrix(Shape batch, std::int64_t rows, std::int64_t columns) {
  batch.push_back(rows);
  batch.push_back(columns);
  return batch;
}

/// out = alpha a b + beta out with the leading dimensions of a and b broadcast to those of out.
void run_matmul(const Tensor& a, const Tensor& b, const Tensor& out, const Tensor& bias, double alpha,
                double beta) {
  if (out.numel() == 0) return;
  const Shape batch = leading(out.shape());
  const auto wide = [&](const Tensor& x) {
    const Shape shape = with_matrix(batch, x.size(-2), x.size(-1));
    return x.shape() == shape ? x : x.with_layout(x.layout().broadcast_to(shape));
  };
  run(&KernelTable::matmul, out.device(), MatmulArgs{wide(a), wide(b), out, bias, alpha, beta});
}

void check_operands(const Tensor& a, const Tensor& b) {
  check_floating("matmul", "a", a);
  check_floating("matmul", "b", b);
  check_same_device("matmul", {a, b});
  check_same_dtype("matmul", a, b);
  require(a.rank() >= 2 && b.rank() >= 2, "matmul: operands must have at least 2 dimensions; got {} and {}",
          a.shape(), b.shape());
  require(a.size(-1) == b.size(-2), "matmul: inner dimensions must match: a is {}, b is {}", a.shape(),
          b.shape());
}

Tensor swap_last(const Tensor& x) {
  return transpose(x, -2, -1);
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, const Tensor& c, double alpha, double beta) {
  check_operands(a, b);
  const Shape batch = broadcast_shapes(leading(a.shape()), leading(b.shape()), "matmul");
  const Shape shape = with_matrix(batch, a.size(-2), b.size(-1));
  Tensor out;
  if (c.defined()) {
    check_same_device("matmul", {a, c});
    check_same_dtype("matmul", a, c);
    require(c.shape() == shape, "matmul: c must be {} to match a {} and b {}; got {}", shape, a.shape(),
            b.shape(), c.shape());
    out = clone(c.detach());
  } else {
    out = Tensor::empty(shape, a.dtype(), a.device());
    beta = 0;
  }
  run_matmul(a, b, out, {}, alpha, beta);
  if (needs_grad({a, b, c})) {
    const Tensor kept_a = b.requires_grad() ? a.detach() : Tensor();
    const Tensor kept_b = a.requires_grad() ? b.detach() : Tensor();
    const bool need_c = c.defined() && c.requires_grad();
    record("matmul", {a, b, c}, {&out},
           [kept_a, kept_b, a_shape = a.shape(), b_shape = b.shape(), alpha, beta,
            need_c](std::span<const Tensor> grads) -> std::vector<Tensor> {
             const Tensor& dy = grads[0];
             Tensor da;
             Tensor db;
             if (kept_b.defined()) da = sum_to(matmul(dy, swap_last(kept_b), {}, alpha, 0), a_shape);
             if (kept_a.defined()) db = sum_to(matmul(swap_last(kept_a), dy, {}, alpha, 0), b_shape);
             return {da, db, need_c ? affine(dy, beta, 0) : Tensor()};
           },
           {kept_a, kept_b});
  }
  return out;
}

Tensor matmul(const Tensor& a, const Tensor& b) {
  return matmul(a, b, {}, 1, 0);
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_floating("linear", "x", x);
  check_floating("linear", "weight", weight);
  const Device device = check_same_device("linear", {x, weight, bias});
  check_same_dtype("linear", x, weight);
  require(weight.rank() == 2 && x.rank() >= 1 && x.size(-1) == weight.size(1),
          "linear: weight must be [O, {}] to match x {}; got {}", x.rank() > 0 ? x.size(-1) : 0, x.shape(),
          weight.shape());
  if (bias.defined()) {
    check_same_dtype("linear", x, bias);
    require(bias.shape() == Shape{weight.size(0)}, "linear: bias must be [{}] to match weight {}; got {}",
            weight.size(0), weight.shape(), bias.shape());
  }
  Shape shape = x.shape();
  shape[shape.rank() - 1] = weight.size(0);
  Tensor out = Tensor::empty(shape, x.dtype(), device);
  const Tensor rows = reshape(x.detach(), {row_count(x), weight.size(1)});
  const Tensor flat =
      Tensor::from_storage(out.storage(), Layout::contiguous({rows.size(0), weight.size(0)}), out.dtype());
  run_matmul(rows, swap_last(weight.detach()), flat, bias, 1, 0);
  if (needs_grad({x, weight, bias})) {
    const bool need_x = x.requires_grad();
    const bool need_weight = weight.requires_grad();
    const bool need_bias = bias.defined() && bias.requires_grad();
    // What no gradient reads is not kept: the activations of a frozen layer are freed.
    const SavedTensor kept_x = need_weight ? SavedTensor(x) : SavedTensor();
    const Tensor kept_weight = need_x ? weight.detach() : Tensor();
    std::vector<Tensor> saved = {kept_weight};
    kept_x.append_reads(saved);
    record(
        "linear", {x, weight, bias}, {&out},
        [kept_x, kept_weight, x_shape = x.shape(), flat_shape = flat.shape(),
         need_bias](std::span<const Tensor> grads) -> std::vector<Tensor> {
          const Tensor dy = reshape(grads[0], flat_shape);
          Tensor dx;
          Tensor dweight;
          Tensor dbias;
          if (kept_weight.defined()) dx = reshape(matmul(dy, kept_weight), x_shape);
          if (kept_x.defined()) {
            const Tensor x_again = kept_x.get();
            dweight = matmul(swap_last(dy), reshape(x_again, {flat_shape[0], x_again.size(-1)}));
          }
          if (need_bias) dbias = sum(dy, {0});
          return {dx, dweight, dbias};
        },
        saved);
  }
  return out;
}

}  // namespace candela
