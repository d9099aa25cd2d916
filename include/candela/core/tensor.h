#pragma once

#include <memory>
#include <span>
#include <vector>

#include <candela/core/device.h>
#include <candela/core/dtype.h>
#include <candela/core/error.h>
#include <candela/core/shape.h>

namespace candela {

struct GradNode;
struct Recipe;

/// An n-dimensional array: a counted handle on a storage plus a layout. Copying a Tensor copies the handle.
/// Tensors that share a storage (views) see each other's writes: threads may read it side by side, not write.
class Tensor {
 public:
  /// An undefined tensor: stands for "none" where an argument is optional.
  Tensor() = default;

  /// Uninitialised memory.
  static Tensor empty(const Shape& shape, DType dtype = DType::F32, Device device = Device::cpu());
  /// Copies `values` (row-major, numel(shape) of them) to `device`.
  template <class T>
  static Tensor from_values(std::span<const T> values, const Shape& shape, Device device = Device::cpu()) {
    return from_bytes(std::as_bytes(values), shape, DTypeOf<T>::kValue, device);
  }
  template <class T>
  static Tensor from_values(const std::vector<T>& values, const Shape& shape, Device device = Device::cpu()) {
    return from_values(std::span<const T>(values), shape, device);
  }
  static Tensor from_bytes(std::span<const std::byte> bytes, const Shape& shape, DType dtype, Device device);
  /// A view of existing memory. The layout must lie within the storage, with strides and offset of at least
  /// 0; throws InvalidArgument otherwise.
  static Tensor from_storage(StoragePtr storage, const Layout& layout, DType dtype);

  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const { return defined(); }

  const Shape& shape() const { return layout().shape; }
  const Strides& strides() const { return layout().strides; }
  const Layout& layout() const;
  int rank() const { return shape().rank(); }
  /// Size of dimension `dim`; negative counts from the end.
  std::int64_t size(int dim) const;
  std::int64_t numel() const;
  DType dtype() const;
  Device device() const;
  const StoragePtr& storage() const;
  bool is_contiguous() const { return layout().is_contiguous(); }

  /// Host pointer to the first element (after the layout's offset), once the device's work is done. Throws
  /// InvalidArgument if the dtype is not T's or the device's memory cannot be read by the host.
  template <class T>
  T* data() const {
    return static_cast<T*>(host_data(DTypeOf<T>::kValue));
  }
  /// All elements in row-major order, whatever the layout.
  template <class T>
  std::vector<T> to_vector() const {
    std::vector<T> values(static_cast<std::size_t>(numel()));
    read_bytes(DTypeOf<T>::kValue, values.data());
    return values;
  }
  /// The value of a tensor with one element, of any numeric dtype.
  double item() const;

  /// Another layout over the same storage, outside autograd. The ops in ops/copy.h are the differentiable
  /// views.
  Tensor with_layout(const Layout& layout) const;
  /// The same memory, cut off from autograd.
  Tensor detach() const;

  /// Leaves (parameters) are marked; results of ops on marked tensors require a gradient too.
  bool requires_grad() const;
  /// Marks a leaf. Floating dtypes only; throws InvalidArgument on a result of an op.
  Tensor& set_requires_grad(bool value);
  /// The gradient accumulated by backward(), undefined before. It has the tensor's shape and dtype: setting
  /// another throws InvalidArgument; undefined clears it.
  const Tensor& grad() const;
  void set_grad(Tensor grad) const;

  const std::shared_ptr<GradNode>& grad_node() const;
  int grad_output() const;
  /// Used by the ops when they record; not for users.
  void set_grad_node(std::shared_ptr<GradNode> node, int output);

  /// How to compute this result again, null where its op gave no recipe. Set by ops only; views have none.
  const std::shared_ptr<const Recipe>& recipe() const;
  void set_recipe(std::shared_ptr<const Recipe> recipe);

  /// Identity: the same handle.
  bool same_as(const Tensor& other) const { return impl_ == other.impl_; }
  /// Whether this handle is the only one on its tensor, and no other tensor shares its storage.
  bool sole_owner() const;

 private:
  struct Impl;
  explicit Tensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  void* host_data(DType expected) const;
  void read_bytes(DType expected, void* out) const;

  std::shared_ptr<Impl> impl_;
};

/// "f32 [2, 8] on cpu" or "an undefined tensor". Formatting a tensor gives the same: errors take the tensor
/// itself, so that nothing is put into words unless it is thrown.
std::string describe(const Tensor& tensor);

}  // namespace candela

template <>
struct fmt::formatter<candela::Tensor> : fmt::formatter<std::string> {
  auto format(const candela::Tensor& tensor, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(candela::describe(tensor), context);
  }
};
