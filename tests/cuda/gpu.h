#pragma once

#include <gtest/gtest.h>

#include <candela/core/device.h>

namespace candela::test {

inline constexpr Device kCuda = Device::cuda();

inline bool has_gpu() {
  for (const Device device : available_devices()) {
    if (device == kCuda) return true;
  }
  return false;
}

/// A test that needs an NVIDIA GPU.
class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no NVIDIA GPU here";
  }
};

}  // namespace candela::test
