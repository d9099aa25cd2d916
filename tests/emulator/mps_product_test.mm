// MPS products and matrices against plain loops in f64, and what the stand-in refuses.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <thread>

#include "mps_math.h"
#include "support.h"

namespace emulator_test {
namespace {

using MpsProduct = EmulatorTest;

TEST_F(MpsProduct, DataTypesAreApples) {
  EXPECT_EQ(static_cast<uint32_t>(MPSDataTypeFloat32), 268435488U);
  EXPECT_EQ(static_cast<uint32_t>(MPSDataTypeFloat16), 268435472U);
  EXPECT_EQ(static_cast<uint32_t>(MPSDataTypeInt32), 536870944U);
  EXPECT_EQ(static_cast<uint32_t>(MPSDataTypeInt8), 536870920U);
  EXPECT_EQ(static_cast<uint32_t>(MPSDataTypeUInt32), 32U);
  EXPECT_EQ(static_cast<uint32_t>(MPSDataTypeUInt8), 8U);
  EXPECT_EQ(static_cast<uint32_t>(MPSDataTypeBFloat16), 0x90000010U);
  EXPECT_TRUE(MPSSupportsMTLDevice(device));
  EXPECT_FALSE(MPSSupportsMTLDevice(nil));
}

TEST_F(MpsProduct, HalfConversionsRoundToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = emulator::float_of_half(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(emulator::float_of_half(emulator::half_of_float(value))));
    } else {
      ASSERT_EQ(emulator::half_of_float(value), half);
    }
  }
  EXPECT_EQ(emulator::half_of_float(1.0F + 0x1p-11F), 0x3c00);      // a tie, down to even
  EXPECT_EQ(emulator::half_of_float(1.0F + 3 * 0x1p-11F), 0x3c02);  // a tie, up to even
  EXPECT_EQ(emulator::half_of_float(65519.0F), 0x7bff);
  EXPECT_EQ(emulator::half_of_float(65520.0F), 0x7c00);
  EXPECT_EQ(emulator::half_of_float(0x1p-25F), 0x0000);
  EXPECT_EQ(emulator::half_of_float(0x1.8p-25F), 0x0001);
  EXPECT_EQ(emulator::half_of_float(-std::numeric_limits<float>::infinity()), 0xfc00);
}

struct ProductCase {
  NSUInteger m, n, k;
  bool transpose_left, transpose_right;
  double alpha, beta;
  NSUInteger batches;
};

/// op(A) op(B) in f64; element (r, c) of a packed matrix or of its transpose.
double reference(const ProductCase& c, const std::vector<float>& a, const std::vector<float>& b,
                 NSUInteger batch, NSUInteger row, NSUInteger column) {
  double sum = 0;
  for (NSUInteger i = 0; i < c.k; ++i) {
    const float left = a[batch * c.m * c.k + (c.transpose_left ? i * c.m + row : row * c.k + i)];
    const float right = b[batch * c.k * c.n + (c.transpose_right ? column * c.k + i : i * c.n + column)];
    sum += static_cast<double>(left) * right;
  }
  return sum;
}

TEST_F(MpsProduct, ProductsMatchPlainLoops) {
  const ProductCase cases[] = {{1, 1, 1, false, false, 1, 0, 1},     {2, 3, 4, false, false, 1, 0, 1},
                               {5, 7, 3, true, false, 1, 0, 1},      {16, 16, 16, false, true, 2, 0, 1},
                               {17, 33, 65, true, true, -0.5, 1, 1}, {64, 100, 300, false, false, 1, 2, 1},
                               {3, 5, 600, false, true, 1, 0, 4},    {70, 1, 31, true, false, 0.25, -1, 2}};
  for (const ProductCase& c : cases) {
    @autoreleasepool {
      const auto a = random_floats(c.batches * c.m * c.k, 1), b = random_floats(c.batches * c.k * c.n, 2);
      const auto start = random_floats(c.batches * c.m * c.n, 3);
      id<MTLBuffer> out = buffer_of(start);
      MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                           transposeLeft:c.transpose_left
                                                                          transposeRight:c.transpose_right
                                                                              resultRows:c.m
                                                                           resultColumns:c.n
                                                                         interiorColumns:c.k
                                                                                   alpha:c.alpha
                                                                                    beta:c.beta] autorelease];
      MPSMatrix* left = c.transpose_left ? matrix(buffer_of(a), c.k, c.m, MPSDataTypeFloat32, c.batches)
                                         : matrix(buffer_of(a), c.m, c.k, MPSDataTypeFloat32, c.batches);
      MPSMatrix* right = c.transpose_right ? matrix(buffer_of(b), c.n, c.k, MPSDataTypeFloat32, c.batches)
                                           : matrix(buffer_of(b), c.k, c.n, MPSDataTypeFloat32, c.batches);
      id<MTLCommandBuffer> work = command_buffer();
      [kernel encodeToCommandBuffer:work
                         leftMatrix:left
                        rightMatrix:right
                       resultMatrix:matrix(out, c.m, c.n, MPSDataTypeFloat32, c.batches)];
      finish(work);
      for (NSUInteger batch = 0; batch < c.batches; ++batch)
        for (NSUInteger row = 0; row < c.m; ++row)
          for (NSUInteger column = 0; column < c.n; ++column) {
            const NSUInteger at = (batch * c.m + row) * c.n + column;
            const double expected = c.alpha * reference(c, a, b, batch, row, column) + c.beta * start[at];
            ASSERT_NEAR(floats(out)[at], expected, 2e-6 * static_cast<double>(c.k))
                << c.m << "x" << c.n << "x" << c.k;
          }
    }
  }
}

