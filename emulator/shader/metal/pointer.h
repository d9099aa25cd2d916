#pragma once
// Checked pointers into device, constant and threadgroup memory. `device const T*` is Pointer<Device, const
// T>; the pointer to mutable T derives from it, so that templates deduce T from either, as with the pointers
// of the language.

#include "../runtime/execution.h"
#include "scalar.h"

namespace emulator {

enum class Space : std::uint8_t { Device, Constant, Threadgroup };

/// What a pointer can be moved by: an integer, or an object that stands for one, such as an
/// integral_constant.
template <class I>
concept Index = std::integral<I> ||
    (std::is_class_v<I>&& std::convertible_to<I, std::ptrdiff_t> && !metal::Floating<I>);

/// What `device void*` points to.
struct Void {};

template <Space S, class T>
class Pointer;

namespace detail {

/// The memory of program-scope `constant` arrays, which no binding holds.
inline constexpr Region kProgramScope{nullptr,     ~std::size_t{0}, ArgumentKind::Constant,
                                      kMaxBuffers, "program scope", nullptr};

template <class T>
struct IsPointer {
  static constexpr bool kIs = false;
};
template <Space S, class T>
struct IsPointer<Pointer<S, T>> {
  static constexpr bool kIs = true;
};

}  // namespace detail

template <Space S, class T>
class Pointer<S, const T> {
 public:
  using Element = T;
  static constexpr Space kSpace = S;

  Pointer() = default;
  Pointer(std::nullptr_t) : address_(0), region_(nullptr) {}
  Pointer(std::uintptr_t address, const Region* region) : address_(address), region_(region) {}
  /// The address of an object in this memory, such as a member of a struct: finds the region that holds it.
  Pointer(const T* object)
      : address_(reinterpret_cast<std::uintptr_t>(object)), region_(current_launch->find_region(object)) {
    if (region_ != nullptr || object == nullptr) return;
    if constexpr (S == Space::Constant) {
      region_ = &detail::kProgramScope;
    } else {
      current_launch->fault(
          "a pointer to device or threadgroup memory was made from the address of an object in neither");
    }
  }
  /// The same address as another type.
  template <class U>
  requires(!std::same_as<U, T> && !std::same_as<T, Void>) explicit Pointer(const Pointer<S, const U>& other)
      : address_(other.address()), region_(other.region()) {
    if (address_ % alignof(T) != 0) [[unlikely]] {
      current_launch->fault_alignment(region_, address_, alignof(T), "a pointer cast");
    }
  }
  template <class U>
  requires(!std::same_as<U, T> && std::same_as<T, Void>) Pointer(const Pointer<S, const U>& other)
      : address_(other.address()), region_(other.region()) {}
  template <class U>
  requires(!std::same_as<U, T> && std::is_object_v<U>) explicit Pointer(const U* object)
      : Pointer(Pointer<S, const U>(object)) {}
  explicit operator std::uintptr_t() const { return address_; }
  explicit operator bool() const { return address_ != 0; }

  std::uintptr_t address() const { return address_; }
  const Region* region() const { return region_; }

  const T& operator*() const { return *checked(address_); }
  const T* operator->() const { return checked(address_); }
  template <Index I>
  const T& operator[](I i) const {
    return *checked(offset(i));
  }

  template <Index I>
  Pointer operator+(I i) const {
    return {offset(i), region_};
  }
  template <Index I>
  friend Pointer operator+(I i, const Pointer& p) {
    return p + i;
  }
  template <Index I>
  Pointer operator-(I i) const {
    return {address_ - steps(i) * sizeof(T), region_};
  }
  std::ptrdiff_t operator-(const Pointer& other) const {
    return static_cast<std::ptrdiff_t>(address_ - other.address_) / static_cast<std::ptrdiff_t>(sizeof(T));
  }
  template <Index I>
  Pointer& operator+=(I i) {
    return address_ = offset(i), *this;
  }
  template <Index I>
  Pointer& operator-=(I i) {
    return address_ -= steps(i) * sizeof(T), *this;
  }
  Pointer& operator++() { return *this += 1; }
  Pointer& operator--() { return *this -= 1; }
  Pointer operator++(int) {
    Pointer old = *this;
    *this += 1;
    return old;
  }
  Pointer operator--(int) {
    Pointer old = *this;
    *this -= 1;
    return old;
  }
  friend bool operator==(const Pointer& a, const Pointer& b) { return a.address_ == b.address_; }
  friend auto operator<=>(const Pointer& a, const Pointer& b) { return a.address_ <=> b.address_; }
  friend bool operator==(const Pointer& a, std::nullptr_t) { return a.address_ == 0; }

 protected:
  template <Index I>
  static std::uintptr_t steps(I i) {
    if constexpr (std::integral<I>) {
      return static_cast<std::uintptr_t>(i);
    } else {
      return static_cast<std::uintptr_t>(static_cast<std::ptrdiff_t>(i));
    }
  }
  template <Index I>
  std::uintptr_t offset(I i) const {
    return address_ + steps(i) * sizeof(T);
  }
  /// The object there, all of it inside the region.
  T* checked(std::uintptr_t address) const {
    const Region* region = region_;
    if (region == nullptr) [[unlikely]]
      current_launch->fault_access(region, address, sizeof(T));
    const std::uintptr_t at = address - reinterpret_cast<std::uintptr_t>(region->base);
    if (at >= region->bytes || at + sizeof(T) > region->bytes) [[unlikely]] {
      current_launch->fault_access(region, address, sizeof(T));
    }
    if (region->traffic != nullptr) [[unlikely]] {
      ++region->traffic->accesses;
      region->traffic->bytes += sizeof(T);
    }
    return reinterpret_cast<T*>(address);
  }

