#include "backend/selector.h"

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

}  // namespace
}  // namespace candela