TEST_F(MpsProduct, ProductIsFastEnough) {
  const auto a = random_floats(512 * 256, 1), b = random_floats(256 * 512, 2);
  id<MTLBuffer> out = buffer(512 * 512 * 4);
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:512
                                                                       resultColumns:512
                                                                     interiorColumns:256] autorelease];
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    id<MTLCommandBuffer> work = command_buffer();
    [kernel encodeToCommandBuffer:work
                       leftMatrix:matrix(buffer_of(a), 512, 256)
                      rightMatrix:matrix(buffer_of(b), 256, 512)
                     resultMatrix:matrix(out, 512, 512)];
    finish(work);
    best = std::min(best, [work GPUEndTime] - [work GPUStartTime]);
  }
  const ProductCase shape{512, 512, 256, false, false, 1, 0, 1};
  double largest = 0, error = 0;
  for (NSUInteger row = 0; row < 512; row += 7)
    for (NSUInteger column = 0; column < 512; ++column) {
      const double expected = reference(shape, a, b, 0, row, column);
      largest = std::max(largest, std::abs(expected));
      error = std::max(error, std::abs(expected - floats(out)[row * 512 + column]));
    }
  EXPECT_LT(error, 1e-5 * largest);
  RecordProperty("milliseconds", std::to_string(best * 1e3));
  std::printf("512x256x512 f32: %.2f ms\n", best * 1e3);
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
  EXPECT_LT(best, 0.25) << "milliseconds are expected; this is a bound for a busy machine";
#endif
}

TEST_F(MpsProduct, ProductReadsStridesOffsetsAndOrigins) {
  // A is 2 x 3 at row 1, column 2 of a 4 x 8 matrix that starts 64 bytes into its buffer; B and C likewise.
  std::vector<float> values(16 + 32);
  std::iota(values.begin(), values.end(), 0.0F);
  id<MTLBuffer> data = buffer_of(values), out = buffer_of(std::vector<float>(32, -1));
  MPSMatrixDescriptor* layout = [MPSMatrixDescriptor matrixDescriptorWithRows:4
                                                                      columns:6
                                                                     rowBytes:32
                                                                     dataType:MPSDataTypeFloat32];
  MPSMatrix* a = [[[MPSMatrix alloc] initWithBuffer:data offset:64 descriptor:layout] autorelease];
  MPSMatrix* c = [[[MPSMatrix alloc] initWithBuffer:out descriptor:layout] autorelease];
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:2
                                                                       resultColumns:2
                                                                     interiorColumns:3] autorelease];
  kernel.leftMatrixOrigin = MTLOriginMake(1, 2, 0);
  kernel.rightMatrixOrigin = MTLOriginMake(0, 1, 0);
  kernel.resultMatrixOrigin = MTLOriginMake(2, 3, 0);
  id<MTLCommandBuffer> work = command_buffer();
  [kernel encodeToCommandBuffer:work leftMatrix:a rightMatrix:a resultMatrix:c];
  finish(work);
  const auto element = [&](int row, int column) {
    return values[static_cast<std::size_t>(16 + row * 8 + column)];
  };
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 8; ++j) {
      float expected = -1;
      if (i >= 2 && j >= 3 && j < 5) {
        expected = 0;
        for (int step = 0; step < 3; ++step)
          expected += element(1 + i - 2, 2 + step) * element(step, 1 + j - 3);
      }
      EXPECT_EQ(floats(out)[i * 8 + j], i < 4 && expected != -1 ? expected : -1) << i << "," << j;
    }
}

