#pragma once
// 8 x 8 matrices that the lanes of a simdgroup hold together, two neighbouring elements of a row each.

#include "pointer.h"
#include "simdgroup.h"

namespace metal {

namespace detail {
struct MatrixAccess;
}

/// Each lane keeps its own two elements. A matrix that is loaded or multiplied is known to all lanes of the
/// simdgroup as well (emulator::SharedMatrix), so that a product takes its operands from there and no lane
/// has to wait for another.
template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "simdgroup matrices are 8 x 8");
  static_assert(Floating<T>, "simdgroup matrices hold float, half or bfloat");
  using storage_type = vec<T, 2>;

  simdgroup_matrix() = default;
  /// Zero but for the diagonal.
  explicit simdgroup_matrix(T diagonal) : elements_(T(0.0f)) {
    const uint2 at = position();
    if (at.y == at.x) elements_[0] = diagonal;
    if (at.y == at.x + 1) elements_[1] = diagonal;
  }
  simdgroup_matrix(const simdgroup_matrix& other) : elements_(other.elements_), sequence_(other.sequence_) {}
  simdgroup_matrix& operator=(const simdgroup_matrix& other) {
    elements_ = other.elements_;
    sequence_ = exposed_ ? 0 : other.sequence_;
    return *this;
  }

  /// From here on the elements may change at any time through the reference.
  storage_type& thread_elements() {
    exposed_ = true;
    sequence_ = 0;
    return elements_;
  }
  const storage_type& thread_elements() const { return elements_; }

  /// (column, row) of the first of this lane's two elements.
  static uint2 position() { return position_of(emulator::current_launch->lane()); }
  static uint2 position_of(uint lane) {
    const uint quad = lane / 4;
    return uint2((quad & 2) * 2 + lane % 2 * 2, (quad & 4) + lane / 2 % 4);
  }

 private:
  friend detail::MatrixAccess;
  storage_type elements_;
  bool exposed_ = false;
  mutable std::uint64_t sequence_ = 0;  // of the shared matrix with the same elements; 0 if there is none
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

namespace detail {

/// What the operations below see of a matrix.
struct MatrixAccess {
  template <class T>
  static const vec<T, 2>& elements(const simdgroup_matrix<T, 8, 8>& m) {
    return m.elements_;
  }
  template <class T>
  static void set(simdgroup_matrix<T, 8, 8>& m, const vec<T, 2>& elements, std::uint64_t sequence = 0) {
    m.elements_ = elements;
    m.sequence_ = m.exposed_ ? 0 : sequence;
  }
  template <class T>
  static const emulator::SharedMatrix* shared(const simdgroup_matrix<T, 8, 8>& m) {
    return emulator::current_launch->operand(m.sequence_);
  }
  /// Gives this lane's elements to a new shared matrix, which is whole when all lanes have met.
  template <class T>
  static const emulator::SharedMatrix* give(const simdgroup_matrix<T, 8, 8>& m, const Site& site) {
    bool made = false;
    emulator::SharedMatrix& shared =
        emulator::current_launch->next_operand(static_cast<std::uint64_t>(site.line), site, made);
    const uint2 at = m.position();
    shared.values[at.y * 8 + at.x] = static_cast<float>(m.elements_.x);
    shared.values[at.y * 8 + at.x + 1] = static_cast<float>(m.elements_.y);
    if (!m.exposed_) m.sequence_ = shared.sequence;
    return &shared;
  }
};

inline std::uint64_t signature_of(std::uintptr_t address, ulong stride, const ulong2& origin, bool transpose,
                                  const Site& site) {
  std::uint64_t value = address;
  for (const std::uint64_t part :
       {stride, origin.x, origin.y, static_cast<ulong>(site.line) * 2 + transpose}) {
    value = (value ^ part) * 0x9e3779b97f4a7c15u;
  }
  return value;
}

inline void need_all_lanes(const Site& site) {
  emulator::Launch& launch = *emulator::current_launch;
  if (!launch.simdgroup_is_full()) [[unlikely]] {
    launch.fault("operations on simdgroup matrices need a simdgroup of 32 lanes; line " +
                 std::to_string(site.line));
  }
}

/// The 8 x 8 block at row origin.y and column origin.x of memory with `stride` elements per row.
template <class T, emulator::Space S>
void load_block(float* out, const emulator::Pointer<S, const T>& source, ulong stride, const ulong2& origin,
                bool transpose) {
  for (uint row = 0; row < 8; ++row) {
    const emulator::Pointer<S, const T> first = source + ((origin.y + row) * stride + origin.x);
    const T* line = &*first;
    static_cast<void>(first[7]);
    if (first.region()->traffic != nullptr) {
      // The first and the last element of the row are counted.
      first.region()->traffic->accesses += 6;
      first.region()->traffic->bytes += 6 * sizeof(T);
    }
    for (uint column = 0; column < 8; ++column)
      out[transpose ? column * 8 + row : row * 8 + column] = static_cast<float>(line[column]);
  }
}

template <class T>
void count_matrix_load(std::uintptr_t address, ulong stride, const ulong2& origin) {
  std::array<std::uintptr_t, 64> words;
  for (uint i = 0; i < 64; ++i)
    words[i] = (address + ((origin.y + i / 8) * stride + origin.x + i % 8) * sizeof(T)) / 4;
  emulator::current_launch->count_matrix_load(words);
}

/// out = a b, each 8 x 8 row-major.
void multiply_8x8(const float* a, const float* b, float* out);

/// This lane's two elements of a b.
template <class A, class B>
float2 matrix_product(const simdgroup_matrix<A, 8, 8>& a, const simdgroup_matrix<B, 8, 8>& b,
                      const Site& site) {
  emulator::Launch& launch = *emulator::current_launch;
  need_all_lanes(site);
  const emulator::SharedMatrix* left = MatrixAccess::shared(a);
  const emulator::SharedMatrix* right = MatrixAccess::shared(b);
  if (left == nullptr || right == nullptr) {
    if (left == nullptr) left = MatrixAccess::give(a, site);
    if (right == nullptr) right = MatrixAccess::give(b, site);
    launch.meet_simdgroup("simdgroup_multiply", site, 0);
  }
  bool made = false;
  emulator::SharedMatrix& product = launch.next_product(
      left->sequence * 31 + right->sequence * 17 + static_cast<std::uint64_t>(site.line), site, made);
  if (!made) multiply_8x8(left->values.data(), right->values.data(), product.values.data());
  const uint2 at = a.position();
  return float2(product.values[at.y * 8 + at.x], product.values[at.y * 8 + at.x + 1]);
}

}  // namespace detail

