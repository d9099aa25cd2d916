#include <gtest/gtest.h>

#include <candela/core/grad.h>
#include <candela/ops/attention.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>

#include "late/late_device.h"

namespace candela {
namespace {

using test::late_counters;
using test::late_device;

std::vector<float> values(std::size_t count) {
  std::vector<float> result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = static_cast<float>(i) + 1;
  return result;
}

TEST(LateDevice, IsNoDeviceOfTheShippedBinary) {
  EXPECT_EQ(to_string(late_device()), "custom:0");
  EXPECT_THROW(parse_device("custom:0"), InvalidArgument);
  EXPECT_THROW(parse_device("late"), InvalidArgument);
}

TEST(LateDevice, AnUploadNeitherWaitsNorKeepsTheHostsMemory) {
  const auto before = late_counters();
  std::vector<float> host = values(1000);
  const Tensor x = Tensor::from_values(host, {1000}, late_device());
  std::fill(host.begin(), host.end(), -1.0F);
  EXPECT_EQ(late_counters().waits, before.waits);
  EXPECT_GT(test::late_pending(), 0U);
  EXPECT_EQ(x.to_vector<float>(), values(1000));
  EXPECT_EQ(late_counters().waits, before.waits + 1);
  EXPECT_EQ(test::late_pending(), 0U);
}

TEST(LateDevice, WorkRunsInOrderWhenTheHostReads) {
  const NoGrad guard;
  const auto before = late_counters();
  Tensor x = Tensor::from_values(values(256), {16, 16}, late_device());
  for (int i = 0; i < 5; ++i) x = add(x, x);
  const Tensor y = matmul(x, x);
  EXPECT_EQ(late_counters().waits, before.waits);
  EXPECT_EQ(x.to_vector<float>()[3], 4 * 32);
  EXPECT_EQ(late_counters().waits, before.waits + 1);
  const Tensor on_cpu = to_device(x, Device::cpu());
  EXPECT_EQ(y.to_vector<float>(), matmul(on_cpu, on_cpu).to_vector<float>());
}

TEST(LateDevice, ReadsStridedTensorsAndSingleElements) {
  const Tensor x = Tensor::from_values(values(12), {3, 4}, late_device());
  EXPECT_EQ(transpose(x, 0, 1).to_vector<float>(),
            (std::vector<float>{1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12}));
  EXPECT_EQ(slice(slice(x, 0, 2, 3), 1, 1, 2).item(), 10);
  EXPECT_EQ(broadcast_to(slice(x, 1, 3, 4), {3, 2}).to_vector<float>(),
            (std::vector<float>{4, 4, 8, 8, 12, 12}));
  EXPECT_THROW(x.data<float>(), InvalidArgument);
}

TEST(LateDevice, MovesToAndFroAndCopiesInStreamOrder) {
  const NoGrad guard;
  const Tensor x = to_device(Tensor::from_values(values(6), {2, 3}), late_device());
  const Tensor column = to_device(transpose(x, 0, 1), Device::cpu());
  EXPECT_EQ(column.to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  // What is read is what was there when the copy was enqueued.
  std::vector<float> out(6);
  const auto event = device_interface(late_device())
                         .copy_out(*x.storage(), 0, std::as_writable_bytes(std::span<float>(out)));
  fill_(x, 7);
  event->wait();
  EXPECT_EQ(out, values(6));
  EXPECT_EQ(x.to_vector<float>(), std::vector<float>(6, 7));
}

TEST(LateDevice, AFailureIsToldWhereTheHostWaits) {
  const Tensor x = zeros({1, 4, 2, 8}, DType::F32, late_device());
  const Tensor bounds = Tensor::from_values(std::vector<std::int32_t>{0, 9}, {2}, late_device());
  Tensor y;
  EXPECT_NO_THROW(y = attention(x, x, x, {.cu_seqlens = bounds}));
  EXPECT_THROW(y.to_vector<float>(), DeviceError);
}

TEST(LateDeviceDeathTest, TheHostCannotTouchItsMemory) {
  const Tensor x = zeros({1}, DType::F32, late_device());
  EXPECT_EQ(x.item(), 0);
  EXPECT_DEATH(*static_cast<volatile float*>(x.storage()->data()) = 1, "");
}

TEST(LateDevice, ARecordingRunsAgainInMemoryOfItsOwn) {
  const NoGrad guard;
  const Tensor in = Tensor::from_values(values(64), {64}, late_device());
  const Tensor out = zeros({64}, DType::F32, late_device());
  int calls = 0;
  const auto recording = device_interface(late_device()).record([&] {
    ++calls;
    copy_(out, mul(add(in, in), in));
  });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(out.to_vector<float>(), std::vector<float>(64, 0)) << "recording enqueues nothing";
  for (const float value : {1.0F, 3.0F}) {
    fill_(in, value);
    recording->replay();
    // Would overwrite what the recording keeps between its ops, were it handed out.
    for (int i = 0; i < 4; ++i) fill_(Tensor::empty({64}, DType::F32, late_device()), -1);
    EXPECT_EQ(out.to_vector<float>(), std::vector<float>(64, 2 * value * value));
  }
  EXPECT_EQ(calls, 1);
}

/// The default: the work is called again.
TEST(Recording, OnTheCpuReplayCallsTheWork) {
  const Tensor x = zeros({1});
  const auto recording = device_interface(Device::cpu()).record([&] { fill_(x, x.item() + 1); });
  EXPECT_EQ(x.item(), 0);
  recording->replay();
  recording->replay();
  EXPECT_EQ(x.item(), 2);
}

TEST(Plan, IsOfADevice) {
  const Device plan = Device::plan(late_device());
  EXPECT_EQ(to_string(plan), "plan of custom:0");
  EXPECT_EQ(to_string(Device::plan()), "plan");
  EXPECT_FALSE(device_interface(plan).computes());
  const Tensor x = zeros({8, 8}, DType::F32, plan);
  EXPECT_EQ(add(x, x).device(), plan);
  EXPECT_THROW(x.to_vector<float>(), InvalidArgument);
  EXPECT_EQ(to_device(x, Device::cpu()).shape(), (Shape{8, 8}));
  // The workspace of the device's own kernels, through an allocator of the plan's own.
  Allocator& allocator = device_interface(plan).allocator();
  const std::uint64_t before = allocator.stats().allocations;
  const std::uint64_t others = device_interface(Device::plan()).allocator().stats().allocations;
  matmul(zeros({2, 40}, DType::BF16, plan), transpose(zeros({40, 40}, DType::BF16, plan), 0, 1));
  EXPECT_EQ(allocator.stats().allocations, before + 4) << "operands, result and what two rows are widened to";
  EXPECT_EQ(device_interface(Device::plan()).allocator().stats().allocations, others);
  try {
    device_interface(Device::plan(Device::custom(7)));
    FAIL() << "no error";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("custom:7"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace candela
