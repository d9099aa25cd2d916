#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <candela/core/random.h>
#include <candela/ops/copy.h>

#include "cases/op_case.h"

namespace candela::cases {
namespace {

/// FNV-1a: the same seed for the same name on every platform.
std::uint64_t hash_name(std::string_view text, std::uint64_t salt) {
  std::uint64_t hash = 0xcbf29ce484222325U ^ salt;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

double draw_normal(Generator& generator) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - static_cast<double>(generator.next_uniform())));
  return radius * std::cos(2.0 * std::numbers::pi * static_cast<double>(generator.next_uniform()));
}

double mixed_column(std::int64_t row, std::int64_t column, double normal) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  switch (column % 5) {
    case 1:
      return row < 40 ? -kInfinity : normal;
    case 2:
      return -kInfinity;
    case 3:
      return row == 100 ? std::numeric_limits<double>::quiet_NaN() : normal;
    case 4:
      return row == 100 ? kInfinity : normal;
    default:
      return normal;
  }
}

double draw(const Input& input, std::int64_t index, Generator& generator) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::int64_t width = std::max<std::int64_t>(input.shape.rank() > 0 ? input.shape.back() : 1, 1);
  const double normal = draw_normal(generator) * input.scale;
  const std::uint32_t lot = generator.next_bits() % 16;
  switch (input.fill) {
    case Fill::Normal:
      return normal;
    case Fill::Uniform:
      return input.low + (input.high - input.low) * static_cast<double>(generator.next_uniform());
    case Fill::Large:
      return normal * 1e10;
    case Fill::Tiny:
      return normal * 1e-10;
    case Fill::WithNan:
      return lot == 0 || index == 0 ? std::numeric_limits<double>::quiet_NaN() : normal;
    case Fill::WithInfinity:
      return lot == 0 || index == 0 ? kInfinity : (lot == 1 ? -kInfinity : normal);
    case Fill::MaskedRows:
      return (index / width) % 3 == 0 || lot < 4 ? -kInfinity : normal;
    case Fill::MixedColumns:
      return mixed_column(index / width, index % width, normal);
    case Fill::Ties:
      return std::round(normal * 2);
    case Fill::Index:
      return static_cast<double>(generator.next_below(static_cast<std::uint64_t>(input.high)));
  }
  return normal;
}

std::vector<double> draw_all(const Input& input, std::uint64_t seed) {
  Generator generator(seed);
  std::vector<double> values(static_cast<std::size_t>(numel(input.shape)));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = draw(input, static_cast<std::int64_t>(i), generator);
  if (input.arrange == Arrange::Broadcast && input.shape.rank() > 0 && input.shape[0] > 0) {
    const std::size_t row = values.size() / static_cast<std::size_t>(input.shape[0]);
    for (std::size_t i = row; i < values.size(); ++i) values[i] = values[i - row];
  }
  return values;
}

/// A fresh tensor on `device` with the memory layout of `arrange`, uninitialised.
Tensor empty_arranged(const Shape& shape, Arrange arrange, DType dtype, Device device) {
  const int rank = shape.rank();
  if (rank == 0 || arrange == Arrange::Contiguous) return Tensor::empty(shape, dtype, device);
  if (arrange == Arrange::Transposed && rank == 1) arrange = Arrange::Strided;
  Shape wide = shape;
  switch (arrange) {
    case Arrange::Transposed:
      std::swap(wide[rank - 1], wide[rank - 2]);
      return transpose(Tensor::empty(wide, dtype, device), -1, -2);
    case Arrange::Sliced:
      wide[rank - 1] += 3;
      return slice(Tensor::empty(wide, dtype, device), -1, 1, shape[rank - 1] + 1);
    case Arrange::Strided: {
      wide[rank - 1] *= 2;
      const Tensor base = Tensor::empty(wide, dtype, device);
      Layout layout = base.layout();
      layout.shape = shape;
      layout.strides[rank - 1] = 2;
      return base.with_layout(layout);
    }
    case Arrange::Broadcast: {
      wide[0] = std::min<std::int64_t>(wide[0], 1);
      const Tensor base = Tensor::empty(wide, dtype, device);
      Layout layout = base.layout();
      layout.shape = shape;
      layout.strides[0] = 0;
      return base.with_layout(layout);
    }
    case Arrange::Contiguous:
      break;
  }
  return Tensor::empty(shape, dtype, device);
}

/// Of a broadcast tensor, the first row is all there is to write.
void write_arranged(const Tensor& placed, const Tensor& values) {
  if (placed.layout().may_overlap()) {
    copy_(slice(placed, 0, 0, 1), slice(values, 0, 0, 1));
  } else {
    copy_(placed, values);
  }
}

}  // namespace

BuiltInputs build_inputs(const OpCase& op_case, DType dtype, Device device, std::uint64_t salt) {
  BuiltInputs built;
  for (std::size_t i = 0; i < op_case.inputs.size(); ++i) {
    const Input& input = op_case.inputs[i];
    const DType own = input.dtype.value_or(dtype);
    const std::vector<double> values = draw_all(input, hash_name(full_name(op_case), salt * 64 + i));
    const Tensor rounded = cast(Tensor::from_values(values, input.shape), own);
    const Tensor placed = empty_arranged(input.shape, input.arrange, own, device);
    write_arranged(placed, to_device(rounded, device));
    built.device.push_back(placed.detach());
    built.reference.push_back(is_floating(own) ? cast(rounded, DType::F64) : rounded);
  }
  return built;
}

Tensor build_large(const OpCase& op_case, std::size_t index, DType dtype, Device device, std::uint64_t salt) {
  constexpr std::int64_t kTile = 65536;
  const Input& input = op_case.inputs[index];
  const DType own = input.dtype.value_or(dtype);
  Input tile = input;
  tile.shape = {std::min(kTile, numel(input.shape))};
  tile.arrange = Arrange::Contiguous;
  const Tensor values = cast(
      Tensor::from_values(draw_all(tile, hash_name(full_name(op_case), salt * 64 + index)), tile.shape), own);
  const auto* first = static_cast<const std::byte*>(values.storage()->data());
  const std::size_t tile_bytes = static_cast<std::size_t>(values.numel()) * size_of(own);
  std::vector<std::byte> bytes(static_cast<std::size_t>(numel(input.shape)) * size_of(own));
  for (std::size_t at = 0; at < bytes.size(); at += tile_bytes) {
    std::copy_n(first, std::min(tile_bytes, bytes.size() - at),
                bytes.begin() + static_cast<std::ptrdiff_t>(at));
  }
  Tensor plain = Tensor::from_bytes(bytes, input.shape, own, device);
  if (input.arrange == Arrange::Contiguous) return plain;
  const Tensor placed = empty_arranged(input.shape, input.arrange, own, device);
  write_arranged(placed, plain);
  return placed.detach();
}

std::string full_name(const OpCase& op_case) {
  return op_case.op + "." + op_case.name;
}

}  // namespace candela::cases
