#pragma once

#include <array>
#include <cstdint>
#include <fmt/format.h>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

/// Shapes, strides and layouts: where the elements of a tensor lie. All counts are in elements.
namespace candela {

inline constexpr int kMaxRank = 6;

/// Up to kMaxRank integers in place: sizes or strides, one per dimension.
class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values);
  explicit Dims(std::span<const std::int64_t> values);
  /// `rank` copies of `value`.
  static Dims filled(int rank, std::int64_t value);

  int rank() const { return rank_; }
  /// Dimension `i`; no negative index, no check in release builds.
  std::int64_t operator[](int i) const { return values_[static_cast<std::size_t>(i)]; }
  std::int64_t& operator[](int i) { return values_[static_cast<std::size_t>(i)]; }
  std::int64_t back() const { return values_[static_cast<std::size_t>(rank_ - 1)]; }

  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + rank_; }

  /// Throws InvalidArgument beyond kMaxRank.
  void push_back(std::int64_t value);
  void insert(int position, std::int64_t value);
  void erase(int position);

  bool operator==(const Dims& other) const;
  /// "[2, 8, 4096]".
  std::string to_string() const;

 private:
  std::array<std::int64_t, kMaxRank> values_{};
  int rank_ = 0;
};

using Shape = Dims;
using Strides = Dims;

/// Product of the sizes; 1 for rank 0. Throws InvalidArgument when one is negative, or when those that are
/// not 0 multiply to more than 2^62: so strides fit too.
std::int64_t numel(const Shape& shape);

/// Row-major strides: the last dimension has stride 1.
Strides contiguous_strides(const Shape& shape);

/// The broadcast of two shapes (NumPy's rule); throws InvalidArgument naming `op` if they do not fit.
Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view op);

/// Maps a possibly negative dimension to [0, rank); throws InvalidArgument naming `op`.
int normalize_dim(int dim, int rank, std::string_view op);

/// Where elements lie in a storage: element i of dimension d is `strides[d]` elements after element i-1.
struct Layout {
  Shape shape;
  Strides strides;
  std::int64_t offset = 0;

  static Layout contiguous(const Shape& shape) { return {shape, contiguous_strides(shape), 0}; }
  bool is_contiguous() const;
  /// One past the largest element index used, counted from the start of the storage (0 if empty). Offset and
  /// strides must not be negative. Throws InvalidArgument beyond 2^62.
  std::int64_t extent() const;
  /// Whether elements may share memory, as broadcast ones do: then they cannot be written one by one.
  bool may_overlap() const;

  Layout transpose(int a, int b) const;
  /// Elements [start, end) of `dim`.
  Layout slice(int dim, std::int64_t start, std::int64_t end) const;
  /// Size-1 or missing leading dimensions get stride 0. The shape must be broadcastable to `shape`.
  Layout broadcast_to(const Shape& to) const;
  /// The same elements in another shape without a copy, if the strides allow it; `possible` says whether they
  /// do.
  Layout reshape(const Shape& to, bool& possible) const;
};

}  // namespace candela

template <>
struct fmt::formatter<candela::Dims> : fmt::formatter<std::string> {
  auto format(const candela::Dims& dims, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(dims.to_string(), context);
  }
};
