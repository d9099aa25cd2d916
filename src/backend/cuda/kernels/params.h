#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

/// What kernels are given: plain data. Nothing of the library is included here or in the .cu files, so that
/// nvcc compiles kernels alone and a changed contract of the ops compiles no kernel anew.
namespace candela::cuda {

inline constexpr int kMaxDims = 6;

/// The numbers of candela::DType; operand.h checks that they agree.
enum class Type : std::uint8_t { F32, BF16, F16, I64, I32, U8, F64 };

/// A strided loop over N operands of one shape: `outer` innermost loops of `inner` elements.
template <int N>
struct LoopParams {
  int rank = 0;
  std::int64_t inner = 0, outer = 0;
  std::int64_t shape[kMaxDims] = {};
  /// in elements
  std::int64_t strides[N][kMaxDims] = {};
  void* data[N] = {};
};

/// Rows along one dimension of N operands: `count` rows of `length` elements, `step` apart.
template <int N>
struct RowParams {
  std::int64_t count = 0, length = 0;
  /// of the dimensions that count the rows
  int rank = 0;
  std::int64_t shape[kMaxDims] = {};
  std::int64_t strides[N][kMaxDims] = {};
  std::int64_t step[N] = {};
  void* data[N] = {};
  /// unit steps, 16-byte rows: 16-byte accesses are possible
  bool packed = false;
};

/// A matrix [rows, columns] in memory.
struct MatrixParams {
  void* data = nullptr;
  Type type = Type::F32;
  std::int64_t rows = 0, columns = 0;
  std::int64_t row_stride = 0, column_stride = 0;
};

/// What a kernel found wrong with its data: written once, read by the host at the next synchronisation.
struct Fault {
  /// 0: none, else a FaultCode
  int code = 0;
  int unused = 0;
  std::int64_t value = 0, bound = 0;
};
enum FaultCode : int { kNoFault, kEmbeddingId, kGatherIndex, kTarget, kPosition };

/// Device properties that launchers look at.
struct DeviceLimits {
  int multiprocessors = 132;
  int major = 9, minor = 0;
  /// that a block may ask for, in bytes
  int shared_memory = 48 << 10;
};

}  // namespace candela::cuda
