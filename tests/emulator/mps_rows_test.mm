// MPS softmax, its logarithm, its gradient and top-k against plain loops in f64, and what the stand-in
// refuses.

#include <algorithm>
#include <cmath>
#include <limits>

#include "support.h"

namespace emulator_test {
namespace {

using MpsRows = EmulatorTest;

TEST_F(MpsRows, SoftmaxAndItsLogarithm) {
  const NSUInteger rows = 5, columns = 37;
  auto x = random_floats(rows * columns, 1);
  for (NSUInteger i = 0; i < columns; ++i)
    x[2 * columns + i] = x[2 * columns + i] * 50 + 1000;  // large values
  x[3 * columns + 4] = -std::numeric_limits<float>::infinity();
  for (NSUInteger i = 0; i < columns; ++i) x[4 * columns + i] = -std::numeric_limits<float>::infinity();
  for (const bool logarithm : {false, true}) {
    id<MTLBuffer> out = buffer(rows * columns * 4);
    MPSMatrixSoftMax* kernel = logarithm ? [[[MPSMatrixLogSoftMax alloc] initWithDevice:device] autorelease]
                                         : [[[MPSMatrixSoftMax alloc] initWithDevice:device] autorelease];
    EXPECT_EQ(kernel.sourceColumns, NSUIntegerMax);
    id<MTLCommandBuffer> work = command_buffer();
    [kernel encodeToCommandBuffer:work
                      inputMatrix:matrix(buffer_of(x), rows, columns)
                     resultMatrix:matrix(out, rows, columns)];
    finish(work);
    for (NSUInteger r = 0; r < 4; ++r) {
      double largest = -INFINITY, sum = 0;
      for (NSUInteger i = 0; i < columns; ++i) largest = std::max<double>(largest, x[r * columns + i]);
      for (NSUInteger i = 0; i < columns; ++i) sum += std::exp(x[r * columns + i] - largest);
      for (NSUInteger i = 0; i < columns; ++i) {
        const double log_value = x[r * columns + i] - largest - std::log(sum);
        const float got = floats(out)[r * columns + i];
        if (logarithm && std::isinf(log_value)) {
          EXPECT_EQ(got, -INFINITY);
        } else {
          EXPECT_NEAR(got, logarithm ? log_value : std::exp(log_value), logarithm ? 1e-4 : 1e-6);
        }
      }
    }
    for (NSUInteger i = 0; i < columns; ++i) EXPECT_TRUE(std::isnan(floats(out)[4 * columns + i]));
  }
}

TEST_F(MpsRows, SoftmaxOfAPartInPlace) {
  const auto x = random_floats(4 * 8, 1);
  id<MTLBuffer> data = buffer_of(x);
  MPSMatrix* values = matrix(data, 4, 8);
  MPSMatrixSoftMax* kernel = [[[MPSMatrixSoftMax alloc] initWithDevice:device] autorelease];
  kernel.sourceRows = 2;
  kernel.sourceColumns = 3;
  kernel.sourceMatrixOrigin = kernel.resultMatrixOrigin = MTLOriginMake(1, 4, 0);
  id<MTLCommandBuffer> work = command_buffer();
  [kernel encodeToCommandBuffer:work inputMatrix:values resultMatrix:values];
  kernel.resultMatrixOrigin = MTLOriginMake(1, 3, 0);
  expect_refusal("overlaps the source matrix without being the same",
                 [&] { [kernel encodeToCommandBuffer:work inputMatrix:values resultMatrix:values]; });
  finish(work);
  for (NSUInteger r = 0; r < 4; ++r) {
    double sum = 0;
    for (NSUInteger i = 4; i < 7; ++i) sum += std::exp(x[r * 8 + i]);
    for (NSUInteger i = 0; i < 8; ++i) {
      const bool inside = r >= 1 && r < 3 && i >= 4 && i < 7;
      EXPECT_NEAR(floats(data)[r * 8 + i], inside ? std::exp(x[r * 8 + i]) / sum : x[r * 8 + i], 1e-6);
    }
  }
}

TEST_F(MpsRows, SoftmaxGradient) {
  const NSUInteger rows = 3, columns = 11;
  const auto x = random_floats(rows * columns, 1), dy = random_floats(rows * columns, 2);
  id<MTLBuffer> y = buffer(rows * columns * 4), dx = buffer(rows * columns * 4);
  MPSMatrixSoftMax* forward = [[[MPSMatrixSoftMax alloc] initWithDevice:device] autorelease];
  MPSMatrixSoftMaxGradient* backward = [[[MPSMatrixSoftMaxGradient alloc] initWithDevice:device] autorelease];
  id<MTLCommandBuffer> work = command_buffer();
  [forward encodeToCommandBuffer:work
                     inputMatrix:matrix(buffer_of(x), rows, columns)
                    resultMatrix:matrix(y, rows, columns)];
  [backward encodeToCommandBuffer:work
                   gradientMatrix:matrix(buffer_of(dy), rows, columns)
              forwardOutputMatrix:matrix(y, rows, columns)
                     resultMatrix:matrix(dx, rows, columns)];
  finish(work);
  for (NSUInteger r = 0; r < rows; ++r) {
    // The loss sum(dy * softmax(x)) in f64, by central differences.
    const auto loss = [&](NSUInteger moved, double by) {
      double sum = 0, total = 0;
      const auto at = [&](NSUInteger i) { return x[r * columns + i] + (i == moved ? by : 0.0); };
      for (NSUInteger i = 0; i < columns; ++i) sum += std::exp(at(i));
      for (NSUInteger i = 0; i < columns; ++i) total += dy[r * columns + i] * std::exp(at(i)) / sum;
      return total;
    };
    for (NSUInteger i = 0; i < columns; ++i)
      EXPECT_NEAR(floats(dx)[r * columns + i], (loss(i, 1e-5) - loss(i, -1e-5)) / 2e-5, 1e-5);
  }
}

TEST_F(MpsRows, RefusesSoftmaxThatDoesNotFit) {
  id<MTLCommandBuffer> work = command_buffer();
  MPSMatrix* in = matrix(buffer(64), 4, 4);
  MPSMatrix* out = matrix(buffer(64), 4, 4);
  MPSMatrixSoftMax* kernel = [[[MPSMatrixSoftMax alloc] initWithDevice:device] autorelease];
  const auto encode = [&](MPSMatrix* from, MPSMatrix* to) {
    [kernel encodeToCommandBuffer:work inputMatrix:from resultMatrix:to];
  };
  kernel.sourceColumns = 5;
  expect_refusal("requested columns (5 from 0) exceeds source matrix size (4)", [&] { encode(in, out); });
  kernel.sourceColumns = NSUIntegerMax;
  kernel.sourceMatrixOrigin = MTLOriginMake(0, 4, 0);
  expect_refusal("no columns", [&] { encode(in, out); });
  kernel.sourceMatrixOrigin = MTLOriginMake(0, 0, 1);
  expect_refusal("must be 0", [&] { encode(in, out); });
  kernel.sourceMatrixOrigin = MTLOriginMake(0, 0, 0);
  kernel.sourceRows = 5;
  expect_refusal("requested rows (5 from 0)", [&] { encode(in, out); });
  kernel.sourceRows = NSUIntegerMax;
  expect_refusal("requested columns in result matrix", [&] { encode(in, matrix(buffer(48), 4, 3)); });
  expect_refusal("Data types must match", [&] { encode(in, matrix(buffer(32), 4, 4, MPSDataTypeFloat16)); });
  MPSMatrix* bf16 = matrix(buffer(32), 4, 4, MPSDataTypeBFloat16);
  expect_refusal("must be float32 or float16", [&] { encode(bf16, bf16); });
  MPSMatrixSoftMaxGradient* gradient = [[[MPSMatrixSoftMaxGradient alloc] initWithDevice:device] autorelease];
  expect_refusal("columns in forward output matrix", [&] {
    [gradient encodeToCommandBuffer:work
                     gradientMatrix:in
                forwardOutputMatrix:matrix(buffer(48), 4, 3)
                       resultMatrix:out];
  });
}

TEST_F(MpsRows, TopKFindsTheLargest) {
  const NSUInteger rows = 6, columns = 50, k = 16;
  auto x = random_floats(rows * columns, 1);
  x[3] = x[40] = 7;                                          // equals: the higher column first
  x[columns + 5] = std::numeric_limits<float>::quiet_NaN();  // passed over
  id<MTLBuffer> indices = buffer(rows * k * 4), values = buffer(rows * k * 4);
  MPSMatrixFindTopK* kernel = [[[MPSMatrixFindTopK alloc] initWithDevice:device
                                                      numberOfTopKValues:k] autorelease];
  kernel.indexOffset = 100;
  id<MTLCommandBuffer> work = command_buffer();
  [kernel encodeToCommandBuffer:work
                    inputMatrix:matrix(buffer_of(x), rows, columns)
              resultIndexMatrix:matrix(indices, rows, k, MPSDataTypeUInt32)
              resultValueMatrix:matrix(values, rows, k)];
  finish(work);
  const auto* found = static_cast<const std::uint32_t*>([indices contents]);
  EXPECT_EQ(found[0], 140U);
  EXPECT_EQ(found[1], 103U);
  for (NSUInteger r = 0; r < rows; ++r) {
    std::vector<float> sorted(x.begin() + static_cast<std::ptrdiff_t>(r * columns),
                              x.begin() + static_cast<std::ptrdiff_t>((r + 1) * columns));
    std::erase_if(sorted, [](float value) { return std::isnan(value); });
    std::sort(sorted.rbegin(), sorted.rend());
    for (NSUInteger i = 0; i < k; ++i) {
      EXPECT_EQ(floats(values)[r * k + i], sorted[i]);
      EXPECT_EQ(x[r * columns + found[r * k + i] - 100], sorted[i]);
    }
  }
}

TEST_F(MpsRows, RefusesTopKThatDoesNotFit) {
  id<MTLCommandBuffer> work = command_buffer();
  const auto find = [&](NSUInteger k, NSUInteger columns, MPSDataType index_type, NSUInteger places) {
    MPSMatrixFindTopK* kernel = [[[MPSMatrixFindTopK alloc] initWithDevice:device
                                                        numberOfTopKValues:k] autorelease];
    [kernel encodeToCommandBuffer:work
                      inputMatrix:matrix(buffer(columns * 8), 2, columns)
                resultIndexMatrix:matrix(buffer(places * 8), 2, places, index_type)
                resultValueMatrix:matrix(buffer(places * 8), 2, places)];
  };
  find(16, 20, MPSDataTypeUInt32, 16);
  expect_refusal("(17) must be less or equal to 16", [&] { find(17, 20, MPSDataTypeUInt32, 17); });
  expect_refusal("(0) must be less or equal to 16", [&] { find(0, 20, MPSDataTypeUInt32, 1); });
  expect_refusal("too few for numberOfTopKValues (5)", [&] { find(5, 4, MPSDataTypeUInt32, 5); });
  expect_refusal("MPSDataTypeUInt32", [&] { find(4, 20, MPSDataTypeInt32, 4); });
  expect_refusal("columns in result index matrix", [&] { find(4, 20, MPSDataTypeUInt32, 3); });
}

}  // namespace
}  // namespace emulator_test
