#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include <candela/core/device.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/reduce.h>
#include <candela/train/optimizer.h>

namespace candela {
namespace {

/// The part of a block that `parameter` lies in, under its shape.
Tensor part_of(const Tensor& block, const Tensor& values, const Tensor& parameter) {
  Layout layout = Layout::contiguous(parameter.shape());
  layout.offset = parameter.layout().offset - values.layout().offset + block.layout().offset;
  return block.with_layout(layout);
}

bool follows(const Tensor& a, const Tensor& b) {
  return a.storage() == b.storage() && a.dtype() == b.dtype() &&
         a.layout().offset + a.numel() == b.layout().offset;
}

}  // namespace

Optimizer::Optimizer(std::vector<NamedTensor> parameters, const AdamwOptions& options, double clip_norm)
    : parameters_(std::move(parameters)), options_(options), clip_norm_(clip_norm) {
  require(!parameters_.empty(), "optimizer: needs at least one parameter");
  for (const NamedTensor& parameter : parameters_) {
    require(parameter.tensor.requires_grad() && !parameter.tensor.grad_node(),
            "optimizer: {} must be a leaf that requires a gradient", parameter.name);
    require(parameter.tensor.is_contiguous(), "optimizer: {} must be contiguous", parameter.name);
  }
  const auto at = [&](std::size_t i) -> const Tensor& { return parameters_[i].tensor; };
  std::vector<std::size_t> order(parameters_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // In the order of memory within a storage; storages in the order of the network.
  std::map<const Storage*, std::size_t> first;
  for (const std::size_t i : order) first.emplace(at(i).storage().get(), i);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(first.at(at(a).storage().get()), at(a).layout().offset) <
           std::pair(first.at(at(b).storage().get()), at(b).layout().offset);
  });
  std::vector<std::size_t> members;
  for (const std::size_t i : order) {
    if (!members.empty() && !follows(at(members.back()), at(i))) add_block(std::exchange(members, {}));
    members.push_back(i);
  }
  add_block(std::move(members));
  sums_ = zeros({2}, DType::F32, at(0).device());
  counted_ = zeros({1}, DType::F32, at(0).device());
}

Optimizer::~Optimizer() {
  for (const NamedTensor& parameter : parameters_) parameter.tensor.set_grad({});
}

void Optimizer::add_block(std::vector<std::size_t> members) {
  const Tensor& first = parameters_[members.front()].tensor;
  std::int64_t count = 0;
  for (const std::size_t i : members) count += parameters_[i].tensor.numel();
  Layout layout = Layout::contiguous({count});
  layout.offset = first.layout().offset;
  Block block{std::move(members), first.with_layout(layout), {}, {}, {}, {}};
  block.grads = zeros({count}, first.dtype(), first.device());
  block.m = zeros({count}, DType::F32, first.device());
  block.v = zeros({count}, DType::F32, first.device());
  for (const std::size_t i : block.members)
    block.parts.push_back(part_of(block.grads, block.values, parameters_[i].tensor));
  blocks_.push_back(std::move(block));
}

void Optimizer::clear_gradients() {
  for (const Block& block : blocks_) {
    fill_(block.grads, 0);
    for (std::size_t i = 0; i < block.members.size(); ++i)
      parameters_[block.members[i]].tensor.set_grad(block.parts[i]);
  }
}

void Optimizer::step(const Tensor& loss, const Tensor& learning_rate) {
  const NoGrad guard;
  Tensor squares;
  for (const Block& block : blocks_) {
    if (block.grads.numel() == 0) continue;
    const Tensor part = sum_squares(cast(block.grads, DType::F32), {}, true);
    squares = squares.defined() ? add(squares, part) : part;
  }
  copy_(slice(sums_, 0, 0, 1), loss.detach());
  if (squares.defined()) copy_(slice(sums_, 0, 1, 2), squares);
  const Tensor factors = adamw_factors(slice(sums_, 0, 0, 1), slice(sums_, 0, 1, 2), learning_rate, counted_,
                                       options_, clip_norm_);
  for (const Block& block : blocks_)
    adamw_step(block.values.detach(), block.grads, block.m, block.v, options_, factors);
  DeviceInterface& device = device_interface(sums_.device());
  InFlight& step = in_flight_.emplace_back();
  if (!device.computes()) return;
  step.read =
      device.copy_out(*sums_.storage(), static_cast<std::size_t>(sums_.layout().offset) * sizeof(float),
                      std::as_writable_bytes(std::span<float>(step.sums)));
}

Optimizer::Result Optimizer::finish() {
  require(!in_flight_.empty(), "optimizer: there is no step to finish");
  const std::unique_ptr<Event> read = std::move(in_flight_.front().read);
  Result result;
  if (read != nullptr) {
    read->wait();
    const auto [loss, squares] = in_flight_.front().sums;
    result.loss = loss;
    result.norm = std::sqrt(static_cast<double>(squares));
    result.applied = std::isfinite(loss) && std::isfinite(squares);
  }
  in_flight_.pop_front();
  if (result.applied) ++updates_;
  return result;
}

std::size_t Optimizer::bytes() const {
  std::size_t bytes = 0;
  for (const Block& block : blocks_) {
    for (const Tensor& part : {block.values, block.grads, block.m, block.v})
      bytes += static_cast<std::size_t>(part.numel()) * size_of(part.dtype());
  }
  return bytes;
}

std::vector<NamedTensor> Optimizer::moments() const {
  std::vector<NamedTensor> result(2 * parameters_.size());
  for (const Block& block : blocks_) {
    for (const std::size_t i : block.members) {
      const NamedTensor& parameter = parameters_[i];
      result[2 * i] = {"exp_avg." + parameter.name, part_of(block.m, block.values, parameter.tensor)};
      result[2 * i + 1] = {"exp_avg_sq." + parameter.name, part_of(block.v, block.values, parameter.tensor)};
    }
  }
  return result;
}

void Optimizer::restore(std::span<const NamedTensor> moments, std::int64_t updates) {
  std::map<std::string, Tensor> given;
  for (const NamedTensor& moment : moments) given.emplace(moment.name, moment.tensor);
  const std::vector<NamedTensor> own = this->moments();
  for (const NamedTensor& moment : own) {
    const auto found = given.find(moment.name);
    require<IoError>(found != given.end(), "optimizer: {} is missing among the moments", moment.name);
    const Tensor& values = found->second;
    require<IoError>(values.shape() == moment.tensor.shape() && values.dtype() == DType::F32,
                     "optimizer: {} must be f32 {}; got {}", moment.name, moment.tensor.shape(), values);
  }
  for (const auto& [name, tensor] : given) {
    const bool known = std::any_of(own.begin(), own.end(),
                                   [&name = name](const NamedTensor& moment) { return moment.name == name; });
    require<IoError>(known, "optimizer: {} belongs to no parameter of this run", name);
  }
  require<IoError>(updates >= 0, "optimizer: updates must not be negative; got {}", updates);
  const NoGrad guard;
  for (const NamedTensor& moment : own)
    copy_(moment.tensor, to_device(given.at(moment.name), sums_.device()));
  updates_ = updates;
  // Beyond 2^24 f32 counts no further, and beta^step has vanished.
  fill_(counted_, static_cast<double>(std::min(updates, std::int64_t{1} << 24U)));
}

}  // namespace candela