  std::uintptr_t address_;
  const Region* region_;
};

template <Space S, class T>
class Pointer : public Pointer<S, const T> {
  using Base = Pointer<S, const T>;

 public:
  Pointer() = default;
  Pointer(std::nullptr_t) : Base(nullptr) {}
  Pointer(std::uintptr_t address, const Region* region) : Base(address, region) {}
  Pointer(T* object) : Base(object) {}
  /// As in C, a cast may take away const.
  explicit Pointer(const Base& other) : Base(other) {}
  template <class U>
  requires(!std::same_as<U, T> && !std::same_as<T, Void>) explicit Pointer(const Pointer<S, const U>& other)
      : Base(other) {}
  template <class U>
  requires(!std::same_as<U, T> && std::same_as<T, Void>) Pointer(const Pointer<S, U>& other) : Base(other) {}

  template <class U>
  requires(!std::same_as<U, T> && !std::is_const_v<U> && std::is_object_v<U>) explicit Pointer(U* object)
      : Pointer(Pointer<S, const U>(object)) {}

  T& operator*() const { return *this->checked(this->address_); }
  T* operator->() const { return this->checked(this->address_); }
  template <Index I>
  T& operator[](I i) const {
    return *this->checked(this->offset(i));
  }
  template <Index I>
  Pointer operator+(I i) const {
    return {this->offset(i), this->region_};
  }
  template <Index I>
  friend Pointer operator+(I i, const Pointer& p) {
    return p + i;
  }
  template <Index I>
  Pointer operator-(I i) const {
    return {this->address_ - this->steps(i) * sizeof(T), this->region_};
  }
  std::ptrdiff_t operator-(const Base& other) const { return static_cast<const Base&>(*this) - other; }
  template <Index I>
  Pointer& operator+=(I i) {
    return Base::operator+=(i), *this;
  }
  template <Index I>
  Pointer& operator-=(I i) {
    return Base::operator-=(i), *this;
  }
  Pointer& operator++() { return *this += 1; }
  Pointer& operator--() { return *this -= 1; }
  Pointer operator++(int) {
    Pointer old = *this;
    *this += 1;
    return old;
  }
  Pointer operator--(int) {
    Pointer old = *this;
    *this -= 1;
    return old;
  }
};

/// A threadgroup array. One dimension is a pointer to its elements as well; more are arrays of arrays.
template <class T, std::size_t N, std::size_t... More>
class SharedArray {
 public:
  using Row = SharedArray<T, More...>;
  SharedArray(std::uintptr_t address, const Region* region) : address_(address), region_(region) {}

  template <Index I>
  Row operator[](I i) const {
    check_index(static_cast<std::size_t>(i));
    return Row(address_ + static_cast<std::size_t>(i) * sizeof(T) * (More * ...), region_);
  }
  /// All elements in order, as by a cast of the array.
  explicit operator Pointer<Space::Threadgroup, T>() const { return {address_, region_}; }
  template <class U>
  requires(!std::same_as<T, U>) explicit operator Pointer<Space::Threadgroup, U>() const {
    return Pointer<Space::Threadgroup, U>(Pointer<Space::Threadgroup, T>(address_, region_));
  }

 private:
  void check_index(std::size_t i) const {
    if (i < N) [[likely]]
      return;
    current_launch->fault("threadgroup variable " + std::string(region_->name) + ": index " +
                          std::to_string(static_cast<std::int64_t>(i)) + " of a dimension of " +
                          std::to_string(N));
  }
  std::uintptr_t address_;
  const Region* region_;
};

template <class T, std::size_t N>
class SharedArray<T, N> : public Pointer<Space::Threadgroup, T> {
 public:
  SharedArray(std::uintptr_t address, const Region* region)
      : Pointer<Space::Threadgroup, T>(address, region) {}
  SharedArray(std::nullptr_t) : Pointer<Space::Threadgroup, T>(nullptr) {}

  template <Index I>
  T& operator[](I i) const {
    if (static_cast<std::size_t>(i) >= N) [[unlikely]] {
      current_launch->fault("threadgroup variable " + std::string(this->region_->name) + ": index " +
                            std::to_string(static_cast<std::int64_t>(i)) + " of a dimension of " +
                            std::to_string(N));
    }
    return *reinterpret_cast<T*>(this->offset(i));
  }
};

/// `&e[i]`.
template <Space S, class T, Index I>
Pointer<S, T> element(const Pointer<S, T>& p, I i) {
  return p + i;
}
template <class T, std::size_t N, std::size_t M, std::size_t... More, Index I>
SharedArray<T, M, More...> element(const SharedArray<T, N, M, More...>& a, I i) {
  return a[i];
}
template <class T, Index I>
T* element(T* p, I i) {
  return p + i;
}
template <class V, Index I>
requires(!std::derived_from<V, Pointer<Space::Device, const typename V::Element>> &&
         !std::derived_from<V, Pointer<Space::Constant, const typename V::Element>> &&
         !std::derived_from<V, Pointer<Space::Threadgroup, const typename V::Element>>) auto* element(V& v,
                                                                                                      I i) {
  return &v[i];
}

/// reinterpret_cast, which on checked pointers is a conversion.
template <class To, class From>
To pointer_cast(From&& from) {
  if constexpr (detail::IsPointer<To>::kIs) {
    return To(from);
  } else if constexpr (detail::IsPointer<std::remove_cvref_t<From>>::kIs) {
    return static_cast<To>(from);
  } else {
    return reinterpret_cast<To>(from);
  }
}

}  // namespace emulator
