#include "backend/selector.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace candela {
namespace {

/// Two implementations, one for k = 1, one for k = 2.
KernelList<TopkArgs> one_and_two() {
  const auto nothing = [](const TopkArgs&, Stream&) {};
  KernelList<TopkArgs> list{"topk", {}};
  list.add(
      "one", [](const TopkArgs& args) -> std::string { return args.k == 1 ? "" : "takes k = 1"; }, nothing);
  list.add(
      "two", [](const TopkArgs& args) -> std::string { return args.k == 2 ? "" : "takes k = 2"; }, nothing);
  return list;
}

TopkArgs some_args(std::int64_t k) {
  TopkArgs args;
  args.k = k;
  return args;
}

TEST(Selector, TakesTheFirstThatSupportsTheArguments) {
  const KernelList<TopkArgs> list = one_and_two();
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(1)), &list.kernels[0]);
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(2)), &list.kernels[1]);
}

TEST(Selector, SaysOfEveryImplementationWhyItDoesNot) {
  const KernelList<TopkArgs> list = one_and_two();
  EXPECT_EQ(choose(list, backend(Device::cpu()), some_args(3)), nullptr);
  EXPECT_EQ(refusals(list, some_args(3)), "one: takes k = 1; two: takes k = 2");
  EXPECT_EQ(refusals(KernelList<TopkArgs>{"topk", {}}, some_args(3)), "");
}

/// Takes k floats.
void takes_floats(const TopkArgs& args, Workspace memory) {
  auto* floats = memory.take<float>(args.k);
  if (!memory.measuring()) std::fill_n(floats, args.k, 1.0F);
}

/// States nothing, and takes a float.
void takes_more(const TopkArgs&, Stream&, Workspace memory) {
  memory.take<float>(1);
}

TEST(Workspace, IsStatedAndTakenByTheSameFunction) {
  KernelList<TopkArgs> list{"topk", {}};
  const Kernel<TopkArgs>& kernel = list.add_measured<takes_floats>("floats", supports_all<TopkArgs>);
  EXPECT_EQ(workspace_bytes(list, some_args(100)), 400U);
  EXPECT_EQ(workspace_bytes(list, some_args(0)), 0U);
  Backend& cpu = backend(Device::cpu());
  const std::uint64_t before = cpu.allocator().stats().allocations;
  const std::size_t allocated = cpu.allocator().stats().allocated;
  launch(kernel, cpu, some_args(100));
  launch(kernel, cpu, some_args(0));
  EXPECT_EQ(cpu.allocator().stats().allocations, before + 1);
  EXPECT_EQ(cpu.allocator().stats().allocated, allocated);
}

TEST(Workspace, AKernelCannotTakeMoreThanItStates) {
  KernelList<TopkArgs> list{"topk", {}};
  const Kernel<TopkArgs>& kernel = list.add(
      "more", supports_all<TopkArgs>, [](const TopkArgs&) -> std::size_t { return 0; }, takes_more);
  EXPECT_THROW(launch(kernel, backend(Device::cpu()), some_args(1)), DeviceError);
}

TEST(Workspace, WhatACalleeTakesIsFreeAfterwards) {
  const auto callee = [](Workspace memory) { memory.take<double>(100); };
  const std::size_t bytes = measured_workspace([&](Workspace memory) {
    memory.take<float>(1);
    callee(memory);
    callee(memory);
  });
  EXPECT_EQ(bytes, Workspace::kAlignment + 800);
}

TEST(Workspace, PartsAreDistinctAlignedAndBounded) {
  const StoragePtr storage = backend(Device::cpu()).allocator().allocate(1024);
  Workspace memory(*storage);
  Workspace first = memory.take_part(100);
  Workspace second = memory.take_part(200);
  auto* a = first.take<std::byte>(100);
  auto* b = second.take<std::byte>(200);
  EXPECT_EQ(a, storage->data());
  EXPECT_EQ(b, a + Workspace::kAlignment);
  EXPECT_THROW(first.take<std::byte>(1), DeviceError);
  const TensorArg tensor = memory.take_tensor({3, 4}, DType::F32);
  EXPECT_EQ(tensor.data, a + 2 * Workspace::kAlignment);
  EXPECT_EQ(tensor.offset * 4, 2 * static_cast<std::int64_t>(Workspace::kAlignment));
  EXPECT_TRUE(tensor.contiguous());
  EXPECT_EQ(tensor.numel(), 12);
}

}  // namespace
}  // namespace candela