TEST_F(MpsProduct, HalfProductRoundsOnce) {
  const NSUInteger n = 24;
  const auto a = random_floats(n * n, 1), b = random_floats(n * n, 2);
  id<MTLBuffer> left = buffer(n * n * 2), right = buffer(n * n * 2), out = buffer(n * n * 2);
  auto* a16 = static_cast<std::uint16_t*>([left contents]);
  auto* b16 = static_cast<std::uint16_t*>([right contents]);
  for (NSUInteger i = 0; i < n * n; ++i) {
    a16[i] = emulator::half_of_float(a[i]);
    b16[i] = emulator::half_of_float(b[i]);
  }
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:n
                                                                       resultColumns:n
                                                                     interiorColumns:n] autorelease];
  id<MTLCommandBuffer> work = command_buffer();
  [kernel encodeToCommandBuffer:work
                     leftMatrix:matrix(left, n, n, MPSDataTypeFloat16)
                    rightMatrix:matrix(right, n, n, MPSDataTypeFloat16)
                   resultMatrix:matrix(out, n, n, MPSDataTypeFloat16)];
  finish(work);
  const auto* c16 = static_cast<const std::uint16_t*>([out contents]);
  for (NSUInteger row = 0; row < n; ++row)
    for (NSUInteger column = 0; column < n; ++column) {
      double sum = 0;
      for (NSUInteger i = 0; i < n; ++i)
        sum += static_cast<double>(emulator::float_of_half(a16[row * n + i])) *
               emulator::float_of_half(b16[i * n + column]);
      EXPECT_NEAR(emulator::float_of_half(c16[row * n + column]), sum, 1e-5 + std::abs(sum) * 0x1.1p-11);
    }
}

TEST_F(MpsProduct, BatchStartAndSizeSelectMatrices) {
  const auto a = random_floats(3 * 4, 1), b = random_floats(3 * 4, 2);
  id<MTLBuffer> out = buffer_of(std::vector<float>(12, 5));
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:2
                                                                       resultColumns:2
                                                                     interiorColumns:2] autorelease];
  kernel.batchStart = 1;
  kernel.batchSize = 1;
  MPSMatrix* left = matrix(buffer_of(a), 2, 2, MPSDataTypeFloat32, 3);
  MPSMatrix* right = matrix(buffer_of(b), 2, 2, MPSDataTypeFloat32, 3);
  MPSMatrix* result = matrix(out, 2, 2, MPSDataTypeFloat32, 3);
  id<MTLCommandBuffer> work = command_buffer();
  [kernel encodeToCommandBuffer:work leftMatrix:left rightMatrix:right resultMatrix:result];
  kernel.batchSize = 3;
  expect_refusal("batchStart (1) + batchSize (3) must be <=", [&] {
    [kernel encodeToCommandBuffer:work leftMatrix:left rightMatrix:right resultMatrix:result];
  });
  finish(work);
  const ProductCase shape{2, 2, 2, false, false, 1, 0, 3};
  for (NSUInteger i = 0; i < 12; ++i)
    EXPECT_NEAR(floats(out)[i], i / 4 == 1 ? reference(shape, a, b, 1, i % 4 / 2, i % 2) : 5, 1e-6);
  MPSMatrixMultiplication* every = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                         resultRows:2
                                                                      resultColumns:2
                                                                    interiorColumns:2] autorelease];
  id<MTLCommandBuffer> next = command_buffer();
  expect_refusal("1 and 3 matrices", [&] {
    [every encodeToCommandBuffer:next
                      leftMatrix:matrix(buffer(16), 2, 2)
                     rightMatrix:right
                    resultMatrix:result];
  });
}

