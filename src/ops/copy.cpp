#include <utility>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/reduce.h>

#include "backend/selector.h"
#include "ops/adjacent.h"
#include "ops/checks.h"
#include "ops/overlap.h"

namespace candela {
namespace {

/// A view of x whose gradient is `restore`d to x's shape.
Tensor view(const char* op, const Tensor& x, const Layout& layout,
            std::function<Tensor(const Tensor&)> restore) {
  Tensor result = x.with_layout(layout);
  if (needs_grad({x})) {
    record(op, {x}, {&result},
           [restore = std::move(restore)](std::span<const Tensor> grads) -> std::vector<Tensor> {
             return {restore(grads[0])};
           });
  }
  return result;
}

Shape infer_shape(const Tensor& x, const Shape& shape) {
  Shape result = shape;
  int unknown = -1;
  for (int d = 0; d < shape.rank(); ++d) {
    if (shape[d] != -1) continue;
    require(unknown < 0, "reshape: at most one size may be -1; got {}", shape);
    unknown = d;
    result[d] = 1;
  }
  if (unknown >= 0) {
    const std::int64_t known = numel(result);
    require(known > 0 && x.numel() % known == 0, "reshape: cannot infer -1 in {} for {} elements", shape,
            x.numel());
    result[unknown] = x.numel() / known;
  }
  require(numel(result) == x.numel(), "reshape: {} has {} elements, {} needs {}", x.shape(), x.numel(),
          result, numel(result));
  return result;
}

Tensor copy_to(const Tensor& x, DType dtype) {
  Tensor result = Tensor::empty(x.shape(), dtype, x.device());
  if (x.numel() > 0) run(&KernelTable::copy, x.device(), CopyArgs{x, result});
  return result;
}

/// A copy of x on another device. Waits where x's device is not done with it; never for `device`.
Tensor moved(const Tensor& x, Device device) {
  Tensor result = Tensor::empty(x.shape(), x.dtype(), device);
  DeviceInterface& from = device_interface(x.device());
  DeviceInterface& to = device_interface(device);
  if (!from.computes() || !to.computes() || x.numel() == 0) return result;
  const Tensor source = contiguous(x.detach());
  const std::size_t width = size_of(x.dtype());
  const auto begin = static_cast<std::size_t>(source.layout().offset) * width;
  const auto bytes = static_cast<std::size_t>(source.numel()) * width;
  if (from.host_accessible()) {
    from.synchronize();
    to.copy_in(*result.storage(), 0,
               {static_cast<const std::byte*>(source.storage()->data()) + begin, bytes});
    return result;
  }
  std::vector<std::byte> host(bytes);
  from.copy_out(*source.storage(), begin, host)->wait();
  to.copy_in(*result.storage(), 0, host);
  return result;
}

/// The bytes [begin, end) of its storage that x lies in.
std::pair<std::int64_t, std::int64_t> bytes_of(const Tensor& x) {
  const auto width = static_cast<std::int64_t>(size_of(x.dtype()));
  return {x.layout().offset * width, x.layout().extent() * width};
}

}  // namespace

Tensor unaffected_by(const Tensor& target, const Tensor& x) {
  if (x.storage() != target.storage() || x.numel() == 0) return x;
  const auto [begin, end] = bytes_of(x);
  const auto [first, last] = bytes_of(target);
  if (begin >= last || first >= end) return x;
  bool same = x.dtype() == target.dtype() && x.layout().offset == target.layout().offset;
  for (int d = 0; d < x.rank(); ++d)
    same = same && (x.shape()[d] == 1 || x.strides()[d] == target.strides()[d]);
  return same ? x : copy_to(x, x.dtype());
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  check_defined("reshape", "x", x);
  const Shape target = infer_shape(x, shape);
  bool possible = true;
  const Layout layout = x.layout().reshape(target, possible);
  if (!possible) return reshape(contiguous(x), target);
  return view("reshape", x, layout, [shape = x.shape()](const Tensor& dy) { return reshape(dy, shape); });
}

Tensor transpose(const Tensor& x, int a, int b) {
  check_defined("transpose", "x", x);
  return view("transpose", x, x.layout().transpose(a, b),
              [a, b](const Tensor& dy) { return transpose(dy, a, b); });
}

Tensor slice(const Tensor& x, int dim, std::int64_t start, std::int64_t end) {
  check_defined("slice", "x", x);
  dim = normalize_dim(dim, x.rank(), "slice");
  if (start < 0) start += x.size(dim);
  if (end < 0) end += x.size(dim);
  return view("slice", x, x.layout().slice(dim, start, end),
              [shape = x.shape(), dim, start, end](const Tensor& dy) {
                Tensor dx = zeros(shape, dy.dtype(), dy.device());
                copy_(slice(dx, dim, start, end), dy);
                return dx;
              });
}

std::vector<Tensor> split(const Tensor& x, int dim, std::span<const std::int64_t> sizes) {
  check_defined("split", "x", x);
  dim = normalize_dim(dim, x.rank(), "split");
  std::vector<Tensor> pieces;
  std::int64_t at = 0;
  for (const std::int64_t size : sizes) {
    require(size >= 0 && size <= x.size(dim) - at, "split: sizes must add up to {}; got {} at {}",
            x.size(dim), size, at);
    pieces.push_back(x.with_layout(x.layout().slice(dim, at, at + size)));
    at += size;
  }
  require(at == x.size(dim), "split: sizes must add up to {}; got {}", x.size(dim), at);
  if (!needs_grad({x}) || pieces.empty()) return pieces;
  std::vector<Tensor*> outputs;
  std::vector<Shape> shapes;
  for (Tensor& piece : pieces) {
    outputs.push_back(&piece);
    shapes.push_back(piece.shape());
  }
  record("split", {x}, outputs,
         [shapes, dim, dtype = x.dtype(),
          device = x.device()](std::span<const Tensor> grads) -> std::vector<Tensor> {
           std::vector<Tensor> parts(grads.begin(), grads.end());
           for (std::size_t i = 0; i < parts.size(); ++i) {
             if (!parts[i].defined()) parts[i] = zeros(shapes[i], dtype, device);
           }
           return {joined(parts, dim)};
         });
  return pieces;
}

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  check_defined("broadcast_to", "x", x);
  return view("broadcast_to", x, x.layout().broadcast_to(shape),
              [to = x.shape()](const Tensor& dy) { return sum_to(dy, to); });
}

