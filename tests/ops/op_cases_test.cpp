#include "ops/op_cases.h"

#include <algorithm>
#include <cctype>
#include <ostream>

#include "cases/check.h"

namespace candela::cases {

std::vector<CaseOnDevice> tested(std::string_view family) {
  std::vector<CaseOnDevice> list;
  for (const Device device : available_devices()) {
    if (device.index != 0) continue;
    for (const OpCase& op_case : cases_of(family)) {
      if (!op_case.bench) list.push_back({&op_case, device});
    }
  }
  return list;
}

std::vector<CaseOnDevice> with_reference_gradient(std::string_view family) {
  std::vector<CaseOnDevice> list;
  for (const OpCase& op_case : cases_of(family)) {
    if (has_reference_gradient(op_case)) list.push_back({&op_case, Device::cpu()});
  }
  return list;
}

std::string test_name(const testing::TestParamInfo<CaseOnDevice>& info) {
  std::string name = full_name(*info.param.op_case) + "_" + to_string(Device{info.param.device.type, 0});
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

void PrintTo(const CaseOnDevice& value, std::ostream* out) {
  *out << full_name(*value.op_case) << " on " << to_string(value.device);
}

TEST_P(Forward, MatchesTheReference) {
  for (const DType dtype : GetParam().op_case->dtypes) {
    EXPECT_EQ(check_forward(*GetParam().op_case, dtype, GetParam().device), "") << to_string(dtype);
  }
}

TEST_P(Backward, MatchesTheReference) {
  for (const DType dtype : GetParam().op_case->dtypes) {
    EXPECT_EQ(check_gradient(*GetParam().op_case, dtype, GetParam().device), "") << to_string(dtype);
  }
}

TEST_P(ReferenceGradient, MatchesFiniteDifferences) {
  EXPECT_EQ(check_reference_gradient(*GetParam().op_case), "");
}

// A family may have no case for one of the suites.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Forward);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Backward);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ReferenceGradient);

}  // namespace candela::cases
