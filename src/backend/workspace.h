#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include <candela/core/error.h>

#include "backend/args/tensor_arg.h"

namespace candela {

/// Memory of one kernel while it runs, from the allocator of its device. A kernel takes its arrays one after
/// the other, at offsets that are multiples of kAlignment. Passed by value: what a callee takes from its copy
/// is free again when it returns.
///
/// A measuring workspace has no memory: take() returns null, and the largest extent is noted. So one function
/// both states and takes the workspace of a kernel.
class Workspace {
 public:
  static constexpr std::size_t kAlignment = 256;

  /// No memory.
  Workspace() = default;
  /// All of `storage`, which must outlive the workspace.
  explicit Workspace(const Storage& storage) : storage_(&storage), end_(storage.bytes()) {}
  /// Raises `peak` to the largest extent that is taken.
  static Workspace measuring(std::size_t& peak) {
    Workspace workspace;
    workspace.peak_ = &peak;
    return workspace;
  }

  bool measuring() const { return peak_ != nullptr; }

  /// Uninitialised memory of `count` elements, addressed as Storage::data() is; null for none, and when
  /// measuring. Throws DeviceError beyond the stated size.
  template <class T>
  T* take(std::int64_t count) {
    if (count <= 0) return nullptr;
    const std::size_t at = advance(static_cast<std::size_t>(count) * sizeof(T));
    return measuring() ? nullptr : reinterpret_cast<T*>(static_cast<std::byte*>(storage_->data()) + at);
  }
  /// An uninitialised row-major tensor, for backends that address memory by handle; without storage when
  /// measuring.
  TensorArg take_tensor(std::initializer_list<std::int64_t> shape, DType dtype) {
    return take_tensor(shape.begin(), static_cast<int>(shape.size()), dtype);
  }
  /// The same in the shape and dtype of `like`.
  TensorArg take_like(const TensorArg& like) { return take_tensor(like.shape, like.rank, like.dtype); }
  /// `bytes` of it as a workspace of its own.
  Workspace take_part(std::size_t bytes) {
    Workspace part = *this;
    part.at_ = advance(bytes);
    if (!measuring()) part.end_ = part.at_ + bytes;
    return part;
  }

 private:
  TensorArg take_tensor(const std::int64_t* shape, int rank, DType dtype) {
    TensorArg made;
    made.dtype = dtype;
    made.rank = rank;
    std::int64_t count = 1;
    for (int d = rank - 1; d >= 0; --d) {
      made.shape[d] = shape[d];
      made.strides[d] = count;
      count *= shape[d];
    }
    const std::size_t at = advance(static_cast<std::size_t>(count) * size_of(dtype));
    if (measuring()) return made;
    made.storage = storage_;
    made.offset = static_cast<std::int64_t>(at / size_of(dtype));
    if (storage_ != nullptr && storage_->data() != nullptr)
      made.data = static_cast<std::byte*>(storage_->data()) + at;
    return made;
  }

  /// Where the next `bytes` begin.
  std::size_t advance(std::size_t bytes) {
    const std::size_t begin = (at_ + kAlignment - 1) / kAlignment * kAlignment;
    at_ = begin + bytes;
    if (measuring()) {
      *peak_ = std::max(*peak_, at_);
    } else {
      require<DeviceError>(at_ <= end_, "workspace: a kernel takes {} bytes and stated {}", at_, end_);
    }
    return begin;
  }

  const Storage* storage_ = nullptr;
  std::size_t at_ = 0, end_ = 0;
  std::size_t* peak_ = nullptr;
};

/// Bytes that `body(Workspace)` takes.
template <class Body>
std::size_t measured_workspace(Body&& body) {
  std::size_t peak = 0;
  body(Workspace::measuring(peak));
  return peak;
}

}  // namespace candela
