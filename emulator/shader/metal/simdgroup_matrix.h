#pragma once
// 8 x 8 matrices that the lanes of a simdgroup hold together, two neighbouring elements of a row each.

#include "pointer.h"
#include "simdgroup.h"

namespace metal {

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "simdgroup matrices are 8 x 8");
  static_assert(Floating<T>, "simdgroup matrices hold float, half or bfloat");
  using storage_type = vec<T, 2>;

  simdgroup_matrix() = default;
  /// Zero but for the diagonal.
  explicit simdgroup_matrix(T diagonal) : elements(T(0.0f)) {
    const uint2 at = position();
    if (at.y == at.x) elements[0] = diagonal;
    if (at.y == at.x + 1) elements[1] = diagonal;
  }
  storage_type& thread_elements() { return elements; }
  const storage_type& thread_elements() const { return elements; }

  /// (column, row) of the first of this lane's two elements.
  static uint2 position() { return position_of(emulator::current_launch->lane()); }
  static uint2 position_of(uint lane) {
    const uint quad = lane / 4;
    return uint2((quad & 2) * 2 + lane % 2 * 2, (quad & 4) + lane / 2 % 4);
  }

  storage_type elements;
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

template <class T, int Columns, int Rows = Columns>
simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Columns, Rows> out;
  out.elements = vec<T, 2>(value);
  return out;
}

namespace detail {

/// All lanes must load or store at the same place in memory; checked when they meet next.
inline void note_matrix_access(std::uintptr_t address, ulong stride, const ulong2& origin, bool transpose, const Site& site) {
  std::uint64_t value = address;
  value = value * 31 + stride;
  value = value * 31 + origin.x;
  value = value * 31 + origin.y;
  value = value * 31 + static_cast<std::uint64_t>(site.line) * 2 + transpose;
  emulator::current_launch->note_collective(value);
}

/// Index of element (row, column) of the 8 x 8 block whose first element is at (origin.y, origin.x).
inline ulong matrix_index(uint row, uint column, ulong stride, const ulong2& origin, bool transpose) {
  return transpose ? (origin.y + column) * stride + origin.x + row : (origin.y + row) * stride + origin.x + column;
}

}  // namespace detail

/// `elements_per_row` is the stride between rows in memory, in elements; `origin` is (column, row) of the block in it.
template <class T, emulator::Space S>
void simdgroup_load(simdgroup_matrix<T, 8, 8>& m, const emulator::Pointer<S, const std::type_identity_t<T>>& source,
                    ulong elements_per_row = 8, ulong2 origin = ulong2(0ul), bool transpose = false,
                    detail::Site site = detail::Site::here()) {
  detail::note_matrix_access(source.address(), elements_per_row, origin, transpose, site);
  const uint2 at = m.position();
  m.elements.x = source[detail::matrix_index(at.y, at.x, elements_per_row, origin, transpose)];
  m.elements.y = source[detail::matrix_index(at.y, at.x + 1, elements_per_row, origin, transpose)];
}

template <class T, emulator::Space S>
void simdgroup_store(const simdgroup_matrix<T, 8, 8>& m, const emulator::Pointer<S, T>& target, ulong elements_per_row = 8,
                     ulong2 origin = ulong2(0ul), bool transpose = false, detail::Site site = detail::Site::here()) {
  detail::note_matrix_access(target.address(), elements_per_row, origin, transpose, site);
  const uint2 at = m.position();
  target[detail::matrix_index(at.y, at.x, elements_per_row, origin, transpose)] = m.elements.x;
  target[detail::matrix_index(at.y, at.x + 1, elements_per_row, origin, transpose)] = m.elements.y;
}

namespace detail {

/// out = a b, each 8 x 8 row-major.
void multiply_8x8(const float* a, const float* b, float* out);

/// This lane's two elements of a b. The operands meet in shared memory; the first lane to go on multiplies for all.
template <class A, class B>
float2 matrix_product(const simdgroup_matrix<A, 8, 8>& a, const simdgroup_matrix<B, 8, 8>& b, const Site& site) {
  emulator::Launch& launch = *emulator::current_launch;
  emulator::SimdGroup& group = launch.simdgroup();
  emulator::SimdExchange& exchange = launch.next_exchange();
  if (group.waiting == 0) exchange.reduced = false;
  const uint2 at = a.position();
  const uint place = at.y * 8 + at.x;
  exchange.a[place] = static_cast<float>(a.elements.x);
  exchange.a[place + 1] = static_cast<float>(a.elements.y);
  exchange.b[place] = static_cast<float>(b.elements.x);
  exchange.b[place + 1] = static_cast<float>(b.elements.y);
  if (group.alive != 0xffffffffu) [[unlikely]] {
    launch.fault("a product of simdgroup matrices needs all 32 lanes of the simdgroup");
  }
  launch.meet_simdgroup("simdgroup_multiply", site, 0);
  if (!exchange.reduced) {
    multiply_8x8(exchange.a.data(), exchange.b.data(), exchange.product.data());
    exchange.reduced = true;
  }
  return float2(exchange.product[place], exchange.product[place + 1]);
}

}  // namespace detail

/// d = a b
template <class D, class A, class B>
void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a, const simdgroup_matrix<B, 8, 8>& b,
                        detail::Site site = detail::Site::here()) {
  d.elements = vec<D, 2>(detail::matrix_product(a, b, site));
}
/// d = a b + c
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                   const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<C, 8, 8>& c,
                                   detail::Site site = detail::Site::here()) {
  const float2 product = detail::matrix_product(a, b, site);
  d.elements = vec<D, 2>(D(product.x + static_cast<float>(c.elements.x)), D(product.y + static_cast<float>(c.elements.y)));
}
template <class T>
simdgroup_matrix<T, 8, 8> operator*(const simdgroup_matrix<T, 8, 8>& a, const simdgroup_matrix<T, 8, 8>& b) {
  simdgroup_matrix<T, 8, 8> out;
  simdgroup_multiply(out, a, b);
  return out;
}

}  // namespace metal
