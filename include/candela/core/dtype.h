#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

/// Element types of tensors and the two 16-bit floating point formats as storage-only value types.
namespace candela {

/// F64 exists for references and gradient checks: only plain ops (elementwise, reduce, matmul, copy, gather)
/// take it.
enum class DType : std::uint8_t { F32, BF16, F16, I64, I32, U8, F64 };

/// bfloat16: the upper half of an IEEE binary32. Conversion from float rounds to nearest, ties to even; NaN
/// stays NaN.
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    const bool is_nan = (word & 0x7fffffffU) > 0x7f800000U;
    const std::uint32_t rounded = word + 0x7fffU + ((word >> 16U) & 1U);
    bits = static_cast<std::uint16_t>(is_nan ? (word >> 16U) | 0x40U : rounded >> 16U);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U); }
  static BFloat16 from_bits(std::uint16_t bits) {
    BFloat16 result;
    result.bits = bits;
    return result;
  }
};

/// IEEE binary16. Conversion from float rounds to nearest, ties to even; subnormals are kept.
struct Float16 {
  std::uint16_t bits = 0;

  Float16() = default;
  explicit Float16(float value);
  explicit operator float() const;
  static Float16 from_bits(std::uint16_t bits) {
    Float16 result;
    result.bits = bits;
    return result;
  }
};

/// Size of one element in bytes.
std::size_t size_of(DType dtype);

/// "f32", "bf16", "f16", "i64", "i32", "u8", "f64".
std::string_view to_string(DType dtype);

/// Inverse of to_string; also takes the names of config.json ("float32", "bfloat16", "float16"). Throws
/// InvalidArgument.
DType parse_dtype(std::string_view name);

bool is_floating(DType dtype);

/// Maps a C++ element type to its DType.
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType kValue = DType::F32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType kValue = DType::F64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType kValue = DType::BF16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType kValue = DType::F16;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType kValue = DType::I64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType kValue = DType::I32;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType kValue = DType::U8;
};

}  // namespace candela