TEST_F(MpsProduct, BetaZeroDoesNotReadTheResult) {
  id<MTLBuffer> out = buffer(16);  // not-a-number
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:2
                                                                       resultColumns:2
                                                                     interiorColumns:2] autorelease];
  id<MTLCommandBuffer> work = command_buffer();
  [kernel encodeToCommandBuffer:work
                     leftMatrix:matrix(buffer_of({1, 2, 3, 4}), 2, 2)
                    rightMatrix:matrix(buffer_of({1, 0, 0, 1}), 2, 2)
                   resultMatrix:matrix(out, 2, 2)];
  finish(work);
  EXPECT_EQ(to_vector(out, 4), (std::vector<float>{1, 2, 3, 4}));
}

TEST_F(MpsProduct, MatrixTimesVector) {
  const auto a = random_floats(5 * 7, 1), x = random_floats(7, 2), start = random_floats(9, 3);
  for (const bool transpose : {false, true}) {
    id<MTLBuffer> out = buffer_of(start);
    MPSMatrixVectorMultiplication* kernel =
        [[[MPSMatrixVectorMultiplication alloc] initWithDevice:device
                                                     transpose:transpose
                                                          rows:5
                                                       columns:7
                                                         alpha:2
                                                          beta:0.5] autorelease];
    kernel.resultMatrixOrigin = MTLOriginMake(3, 0, 0);
    MPSVector* vector = [[[MPSVector alloc]
        initWithBuffer:buffer_of(x)
            descriptor:[MPSVectorDescriptor vectorDescriptorWithLength:7
                                                              dataType:MPSDataTypeFloat32]] autorelease];
    MPSVector* result = [[[MPSVector alloc]
        initWithBuffer:out
            descriptor:[MPSVectorDescriptor vectorDescriptorWithLength:9
                                                              dataType:MPSDataTypeFloat32]] autorelease];
    id<MTLCommandBuffer> work = command_buffer();
    [kernel encodeToCommandBuffer:work
                      inputMatrix:transpose ? matrix(buffer_of(a), 7, 5) : matrix(buffer_of(a), 5, 7)
                      inputVector:vector
                     resultVector:result];
    kernel.resultMatrixOrigin = MTLOriginMake(5, 0, 0);
    expect_refusal("columns in result vector exceeds", [&] {
      [kernel encodeToCommandBuffer:work
                        inputMatrix:matrix(buffer(140), transpose ? 7 : 5, transpose ? 5 : 7)
                        inputVector:vector
                       resultVector:result];
    });
    finish(work);
    for (NSUInteger row = 0; row < 9; ++row) {
      double expected = start[row];
      if (row >= 3 && row < 8) {
        double sum = 0;
        for (NSUInteger i = 0; i < 7; ++i) sum += a[transpose ? i * 5 + row - 3 : (row - 3) * 7 + i] * x[i];
        expected = 2 * sum + 0.5 * start[row];
      }
      EXPECT_NEAR(floats(out)[row], expected, 1e-5);
    }
  }
}

TEST_F(MpsProduct, RefusesProductsThatDoNotFit) {
  id<MTLCommandBuffer> work = command_buffer();
  const auto encode = [&](NSUInteger m, NSUInteger n, NSUInteger k, MPSMatrix* a, MPSMatrix* b,
                          MPSMatrix* c) {
    MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                            resultRows:m
                                                                         resultColumns:n
                                                                       interiorColumns:k] autorelease];
    [kernel encodeToCommandBuffer:work leftMatrix:a rightMatrix:b resultMatrix:c];
  };
  MPSMatrix* square = matrix(buffer(64), 4, 4);
  MPSMatrix* other = matrix(buffer(64), 4, 4);
  MPSMatrix* out = matrix(buffer(64), 4, 4);
  encode(4, 4, 4, square, other, out);
  expect_refusal("requested rows in left input matrix exceeds left input matrix size",
                 [&] { encode(5, 4, 4, square, other, matrix(buffer(80), 5, 4)); });
  expect_refusal("requested columns in left input matrix",
                 [&] { encode(4, 4, 5, square, matrix(buffer(80), 5, 4), out); });
  expect_refusal("requested rows in right input matrix",
                 [&] { encode(4, 4, 5, matrix(buffer(80), 4, 5), other, out); });
  expect_refusal("requested columns in right input matrix",
                 [&] { encode(4, 5, 4, square, other, matrix(buffer(80), 4, 5)); });
  expect_refusal("requested rows in result matrix",
                 [&] { encode(4, 4, 4, square, other, matrix(buffer(48), 3, 4)); });
  expect_refusal("requested columns in result matrix",
                 [&] { encode(4, 4, 4, square, other, matrix(buffer(48), 4, 3)); });
  expect_refusal("overlaps an input matrix", [&] { encode(4, 4, 4, square, other, square); });
  expect_refusal("Input data types must match",
                 [&] { encode(4, 4, 4, square, matrix(buffer(32), 4, 4, MPSDataTypeFloat16), out); });
  expect_refusal("Unsupported data types",
                 [&] { encode(4, 4, 4, square, other, matrix(buffer(32), 4, 4, MPSDataTypeFloat16)); });
  MPSMatrix* bf16 = matrix(buffer(32), 4, 4, MPSDataTypeBFloat16);
  expect_refusal("Unsupported data types", [&] { encode(4, 4, 4, bf16, bf16, out); });
  MPSMatrix* i32 = matrix(buffer(64), 4, 4, MPSDataTypeInt32);
  expect_refusal("Unsupported data types", [&] { encode(4, 4, 4, i32, i32, out); });
  expect_refusal("leftMatrix may not be nil", [&] { encode(4, 4, 4, nil, other, out); });
  expect_refusal("every size must be > 0", [&] { encode(0, 4, 4, square, other, out); });
  finish(work);
}

