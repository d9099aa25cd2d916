#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "backend/metal/objc/command.h"
#include "backend/metal/objc/data_type.h"
#include "backend/metal/objc/device.h"
#include "backend/metal/objc/library.h"
#include "backend/metal/objc/mps.h"
#include "backend/metal/shader_library.h"
#include "metal/support.h"
#if defined(CANDELA_EMULATED_METAL)
#include <emulator/control.h>
#endif

namespace candela::metal_tests {
namespace {

using namespace metal::objc;  // NOLINT(google-build-using-namespace): the classes under test
using metal::embedded_shaders;
using metal::objc::Matrix;

class Bindings : public MetalTest {
 protected:
  void SetUp() override {
    MetalTest::SetUp();
    if (!IsSkipped()) device_ = metal::objc::Device::system_default();
  }

  /// A buffer that holds these numbers.
  Buffer buffer_of(const std::vector<float>& numbers) {
    Buffer buffer = device_.new_buffer(numbers.size() * sizeof(float));
    std::memcpy(buffer.contents(), numbers.data(), numbers.size() * sizeof(float));
    return buffer;
  }
  static std::vector<float> floats_of(const Buffer& buffer, std::size_t count) {
    std::vector<float> numbers(count);
    std::memcpy(numbers.data(), buffer.contents(), count * sizeof(float));
    return numbers;
  }

