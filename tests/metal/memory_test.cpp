#include "backend/metal/memory.h"

#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include <candela/core/device.h>
#include <candela/io/safetensors.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/reduce.h>

#include "io/files.h"
#include "metal/support.h"
#if defined(CANDELA_EMULATED_METAL)
#include <emulator/control.h>
#endif

namespace candela::metal_tests {
namespace {

class Memory : public MetalTest {
 protected:
  /// A file of `count` f32 tensors "t0", "t1", ... of `length` elements; all of tensor i are i.
  std::filesystem::path write_file(int count, std::int64_t length,
                                   const std::string& name = "a.safetensors") {
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (int i = 0; i < count; ++i)
      tensors.emplace_back("t" + std::to_string(i), full({length}, i, DType::F32, Device::cpu()));
    write_safetensors(folder_ / name, tensors);
    return folder_ / name;
  }
  static std::vector<Tensor> read_all(const SafetensorsReader& reader) {
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < reader.names().size(); ++i)
      tensors.push_back(reader.tensor("t" + std::to_string(i), metal()));
    return tensors;
  }
  static void expect_numbers(const std::vector<Tensor>& tensors) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const double length = static_cast<double>(tensors[i].numel());
      EXPECT_EQ(sum(tensors[i], {0}).item(), length * static_cast<double>(i));
    }
  }

  test::TemporaryFolder folder_;
};

TEST_F(Memory, AMappedFileIsOneBufferHoweverManyTensorsItHolds) {
  const std::filesystem::path path = write_file(100, 1000);
  const auto bytes = std::filesystem::file_size(path);
  const SafetensorsReader reader = SafetensorsReader::open(path);
  device_interface(metal()).synchronize();
  const Since since;
#if defined(CANDELA_EMULATED_METAL)
  const std::int64_t buffers = emulator::live_objects("MTLBuffer");
  const std::size_t allocated = emulator::allocated_bytes();
#endif
  const std::vector<Tensor> tensors = read_all(reader);
  EXPECT_EQ(since.now().wrapped_bytes, bytes);
  for (const Tensor& tensor : tensors) EXPECT_EQ(tensor.storage(), tensors[0].storage());
#if defined(CANDELA_EMULATED_METAL)
  EXPECT_EQ(emulator::live_objects("MTLBuffer"), buffers + 1);
  EXPECT_LT(emulator::allocated_bytes(), allocated + bytes + 16384);
#endif
  expect_numbers(tensors);
  EXPECT_EQ(since.now().wrapped_bytes, bytes);
}

TEST_F(Memory, EveryShardIsABufferOfItsOwn) {
  const std::uint64_t bytes = std::filesystem::file_size(write_file(1, 300, "one.safetensors"));
  write_safetensors(folder_ / "two.safetensors", {{"t1", full({20}, 1, DType::F32, Device::cpu())}});
  test::write_text(folder_ / "model.safetensors.index.json",
                   R"({"weight_map": {"t0": "one.safetensors", "t1": "two.safetensors"}})");
  const SafetensorsReader reader = SafetensorsReader::open(folder_.path());
  const Since since;
  const std::vector<Tensor> tensors = read_all(reader);
  EXPECT_EQ(since.now().wrapped_bytes, bytes + std::filesystem::file_size(folder_ / "two.safetensors"));
  EXPECT_NE(tensors[0].storage(), tensors[1].storage());
  expect_numbers(tensors);
}

TEST_F(Memory, AMappingLivesAsLongAsItsTensors) {
  std::vector<Tensor> tensors;
  { tensors = read_all(SafetensorsReader::open(write_file(3, 5000))); }
  expect_numbers(tensors);
}