TEST_F(MpsProduct, OverlapIsJudgedByRows) {
  // Left, right and result are column bands of one buffer: their spans cross, their elements do not.
  id<MTLBuffer> bands = buffer_of(random_floats(4 * 12, 1));
  MPSMatrixDescriptor* layout = [MPSMatrixDescriptor matrixDescriptorWithRows:4
                                                                      columns:4
                                                                     rowBytes:48
                                                                     dataType:MPSDataTypeFloat32];
  const auto band = [&](NSUInteger offset) {
    return [[[MPSMatrix alloc] initWithBuffer:bands offset:offset descriptor:layout] autorelease];
  };
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:4
                                                                       resultColumns:4
                                                                     interiorColumns:4] autorelease];
  id<MTLCommandBuffer> work = command_buffer();
  [kernel encodeToCommandBuffer:work leftMatrix:band(0) rightMatrix:band(16) resultMatrix:band(32)];
  expect_refusal("overlaps", [&] {
    [kernel encodeToCommandBuffer:work leftMatrix:band(0) rightMatrix:band(16) resultMatrix:band(28)];
  });
  finish(work);
}

TEST_F(MpsProduct, RefusesWrongDescriptors) {
  const auto describe = [](NSUInteger rows, NSUInteger columns, NSUInteger matrices, NSUInteger row_bytes,
                           NSUInteger matrix_bytes, MPSDataType type) {
    return [MPSMatrixDescriptor matrixDescriptorWithRows:rows
                                                 columns:columns
                                                matrices:matrices
                                                rowBytes:row_bytes
                                             matrixBytes:matrix_bytes
                                                dataType:type];
  };
  describe(4, 4, 2, 16, 64, MPSDataTypeFloat32);
  expect_refusal("rowBytes (18) must be a multiple of the element size",
                 [&] { describe(4, 4, 1, 18, 72, MPSDataTypeFloat32); });
  expect_refusal("rowBytes (12) must be at least columns",
                 [&] { describe(4, 4, 1, 12, 48, MPSDataTypeFloat32); });
  expect_refusal("matrixBytes (72) must be a multiple of rowBytes",
                 [&] { describe(4, 4, 2, 16, 72, MPSDataTypeFloat32); });
  expect_refusal("matrixBytes (48) must be at least rows",
                 [&] { describe(4, 4, 2, 16, 48, MPSDataTypeFloat32); });
  expect_refusal("must be > 0", [&] { describe(0, 4, 1, 16, 64, MPSDataTypeFloat32); });
  expect_refusal("is not valid for a matrix",
                 [&] { describe(4, 4, 1, 16, 64, static_cast<MPSDataType>(5)); });
  expect_refusal("below 2^48", [&] { describe(NSUInteger{1} << 60, 4, 1, 16, 64, MPSDataTypeFloat32); });
  MPSMatrixDescriptor* changed = describe(4, 4, 1, 16, 64, MPSDataTypeFloat32);
  changed.columns = 5;
  id<MTLBuffer> data = buffer(80);
  expect_refusal("rowBytes (16) must be at least columns",
                 [&] { [[MPSMatrix alloc] initWithBuffer:data descriptor:changed]; });
  expect_refusal("vectorBytes", [&] {
    [MPSVectorDescriptor vectorDescriptorWithLength:4 vectors:2 vectorBytes:12 dataType:MPSDataTypeFloat32];
  });
  expect_refusal("must be > 0",
                 [&] { [MPSVectorDescriptor vectorDescriptorWithLength:0 dataType:MPSDataTypeFloat32]; });
}