  metal::objc::Device device_;
  AutoreleasePool pool_;
};

TEST_F(Bindings, DataTypesArePinned) {
  EXPECT_EQ(to_mps_data_type(DType::F32), 268435488U);
  EXPECT_EQ(to_mps_data_type(DType::F16), 268435472U);
  EXPECT_EQ(to_mps_data_type(DType::BF16), 0x90000010U);
  EXPECT_EQ(to_mps_data_type(DType::I32), 536870944U);
  EXPECT_EQ(to_mps_data_type(DType::I64), 536870976U);
  EXPECT_EQ(to_mps_data_type(DType::U8), 8U);
  EXPECT_THROW(to_mps_data_type(DType::F64), Unsupported);
  for (const DType dtype : {DType::F32, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U8}) {
    EXPECT_EQ(from_mps_data_type(to_mps_data_type(dtype)), dtype);
  }
  EXPECT_EQ(from_mps_data_type(32), DType::I32) << "UInt32, what FindTopK writes";
  EXPECT_THROW(from_mps_data_type(0), Unsupported);
}

TEST_F(Bindings, DeviceTellsItsLimits) {
  EXPECT_FALSE(device_.name().empty());
  EXPECT_TRUE(device_.unified_memory());
  EXPECT_GE(device_.max_buffer_length(), std::size_t{1} << 28U);
  EXPECT_GE(device_.recommended_working_set(), std::size_t{1} << 28U);
}

TEST_F(Bindings, HandlesCount) {
  Buffer a = device_.new_buffer(256);
  const Buffer b = a;
  EXPECT_EQ(a.get(), b.get());
  const Buffer c = std::move(a);
  EXPECT_FALSE(static_cast<bool>(a));  // NOLINT(bugprone-use-after-move): what a moved-from handle is
  EXPECT_EQ(c.get(), b.get());
  EXPECT_EQ(c.length(), 256U);
}

TEST_F(Bindings, BufferOverHostMemory) {
  const Pages memory(Pages::kBytes);
  bool released = false;
  {
    Buffer buffer = device_.new_buffer_over(memory.data(), Pages::kBytes, [&] { released = true; });
    ASSERT_TRUE(static_cast<bool>(buffer));
    EXPECT_EQ(buffer.contents(), memory.data());
    EXPECT_FALSE(released);
  }
  EXPECT_TRUE(released);
}

TEST_F(Bindings, HeapGivesBuffersUntilItIsFull) {
  Heap heap = device_.new_heap(std::size_t{1} << 20U);
  ASSERT_TRUE(static_cast<bool>(heap));
  std::vector<Buffer> buffers;
  for (int i = 0; i < 10'000; ++i) {
    Buffer buffer = heap.new_buffer(1024);
    if (!buffer) break;
    buffers.push_back(std::move(buffer));
  }
  EXPECT_GE(buffers.size(), 512U);
  EXPECT_LT(buffers.size(), 10'000U);
  EXPECT_LE(heap.used(), heap.size());
}

TEST_F(Bindings, EventOrdersTwoCommandBuffers) {
  CommandQueue queue = device_.new_queue(4);
  metal::objc::Event event = device_.new_event();
  EXPECT_EQ(event.value(), 0U);
  CommandBuffer first = queue.new_command_buffer();
  first.signal(event, 7);
  first.commit();
  CommandBuffer second = queue.new_command_buffer();
  second.wait_for(event, 7);
  second.commit();
  second.wait();
  EXPECT_EQ(event.value(), 7U);
  EXPECT_FALSE(second.outcome().failed);
}

TEST_F(Bindings, CompletionHandlerRuns) {
  CommandQueue queue = device_.new_queue(4);
  CommandBuffer buffer = queue.new_command_buffer();
  buffer.set_label("nothing");
  bool failed = true;
  buffer.on_completed([&](const Outcome& outcome) { failed = outcome.failed; });
  buffer.commit();
  buffer.wait();
  EXPECT_FALSE(failed);
}

TEST_F(Bindings, ShadersCompileAndRun) {
  const metal::EmbeddedShaders& shaders = embedded_shaders("norm");
  const Library library =
      shaders.compiled
          ? device_.new_library_from_data(shaders.data, shaders.bytes)
          : device_.new_library_from_source({reinterpret_cast<const char*>(shaders.data), shaders.bytes});
  const std::vector<std::string> names = library.function_names();
  EXPECT_NE(std::find(names.begin(), names.end(), "add_pieces"), names.end());
  const Pipeline pipeline = device_.new_pipeline(library, "add_pieces", FunctionConstants());
  EXPECT_EQ(pipeline.simd_width(), 32U);
  EXPECT_LE(pipeline.max_threads(), 1024U);
  EXPECT_THROW(device_.new_pipeline(library, "no_such_shader", FunctionConstants()), DeviceError);
  EXPECT_THROW(embedded_shaders("no_such_family"), DeviceError);
}

TEST_F(Bindings, FunctionConstantsSpecialise) {
  std::ifstream file(CANDELA_SOURCE_DIR "/tests/metal/shaders/probe.metal", std::ios::binary);
  ASSERT_TRUE(file.is_open());
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const Library library = device_.new_library_from_source(text);
  CommandQueue queue = device_.new_queue(2);
  for (const bool doubled : {false, true}) {
    FunctionConstants constants;
    constants.set(0, doubled);
    constants.set(1, std::uint32_t{70'000});
    const Pipeline pipeline = device_.new_pipeline(library, "probe_constants", constants);
    const Buffer y = buffer_of({NAN, NAN, NAN});
    CommandBuffer commands = queue.new_command_buffer();
    ComputeEncoder encoder = commands.compute_encoder();
    encoder.set_pipeline(pipeline);
    encoder.set_buffer(y.get(), 0, 0);
    encoder.dispatch_threads({3, 1, 1}, {3, 1, 1});
    encoder.end();
    commands.commit();
    commands.wait();
    EXPECT_EQ(floats_of(y, 3), doubled ? (std::vector<float>{140'000, 140'002, 140'004})
                                       : (std::vector<float>{70'000, 70'001, 70'002}));
  }
  EXPECT_THROW(device_.new_pipeline(library, "probe_constants", FunctionConstants()), DeviceError);
}

#if defined(CANDELA_EMULATED_METAL)

/// What no result shows on the stand-in, but on a GPU.
TEST_F(Bindings, ShadersAreCompiledStrictlyAndHeapsTracked) {
  emulator::reset();
  const metal::EmbeddedShaders& shaders = embedded_shaders("norm");
  device_.new_library_from_source({reinterpret_cast<const char*>(shaders.data), shaders.bytes});
  const auto options = emulator::last_compile_options();
  ASSERT_TRUE(options.has_value());
  EXPECT_FALSE(options->fast_math) << "NaN and infinity must propagate";
  EXPECT_EQ(options->language_version, 3U << 16U) << "Metal 3.0, as the shaders compiled by the build";
  const Heap heap = device_.new_heap(std::size_t{1} << 20U);
  EXPECT_EQ(emulator::counters().heaps, 1U);
  EXPECT_EQ(emulator::counters().untracked_heaps, 0U) << "one op would not see the writes of another";
}

#endif

#if defined(CANDELA_MPS)

/// One row-major f32 matrix.
MatrixShape shape_of(std::size_t rows, std::size_t columns) {
  MatrixShape shape;
  shape.rows = rows;
  shape.columns = columns;
  shape.row_bytes = columns * sizeof(float);
  return shape;
}

TEST_F(Bindings, MatrixMultiplicationInBatches) {
  // Two products [1, 2] x [2, 1], the operands one behind the other.
  Buffer left = buffer_of({1, 2, 3, 4});
  Buffer right = buffer_of({5, 6, 7, 8});
  Buffer result = buffer_of({NAN, NAN});
  const auto batch = [](std::size_t rows, std::size_t columns) {
    MatrixShape shape = shape_of(rows, columns);
    shape.matrices = 2;
    shape.matrix_bytes = rows * columns * sizeof(float);
    return shape;
  };
  CommandQueue queue = device_.new_queue(2);
  const CommandBuffer commands = queue.new_command_buffer();
  ProductShape product;
  product.rows = 1;
  product.columns = 1;
  product.interior = 2;
  MatrixMultiplication kernel(device_, product);
  kernel.encode(commands, Matrix(left.get(), 0, batch(1, 2)), Matrix(right.get(), 0, batch(2, 1)),
                Matrix(result.get(), 0, batch(1, 1)), 2);
  CommandBuffer(commands).commit();
  CommandBuffer(commands).wait();
  EXPECT_EQ(floats_of(result, 2), (std::vector<float>{17, 53}));
}

TEST_F(Bindings, MatrixVectorMultiplication) {
  Buffer matrix = buffer_of({1, 2, 3, 4, 5, 6});  // [2, 3]
  Buffer x = buffer_of({1, 0, -1});
  Buffer y = buffer_of({10, 20});
  CommandQueue queue = device_.new_queue(2);
  CommandBuffer commands = queue.new_command_buffer();
  MatrixVectorMultiplication kernel(device_, {false, 2, 3, 2.0, 1.0});
  kernel.encode(commands, Matrix(matrix.get(), 0, shape_of(2, 3)), Vector(x.get(), 0, 3, DType::F32),
                Vector(y.get(), 0, 2, DType::F32));
  commands.commit();
  commands.wait();
  EXPECT_EQ(floats_of(y, 2), (std::vector<float>{6, 16}));
}

TEST_F(Bindings, SoftmaxItsGradientAndTopk) {
  Buffer x = buffer_of({1, 2, 3, 4});
  Buffer y = buffer_of(std::vector<float>(4, NAN));
  Buffer logs = buffer_of(std::vector<float>(4, NAN));
  Buffer dx = buffer_of(std::vector<float>(4, NAN));
  Buffer dy = buffer_of({1, 0, 0, 0});
  Buffer best = buffer_of({NAN, NAN});
  Buffer places = device_.new_buffer(8);
  CommandQueue queue = device_.new_queue(2);
  CommandBuffer commands = queue.new_command_buffer();
  const MatrixShape row = shape_of(1, 4);
  const auto at = [&](const Buffer& buffer) { return Matrix(buffer.get(), 0, row); };
  MatrixSoftmax(device_, false).encode(commands, at(x), at(y));
  MatrixSoftmax(device_, true).encode(commands, at(x), at(logs));
  MatrixSoftmaxGradient(device_).encode(commands, at(dy), at(y), at(dx));
  MatrixShape indices = shape_of(1, 2);
  indices.dtype = DType::I32;
  indices.unsigned_index = true;
  MatrixFindTopk(device_, 2)
      .encode(commands, at(x), Matrix(places.get(), 0, indices), Matrix(best.get(), 0, shape_of(1, 2)));
  commands.commit();
  commands.wait();
  const double total = std::exp(1) + std::exp(2) + std::exp(3) + std::exp(4);
  const std::vector<float> softmax = floats_of(y, 4);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(softmax[i], std::exp(static_cast<double>(i + 1)) / total, 1e-6);
    EXPECT_NEAR(floats_of(logs, 4)[i], static_cast<double>(i + 1) - std::log(total), 1e-5);
    EXPECT_NEAR(floats_of(dx, 4)[i], softmax[i] * ((i == 0 ? 1 : 0) - softmax[0]), 1e-6);
  }
  EXPECT_EQ(floats_of(best, 2), (std::vector<float>{4, 3}));
  std::array<std::int32_t, 2> found{};
  std::memcpy(found.data(), places.contents(), sizeof(found));
  EXPECT_EQ(found, (std::array<std::int32_t, 2>{3, 2}));
}

TEST_F(Bindings, RecommendedRowsHoldTheColumns) {
  EXPECT_GE(MatrixDescriptor::recommended_row_bytes(10, DType::F32), 40U);
  EXPECT_EQ(MatrixDescriptor::recommended_row_bytes(10, DType::F16) % 2, 0U);
}

#endif

}  // namespace
}  // namespace candela::metal_tests
