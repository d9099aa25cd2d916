#pragma once

#include <cstdint>

#include <candela/core/dtype.h>

namespace candela::metal::objc {

/// The MPSDataType of a dtype that MPS matrices can hold: f32, f16, bf16, i32, i64, u8. Throws Unsupported
/// for f64.
std::uint32_t to_mps_data_type(DType dtype);

/// Inverse of to_mps_data_type; UInt32 reads as i32. Throws Unsupported for others.
DType from_mps_data_type(std::uint32_t type);

}  // namespace candela::metal::objc