template <class T, int Columns, int Rows = Columns>
simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Columns, Rows> out;
  detail::MatrixAccess::set(out, vec<T, 2>(value));
  return out;
}

/// `elements_per_row` is the stride between rows in memory, in elements; `origin` is (column, row) of the
/// block in it.
template <class T, emulator::Space S>
void simdgroup_load(simdgroup_matrix<T, 8, 8>& m,
                    const emulator::Pointer<S, const std::type_identity_t<T>>& source,
                    ulong elements_per_row = 8, ulong2 origin = ulong2(0ul), bool transpose = false,
                    detail::Site site = detail::Site::here()) {
  detail::need_all_lanes(site);
  bool made = false;
  emulator::SharedMatrix& shared = emulator::current_launch->next_operand(
      detail::signature_of(source.address(), elements_per_row, origin, transpose, site), site, made);
  if (!made) {
    detail::load_block<T>(shared.values.data(), source, elements_per_row, origin, transpose);
    if (S == emulator::Space::Threadgroup && emulator::current_launch->counts_traffic())
      detail::count_matrix_load<T>(source.address(), elements_per_row, origin);
  }
  const uint2 at = m.position();
  const float* mine = &shared.values[at.y * 8 + at.x];
  detail::MatrixAccess::set(m, vec<T, 2>(static_cast<T>(mine[0]), static_cast<T>(mine[1])), shared.sequence);
}

template <class T, emulator::Space S>
void simdgroup_store(const simdgroup_matrix<T, 8, 8>& m, const emulator::Pointer<S, T>& target,
                     ulong elements_per_row = 8, ulong2 origin = ulong2(0ul), bool transpose = false,
                     detail::Site site = detail::Site::here()) {
  detail::need_all_lanes(site);
  emulator::current_launch->note_collective(
      detail::signature_of(target.address(), elements_per_row, origin, transpose, site));
  const uint2 at = m.position();
  const vec<T, 2>& elements = detail::MatrixAccess::elements(m);
  for (uint i = 0; i < 2; ++i) {
    const ulong row = transpose ? at.x + i : at.y, column = transpose ? at.y : at.x + i;
    target[(origin.y + row) * elements_per_row + origin.x + column] = elements[i];
  }
}

/// d = a b
template <class D, class A, class B>
void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                        const simdgroup_matrix<B, 8, 8>& b, detail::Site site = detail::Site::here()) {
  const float2 product = detail::matrix_product(a, b, site);
  detail::MatrixAccess::set(d, vec<D, 2>(D(product.x), D(product.y)));
}
/// d = a b + c
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                   const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<C, 8, 8>& c,
                                   detail::Site site = detail::Site::here()) {
  const float2 product = detail::matrix_product(a, b, site);
  const vec<C, 2>& before = detail::MatrixAccess::elements(c);
  detail::MatrixAccess::set(
      d, vec<D, 2>(D(product.x + static_cast<float>(before.x)), D(product.y + static_cast<float>(before.y))));
}
template <class T>
simdgroup_matrix<T, 8, 8> operator*(const simdgroup_matrix<T, 8, 8>& a, const simdgroup_matrix<T, 8, 8>& b) {
  simdgroup_matrix<T, 8, 8> out;
  simdgroup_multiply(out, a, b);
  return out;
}

}  // namespace metal
