#pragma once

#include <cstddef>
#include <cstdint>

#include <candela/core/tensor.h>

namespace candela {

/// A tensor as kernels see it: plain data, valid during the call. An absent optional argument has `data ==
/// nullptr` and `storage == nullptr`.
struct TensorArg {
  /// first element on host-addressable devices
  void* data = nullptr;
  /// for backends that address by native handle and offset
  const Storage* storage = nullptr;
  /// of the first element in the storage, in elements
  std::int64_t offset = 0;
  DType dtype = DType::F32;
  int rank = 0;
  std::int64_t shape[kMaxRank] = {};
  /// in elements; 0 where broadcast
  std::int64_t strides[kMaxRank] = {};

  TensorArg() = default;
  TensorArg(
      const Tensor& tensor) {  // NOLINT(google-explicit-constructor): the one door from tensors to kernels
    if (!tensor.defined()) return;
    storage = tensor.storage().get();
    offset = tensor.layout().offset;
    dtype = tensor.dtype();
    rank = tensor.rank();
    for (int d = 0; d < rank; ++d) {
      shape[d] = tensor.shape()[d];
      strides[d] = tensor.strides()[d];
    }
    if (storage->data() != nullptr) {
      data = static_cast<std::byte*>(storage->data()) + offset * static_cast<std::int64_t>(size_of(dtype));
    }
  }

  bool present() const { return storage != nullptr; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  std::int64_t numel() const {
    std::int64_t count = 1;
    for (int d = 0; d < rank; ++d) count *= shape[d];
    return count;
  }
  std::int64_t last() const { return rank == 0 ? 1 : shape[rank - 1]; }
  /// Product of all sizes but the last.
  std::int64_t rows() const { return last() == 0 ? 0 : numel() / last(); }
  bool contiguous() const {
    std::int64_t expected = 1;
    for (int d = rank - 1; d >= 0; --d) {
      if (shape[d] != 1 && strides[d] != expected) return numel() == 0;
      expected *= shape[d];
    }
    return true;
  }
};

}  // namespace candela