Tensor unsqueeze(const Tensor& x, int dim) {
  check_defined("unsqueeze", "x", x);
  dim = normalize_dim(dim, x.rank() + 1, "unsqueeze");
  Layout layout = x.layout();
  layout.strides.insert(dim, dim < x.rank() ? layout.strides[dim] * layout.shape[dim] : 1);
  layout.shape.insert(dim, 1);
  return view("unsqueeze", x, layout, [to = x.shape()](const Tensor& dy) { return reshape(dy, to); });
}

Tensor contiguous(const Tensor& x) {
  check_defined("contiguous", "x", x);
  return x.is_contiguous() ? x : clone(x);
}

Tensor clone(const Tensor& x) {
  check_defined("clone", "x", x);
  Tensor result = copy_to(x, x.dtype());
  if (needs_grad({x})) {
    record("clone", {x}, {&result},
           [](std::span<const Tensor> grads) -> std::vector<Tensor> { return {grads[0]}; });
  }
  return result;
}

Tensor cast(const Tensor& x, DType dtype) {
  check_defined("cast", "x", x);
  if (x.dtype() == dtype) return x;
  if (!is_floating(dtype)) refuse_grad("cast to an integer dtype", {x});
  Tensor result = copy_to(x, dtype);
  if (needs_grad({x})) {
    record("cast", {x}, {&result}, [from = x.dtype()](std::span<const Tensor> grads) -> std::vector<Tensor> {
      return {cast(grads[0], from)};
    });
  }
  return result;
}

Tensor to_device(const Tensor& x, Device device) {
  check_defined("to_device", "x", x);
  if (x.device() == device) return x;
  Tensor result = moved(x, device);
  if (needs_grad({x})) {
    record("to_device", {x}, {&result},
           [from = x.device()](std::span<const Tensor> grads) -> std::vector<Tensor> {
             return {to_device(grads[0], from)};
           });
  }
  return result;
}

Tensor concat(const std::vector<Tensor>& parts, int dim) {
  require(!parts.empty(), "concat: needs at least one tensor");
  check_defined("concat", "parts[0]", parts[0]);
  dim = normalize_dim(dim, parts[0].rank(), "concat");
  Shape shape = parts[0].shape();
  shape[dim] = 0;
  for (const Tensor& part : parts) {
    check_same_device("concat", {parts[0], part});
    check_same_dtype("concat", parts[0], part);
    Shape expected = parts[0].shape();
    if (part.rank() == expected.rank()) expected[dim] = part.shape()[dim];
    require(part.shape() == expected, "concat: sizes must match {} but for dim {}; got {}", parts[0].shape(),
            dim, part.shape());
    shape[dim] += part.size(dim);
  }
  Tensor result = Tensor::empty(shape, parts[0].dtype(), parts[0].device());
  std::vector<std::int64_t> starts = {0};
  for (const Tensor& part : parts) {
    starts.push_back(starts.back() + part.size(dim));
    const Layout place = result.layout().slice(dim, starts[starts.size() - 2], starts.back());
    copy_(result.with_layout(place), part.detach());
  }
  if (needs_grad(parts)) {
    record("concat", parts, {&result}, [starts, dim](std::span<const Tensor> grads) {
      std::vector<Tensor> pieces;
      for (std::size_t i = 0; i + 1 < starts.size(); ++i)
        pieces.push_back(slice(grads[0], dim, starts[i], starts[i + 1]));
      return pieces;
    });
  }
  return result;
}

Tensor full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor result = Tensor::empty(shape, dtype, device);
  fill_(result, value);
  return result;
}

Tensor arange(std::int64_t count, DType dtype, Device device) {
  require(count >= 0, "arange: count must not be negative; got {}", count);
  std::vector<std::int64_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int64_t>(i);
  return to_device(cast(Tensor::from_values(values, {count}), dtype), device);
}

void copy_(const Tensor& target, const Tensor& x) {
  check_same_device("copy_", {target, x});
  check_writable("copy_", "target", target);
  check_defined("copy_", "x", x);
  require(target.shape() == x.shape(), "copy_: shapes must match; got {} and {}", target.shape(), x.shape());
  refuse_grad("copy_", {target, x});
  if (x.numel() > 0) run(&KernelTable::copy, target.device(), CopyArgs{unaffected_by(target, x), target});
  target.storage()->bump_version();
}

void fill_(const Tensor& target, double value) {
  check_writable("fill_", "target", target);
  refuse_grad("fill_", {target});
  if (target.numel() > 0) run(&KernelTable::fill, target.device(), FillArgs{target, value});
  target.storage()->bump_version();
}

}  // namespace candela
