#include <algorithm>
#include <cstring>
#include <vector>

#include <candela/core/grad.h>
#include <candela/core/tensor.h>

namespace candela {
namespace {

constexpr std::size_t kLargestBytes = std::size_t{1} << 62U;

}  // namespace

struct Tensor::Impl {
  StoragePtr storage;
  Layout layout;
  DType dtype = DType::F32;
  bool leaf_requires_grad = false;
  std::shared_ptr<GradNode> node;
  int output = 0;
  std::shared_ptr<const Recipe> recipe;
  Tensor grad;
};

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  const auto count = static_cast<std::size_t>(candela::numel(shape));
  require(count <= kLargestBytes / size_of(dtype), "tensor: {} {} needs more than 2^62 bytes",
          candela::to_string(dtype), shape);
  auto impl = std::make_shared<Impl>();
  impl->storage = device_interface(device).allocator().allocate(count * size_of(dtype));
  impl->layout = Layout::contiguous(shape);
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}

Tensor Tensor::from_bytes(std::span<const std::byte> bytes, const Shape& shape, DType dtype, Device device) {
  Tensor result = empty(shape, dtype, device);
  const auto expected = static_cast<std::size_t>(result.numel()) * size_of(dtype);
  require(bytes.size() == expected, "tensor: {} {} needs {} bytes; got {}", to_string(dtype), shape, expected,
          bytes.size());
  device_interface(device).copy_in(*result.storage(), 0, bytes);
  return result;
}

Tensor Tensor::from_storage(StoragePtr storage, const Layout& layout, DType dtype) {
  require(storage != nullptr, "tensor: from_storage needs a storage");
  require(layout.strides.rank() == layout.shape.rank(),
          "tensor: needs one stride per dimension; got {} for {}", layout.strides, layout.shape);
  require(layout.offset >= 0, "tensor: offset must not be negative; got {}", layout.offset);
  require(std::all_of(layout.strides.begin(), layout.strides.end(), [](std::int64_t s) { return s >= 0; }),
          "tensor: strides must not be negative; got {} for {}", layout.strides, layout.shape);
  candela::numel(layout.shape);  // refuses sizes that are negative or too many
  require(static_cast<std::size_t>(layout.extent()) <= storage->bytes() / size_of(dtype),
          "tensor: {} {} at element {} does not fit a storage of {} bytes", candela::to_string(dtype),
          layout.shape, layout.offset, storage->bytes());
  auto impl = std::make_shared<Impl>();
  impl->storage = std::move(storage);
  impl->layout = layout;
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}

const Layout& Tensor::layout() const {
  require(defined(), "tensor: is undefined");
  return impl_->layout;
}

std::int64_t Tensor::size(int dim) const {
  return shape()[normalize_dim(dim, rank(), "size")];
}

std::int64_t Tensor::numel() const {
  return candela::numel(shape());
}

DType Tensor::dtype() const {
  require(defined(), "tensor: is undefined");
  return impl_->dtype;
}

Device Tensor::device() const {
  return storage()->device();
}

const StoragePtr& Tensor::storage() const {
  require(defined(), "tensor: is undefined");
  return impl_->storage;
}

void* Tensor::host_data(DType expected) const {
  require(dtype() == expected, "tensor: read as {}, but it is {}", candela::to_string(expected), *this);
  DeviceInterface& on = device_interface(device());
  require(on.host_accessible(), "tensor: the memory of {} cannot be read by the host", device());
  on.synchronize();
  return static_cast<std::byte*>(storage()->data()) +
         static_cast<std::size_t>(layout().offset) * size_of(expected);
}