TEST_F(MpsProduct, RefusesBuffersThatAreTooSmall) {
  MPSMatrixDescriptor* layout = [MPSMatrixDescriptor matrixDescriptorWithRows:3
                                                                      columns:2
                                                                     matrices:2
                                                                     rowBytes:16
                                                                  matrixBytes:48
                                                                     dataType:MPSDataTypeFloat32];
  // 1 * 48 + 2 * 16 + 2 * 4 = 88: the last row needs no padding.
  id<MTLBuffer> fits = buffer(88), small = buffer(84);
  [[[MPSMatrix alloc] initWithBuffer:fits descriptor:layout] autorelease];
  expect_refusal("buffer is too small: its length is 84, the descriptor needs 88",
                 [&] { [[MPSMatrix alloc] initWithBuffer:small descriptor:layout]; });
  expect_refusal("needs 88 bytes from offset 4",
                 [&] { [[MPSMatrix alloc] initWithBuffer:fits offset:4 descriptor:layout]; });
  expect_refusal("offset (2) must be a multiple",
                 [&] { [[MPSMatrix alloc] initWithBuffer:fits offset:2 descriptor:layout]; });
  id<MTLBuffer> no_buffer = nil;
  MPSMatrixDescriptor* no_layout = nil;
  expect_refusal("buffer may not be nil",
                 [&] { [[MPSMatrix alloc] initWithBuffer:no_buffer descriptor:layout]; });
  expect_refusal("descriptor may not be nil",
                 [&] { [[MPSMatrix alloc] initWithBuffer:fits descriptor:no_layout]; });
  MPSVectorDescriptor* vector = [MPSVectorDescriptor vectorDescriptorWithLength:30
                                                                       dataType:MPSDataTypeFloat32];
  expect_refusal("buffer is too small", [&] { [[MPSVector alloc] initWithBuffer:fits descriptor:vector]; });
}

TEST_F(MpsProduct, KernelsAreCopiedAndCounted) {
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:2
                                                                       resultColumns:2
                                                                     interiorColumns:2] autorelease];
  kernel.batchStart = 3;
  MPSMatrixMultiplication* copy = [[kernel copy] autorelease];
  EXPECT_EQ(copy.batchStart, 3U);
  EXPECT_EQ(copy.batchSize, NSUIntegerMax);
  EXPECT_EQ(emulator::counters().mps_kernels, 2U);
  EXPECT_EQ(emulator::live_objects("MPSMatrixMultiplication"), 2);
  expect_refusal("never skips validation", [&] { kernel.options = MPSKernelOptionsSkipAPIValidation; });
}

TEST_F(MpsProduct, OneKernelObjectIsNotForTwoThreadsAtOnce) {
  // Encoding many rows takes long enough for two threads to meet in it.
  id<MTLBuffer> data = buffer(4 * 4 * 60000), out = buffer(4 * 4 * 60000);
  MPSMatrixMultiplication* kernel = [[[MPSMatrixMultiplication alloc] initWithDevice:device
                                                                          resultRows:4
                                                                       resultColumns:1
                                                                     interiorColumns:4] autorelease];
  MPSMatrix* left = matrix(data, 4, 4, MPSDataTypeFloat32, 15000);
  MPSMatrix* right = matrix(data, 4, 1, MPSDataTypeFloat32, 15000);
  MPSMatrix* result = matrix(out, 4, 1, MPSDataTypeFloat32, 15000);
  std::atomic<bool> refused{false};
  id<MTLCommandQueue> shared_queue = queue;
  const auto encode = [&] {
    for (int i = 0; i < 400 && !refused; ++i) {
      @autoreleasepool {
        try {
          [kernel encodeToCommandBuffer:[shared_queue commandBuffer]
                             leftMatrix:left
                            rightMatrix:right
                           resultMatrix:result];
        } catch (const emulator::ValidationError& error) {
          if (std::string(error.what()).find("two threads") != std::string::npos) refused = true;
        }
      }
    }
  };
  std::thread other(encode);
  encode();
  other.join();
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace emulator_test
