#include "backend/metal/objc/data_type.h"

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include <candela/core/error.h>

namespace candela::metal::objc {

// Where the headers are Apple's, this is what pins the numbers that the stand-in repeats.
static_assert(MPSDataTypeFloat32 == 268435488 && MPSDataTypeFloat16 == 268435472);
static_assert(MPSDataTypeInt32 == 536870944 && MPSDataTypeUInt32 == 32 && MPSDataTypeUInt8 == 8);

std::uint32_t to_mps_data_type(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return MPSDataTypeFloat32;
    case DType::F16:
      return MPSDataTypeFloat16;
    case DType::BF16:
      // bfloat16 is float16 with the alternate encoding; older SDKs lack its name.
      return static_cast<std::uint32_t>(MPSDataTypeAlternateEncodingBit) |
             static_cast<std::uint32_t>(MPSDataTypeFloat16);
    case DType::I32:
      return MPSDataTypeInt32;
    case DType::I64:
      return static_cast<std::uint32_t>(MPSDataTypeSignedBit) | 64U;
    case DType::U8:
      return MPSDataTypeUInt8;
    case DType::F64:
      break;
  }
  throw Unsupported(fmt::format("metal: no MPS data type for {}", to_string(dtype)));
}

DType from_mps_data_type(std::uint32_t type) {
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U8}) {
    if (to_mps_data_type(dtype) == type) return dtype;
  }
  if (type == MPSDataTypeUInt32) return DType::I32;
  throw Unsupported(fmt::format("metal: no dtype for MPS data type {:#x}", type));
}

}  // namespace candela::metal::objc