TEST_F(Memory, ATensorThatIsNotAlignedInTheFileIsCopied) {
  const float value = 2.5F;
  std::string header = R"({"t0":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  while (header.size() % 4 != 1) header += ' ';
  std::string text(8, '\0');
  text[0] = static_cast<char>(header.size());
  text += header + std::string(4, '\0');
  std::memcpy(text.data() + text.size() - 4, &value, 4);
  test::write_text(folder_ / "odd.safetensors", text);
  const Since since;
  const Tensor tensor = SafetensorsReader::open(folder_ / "odd.safetensors").tensor("t0", metal());
  EXPECT_EQ(affine(tensor, 2, 0).item(), 5.0);
  EXPECT_EQ(since.now().wrapped_bytes, 0U);
}

TEST_F(Memory, HostMemoryBecomesABufferWithoutACopy) {
  const auto memory = std::make_shared<Pages>(Pages::kBytes);
  const std::size_t count = Pages::kBytes / sizeof(float) - 10;
  auto* const numbers = static_cast<float*>(memory->data());
  for (std::size_t i = 0; i < count; ++i) numbers[i] = static_cast<float>(i);
  std::shared_ptr<const void> owner = memory;
  const std::weak_ptr<const void> watch = owner;
  {
    const Since since;
    StoragePtr storage =
        device_interface(metal()).wrap_host(numbers, count * sizeof(float), std::move(owner));
    ASSERT_NE(storage, nullptr);
    EXPECT_EQ(storage->data(), numbers);
    EXPECT_EQ(since.now().wrapped_bytes, count * sizeof(float));
    const Tensor x =
        Tensor::from_storage(storage, Layout::contiguous({static_cast<std::int64_t>(count)}), DType::F32);
    storage.reset();
    EXPECT_EQ(affine(x, 2, 1).to_vector<float>()[100], 201.0F);
    EXPECT_EQ(watch.use_count(), 2) << "the buffer keeps its owner";
  }
  device_interface(metal()).synchronize();
  for (int i = 0; i < 100 && watch.use_count() > 1; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(watch.use_count(), 1);
}

TEST_F(Memory, UnalignedHostMemoryIsLeftToTheCaller) {
  const Pages memory(Pages::kBytes);
  EXPECT_EQ(device_interface(metal()).wrap_host(static_cast<char*>(memory.data()) + 64, 64, nullptr),
            nullptr);
}

#if defined(CANDELA_EMULATED_METAL)

class MemoryLimits : public Memory {
 protected:
  void SetUp() override {
    Memory::SetUp();
    device_interface(metal()).allocator().trim();
  }
  void TearDown() override {
    Memory::TearDown();
    emulator::reset();
  }
};

TEST_F(MemoryLimits, WhatIsLongerThanABufferMayBeIsCopied) {
  const std::filesystem::path path = write_file(40, 1000);
  emulator::set_max_buffer_length(Pages::kBytes);
  const Pages pages(2 * Pages::kBytes);
  EXPECT_EQ(device_interface(metal()).wrap_host(pages.data(), 2 * Pages::kBytes, nullptr), nullptr);
  EXPECT_NE(device_interface(metal()).wrap_host(pages.data(), Pages::kBytes, nullptr), nullptr);
  const Since since;
  expect_numbers(read_all(SafetensorsReader::open(path)));
  EXPECT_EQ(since.now().wrapped_bytes, 0U);
}

TEST_F(MemoryLimits, NothingIsWrappedBeyondTheWorkingSet) {
  const Pages pages(2 * Pages::kBytes);
  emulator::set_working_set_limit(emulator::allocated_bytes() + Pages::kBytes);
  const std::uint64_t refused = emulator::counters().failed_allocations;
  EXPECT_EQ(device_interface(metal()).wrap_host(pages.data(), Pages::kBytes + 1, nullptr), nullptr);
  EXPECT_EQ(emulator::counters().failed_allocations, refused) << "the system is not asked for what cannot be";
  EXPECT_NE(device_interface(metal()).wrap_host(pages.data(), Pages::kBytes, nullptr), nullptr);
}

#endif

}  // namespace
}  // namespace candela::metal_tests
