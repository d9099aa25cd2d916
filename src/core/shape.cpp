#include <algorithm>
#include <fmt/ranges.h>

#include <candela/core/error.h>
#include <candela/core/shape.h>

namespace candela {
namespace {

constexpr std::int64_t kLargestCount = std::int64_t{1} << 62;

bool has_no_elements(const Shape& shape) {
  return std::find(shape.begin(), shape.end(), 0) != shape.end();
}

}  // namespace

Dims::Dims(std::initializer_list<std::int64_t> values)
    : Dims(std::span<const std::int64_t>(values.begin(), values.size())) {}

Dims::Dims(std::span<const std::int64_t> values) {
  for (const std::int64_t value : values) push_back(value);
}

Dims Dims::filled(int rank, std::int64_t value) {
  Dims result;
  for (int i = 0; i < rank; ++i) result.push_back(value);
  return result;
}

void Dims::push_back(std::int64_t value) {
  require(rank_ < kMaxRank, "shape: at most {} dimensions are supported", kMaxRank);
  values_[static_cast<std::size_t>(rank_++)] = value;
}

void Dims::insert(int position, std::int64_t value) {
  require(rank_ < kMaxRank, "shape: at most {} dimensions are supported", kMaxRank);
  std::copy_backward(values_.begin() + position, values_.begin() + rank_, values_.begin() + rank_ + 1);
  values_[static_cast<std::size_t>(position)] = value;
  ++rank_;
}

void Dims::erase(int position) {
  std::copy(values_.begin() + position + 1, values_.begin() + rank_, values_.begin() + position);
  --rank_;
}

bool Dims::operator==(const Dims& other) const {
  return std::equal(begin(), end(), other.begin(), other.end());
}

std::string Dims::to_string() const {
  return fmt::format("[{}]", fmt::join(begin(), end(), ", "));
}

std::int64_t numel(const Shape& shape) {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t size : shape) {
    require(size >= 0, "shape: sizes must not be negative; got {}", shape);
    empty = empty || size == 0;
    if (size == 0) continue;
    require(count <= kLargestCount / size, "shape: {} has too many elements", shape);
    count *= size;
  }
  return empty ? 0 : count;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = Dims::filled(shape.rank(), 1);
  for (int d = shape.rank() - 2; d >= 0; --d) {
    strides[d] = strides[d + 1] * std::max<std::int64_t>(shape[d + 1], 1);
  }
  return strides;
}

Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view op) {
  const int rank = std::max(a.rank(), b.rank());
  Shape result = Dims::filled(rank, 1);
  for (int d = 0; d < rank; ++d) {
    const int da = d - (rank - a.rank());
    const int db = d - (rank - b.rank());
    const std::int64_t size_a = da >= 0 ? a[da] : 1;
    const std::int64_t size_b = db >= 0 ? b[db] : 1;
    require(size_a == size_b || size_a == 1 || size_b == 1,
            "{}: shapes must be equal or broadcastable (equal sizes or 1); got {} and {}", op, a, b);
    result[d] = size_a == 1 ? size_b : size_a;
  }
  return result;
}

int normalize_dim(int dim, int rank, std::string_view op) {
  require(dim >= -rank && dim < rank, "{}: dim must be in [{}, {}] for rank {}; got {}", op, -rank, rank - 1,
          rank, dim);
  return dim < 0 ? dim + rank : dim;
}

bool Layout::is_contiguous() const {
  if (has_no_elements(shape)) return true;
  std::int64_t expected = 1;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

std::int64_t Layout::extent() const {
  if (has_no_elements(shape)) return 0;
  bool fits = offset < kLargestCount;
  std::int64_t last = offset;
  for (int d = 0; d < shape.rank() && fits; ++d) {
    const std::int64_t steps = shape[d] - 1;
    fits = steps == 0 || strides[d] <= (kLargestCount - 1 - last) / steps;
    if (fits) last += steps * strides[d];
  }
  require(fits, "layout: {} with strides {} at element {} reaches beyond 2^62 elements", shape, strides,
          offset);
  return last + 1;
}

bool Layout::may_overlap() const {
  if (has_no_elements(shape)) return false;
  // By rising stride, every step must lead past all that the smaller ones reach.
  Dims order;
  for (int d = 0; d < shape.rank(); ++d) {
    if (shape[d] == 1) continue;
    int position = 0;
    while (position < order.rank() && strides[static_cast<int>(order[position])] <= strides[d]) ++position;
    order.insert(position, d);
  }
  std::int64_t reach = 0;
  for (const std::int64_t d : order) {
    const auto dim = static_cast<int>(d);
    if (strides[dim] <= reach) return true;
    reach += (shape[dim] - 1) * strides[dim];
  }
  return false;
}

Layout Layout::transpose(int a, int b) const {
  Layout result = *this;
  a = normalize_dim(a, shape.rank(), "transpose");
  b = normalize_dim(b, shape.rank(), "transpose");
  std::swap(result.shape[a], result.shape[b]);
  std::swap(result.strides[a], result.strides[b]);
  return result;
}

Layout Layout::slice(int dim, std::int64_t start, std::int64_t end) const {
  Layout result = *this;
  dim = normalize_dim(dim, shape.rank(), "slice");
  require(start >= 0 && start <= end && end <= shape[dim],
          "slice: [start, end) must lie in [0, {}] for dim {} of {}; got [{}, {})", shape[dim], dim, shape,
          start, end);
  result.shape[dim] = end - start;
  result.offset += start * strides[dim];
  return result;
}

Layout Layout::broadcast_to(const Shape& to) const {
  require(broadcast_shapes(shape, to, "broadcast_to") == to, "broadcast_to: {} does not broadcast to {}",
          shape, to);
  Layout result{to, Dims::filled(to.rank(), 0), offset};
  for (int d = 0; d < shape.rank(); ++d) {
    const int target = d + to.rank() - shape.rank();
    result.strides[target] = shape[d] == 1 && to[target] != 1 ? 0 : strides[d];
  }
  return result;
}

Layout Layout::reshape(const Shape& to, bool& possible) const {
  possible = true;
  Layout result{to, contiguous_strides(to), offset};
  if (is_contiguous()) return result;  // as is any layout without elements
  // Walk both shapes from the front in groups of equal element count; inside a group the old strides must be
  // collapsible.
  int old_dim = 0;
  int new_dim = 0;
  while (old_dim < shape.rank() || new_dim < to.rank()) {
    int old_end = old_dim;
    int new_end = new_dim;
    std::int64_t old_count = old_end < shape.rank() ? shape[old_end++] : 1;
    std::int64_t new_count = new_end < to.rank() ? to[new_end++] : 1;
    while (old_count != new_count) {
      if (old_count < new_count) {
        old_count *= shape[old_end++];
      } else {
        new_count *= to[new_end++];
      }
    }
    std::int64_t inner_stride = 1;
    std::int64_t inner_size = 1;
    bool first = true;
    for (int d = old_end - 1; d >= old_dim; --d) {
      if (shape[d] == 1) continue;
      if (first) {
        inner_stride = strides[d];
        first = false;
      } else if (strides[d] != inner_stride * inner_size) {
        possible = false;
        return result;
      }
      inner_size *= shape[d];
    }
    std::int64_t stride = inner_stride;
    for (int d = new_end - 1; d >= new_dim; --d) {
      result.strides[d] = stride;
      stride *= to[d];
    }
    old_dim = old_end;
    new_dim = new_end;
  }
  return result;
}

}  // namespace candela
