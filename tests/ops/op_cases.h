#pragma once

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "cases/op_case.h"

/// The case lists as GoogleTest parameters. Each family's file instantiates the three suites with its list.
namespace candela::cases {

/// One case on one device; the test runs it in every dtype of the case.
struct CaseOnDevice {
  const OpCase* op_case;
  Device device;
};

class Forward : public testing::TestWithParam<CaseOnDevice> {};
class Backward : public testing::TestWithParam<CaseOnDevice> {};
class ReferenceGradient : public testing::TestWithParam<CaseOnDevice> {};

/// The cases of a family on every device of this build, but the benches.
std::vector<CaseOnDevice> tested(std::string_view family);
/// Those whose reference has a gradient worth checking; the reference runs on the CPU.
std::vector<CaseOnDevice> with_reference_gradient(std::string_view family);

/// "softmax_wide_row_cpu".
std::string test_name(const testing::TestParamInfo<CaseOnDevice>& info);
void PrintTo(const CaseOnDevice& value, std::ostream* out);

}  // namespace candela::cases
