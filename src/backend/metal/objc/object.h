#pragma once

#include <string>
#include <utility>

/// C++ handles on Objective-C objects. These headers hold no Objective-C type, so that plain C++ can include
/// them; the `.mm` files beside them are the only place that sends messages, retains or releases.
namespace candela::metal::objc {

/// A counted reference to an Objective-C object: copying retains, destruction releases.
class Object {
 public:
  Object() = default;
  Object(const Object& other) : object_(other.object_) { retain(); }
  Object(Object&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Object& operator=(Object other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Object() { release(); }

  explicit operator bool() const { return object_ != nullptr; }
  /// The object itself, borrowed; for the `.mm` files and for MemoryBlock::native.
  void* get() const { return object_; }
  /// Gives up the reference without releasing it.
  void* detach() { return std::exchange(object_, nullptr); }

 protected:
  enum class Ownership { Adopt, Share };
  /// Adopt takes over a reference that the caller owns; Share retains one of its own.
  Object(void* object, Ownership ownership) : object_(object) {
    if (ownership == Ownership::Share) retain();
  }

 private:
  void retain() const;
  void release();

  void* object_ = nullptr;
};

/// Temporaries that Objective-C methods return on this thread are freed when it ends. Scopes nest.
class AutoreleasePool {
 public:
  AutoreleasePool();
  ~AutoreleasePool();
  AutoreleasePool(const AutoreleasePool&) = delete;
  AutoreleasePool& operator=(const AutoreleasePool&) = delete;

 private:
  void* pool_;
};

}  // namespace candela::metal::objc