/// Where the host waits: for all of the device's work where it can read the memory itself, else for a copy.
void Tensor::read_bytes(DType expected, void* out) const {
  require(dtype() == expected, "tensor: read as {}, but it is {}", candela::to_string(expected), *this);
  const std::size_t width = size_of(expected);
  auto* to = static_cast<std::byte*>(out);
  const std::int64_t count = numel();
  if (count == 0) return;
  DeviceInterface& on = device_interface(device());
  const std::size_t begin = static_cast<std::size_t>(layout().offset) * width;
  std::vector<std::byte> copied;
  const std::byte* from = nullptr;
  if (on.host_accessible()) {
    on.synchronize();
    from = static_cast<const std::byte*>(storage()->data()) + begin;
  } else if (is_contiguous()) {
    on.copy_out(*storage(), begin, {to, static_cast<std::size_t>(count) * width})->wait();
    return;
  } else {
    copied.resize(static_cast<std::size_t>(layout().extent()) * width - begin);
    on.copy_out(*storage(), begin, copied)->wait();
    from = copied.data();
  }
  if (is_contiguous()) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * width);
    return;
  }
  Dims index = Dims::filled(rank(), 0);
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t position = 0;
    for (int d = 0; d < rank(); ++d) position += index[d] * strides()[d];
    std::memcpy(to + static_cast<std::size_t>(i) * width, from + position * static_cast<std::int64_t>(width),
                width);
    for (int d = rank() - 1; d >= 0 && ++index[d] == shape()[d]; --d) index[d] = 0;
  }
}

double Tensor::item() const {
  require(numel() == 1, "item: needs a tensor with one element; got {}", shape());
  const auto read = [this]<class T>(T value) {
    read_bytes(DTypeOf<T>::kValue, &value);
    return value;
  };
  switch (dtype()) {
    case DType::F32:
      return read(float{});
    case DType::F64:
      return read(double{});
    case DType::BF16:
      return static_cast<float>(read(BFloat16{}));
    case DType::F16:
      return static_cast<float>(read(Float16{}));
    case DType::I64:
      return static_cast<double>(read(std::int64_t{}));
    case DType::I32:
      return read(std::int32_t{});
    case DType::U8:
      return read(std::uint8_t{});
  }
  throw InvalidArgument("item: unknown dtype");
}

Tensor Tensor::with_layout(const Layout& layout) const {
  return from_storage(storage(), layout, dtype());
}

Tensor Tensor::detach() const {
  return with_layout(layout());
}

bool Tensor::sole_owner() const {
  return defined() && impl_.use_count() == 1 && impl_->storage.use_count() == 1;
}

bool Tensor::requires_grad() const {
  return defined() && (impl_->leaf_requires_grad || impl_->node != nullptr);
}

Tensor& Tensor::set_requires_grad(bool value) {
  require(defined() && is_floating(dtype()),
          "requires_grad: only floating point tensors can have a gradient");
  require(impl_->node == nullptr, "requires_grad: can only be set on a leaf, this is a result of {}",
          impl_->node ? impl_->node->op : "");
  impl_->leaf_requires_grad = value;
  return *this;
}

const Tensor& Tensor::grad() const {
  require(defined(), "grad: tensor is undefined");
  return impl_->grad;
}

void Tensor::set_grad(Tensor grad) const {
  require(defined(), "grad: tensor is undefined");
  if (grad.defined() && (grad.shape() != shape() || grad.dtype() != dtype()))
    throw InvalidArgument(
        fmt::format("grad: must be {} {} as the tensor; got {}", candela::to_string(dtype()), shape(), grad));
  impl_->grad = std::move(grad);
}

const std::shared_ptr<GradNode>& Tensor::grad_node() const {
  require(defined(), "grad_node: tensor is undefined");
  return impl_->node;
}

int Tensor::grad_output() const {
  return impl_->output;
}

void Tensor::set_grad_node(std::shared_ptr<GradNode> node, int output) {
  require(defined(), "grad_node: tensor is undefined");
  impl_->node = std::move(node);
  impl_->output = output;
}

const std::shared_ptr<const Recipe>& Tensor::recipe() const {
  require(defined(), "recipe: tensor is undefined");
  return impl_->recipe;
}

void Tensor::set_recipe(std::shared_ptr<const Recipe> recipe) {
  require(defined(), "recipe: tensor is undefined");
  impl_->recipe = std::move(recipe);
}

std::string describe(const Tensor& tensor) {
  if (!tensor.defined()) return "an undefined tensor";
  return fmt::format("{} {} on {}", to_string(tensor.dtype()), tensor.shape(), tensor.device());
}

}  // namespace candela
