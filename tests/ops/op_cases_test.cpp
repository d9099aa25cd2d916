#include "ops/op_cases.h"

#include <algorithm>
#include <cctype>
#include <ostream>
#include <set>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>

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

/// f64 goes where kernels for it are fewest.
TEST(GradientsInF64, Flow) {
  for (const Family& family : families()) {
    for (const OpCase& op_case : cases_of(family.name)) {
      const bool small = std::all_of(op_case.inputs.begin(), op_case.inputs.end(),
                                     [](const Input& input) { return numel(input.shape) <= 1024; });
      if (op_case.gradient != Gradient::Flows || !small) continue;
      std::vector<Tensor> inputs = build_inputs(op_case, DType::F64, Device::cpu()).device;
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (op_case.inputs[i].gradient) inputs[i].set_requires_grad(true);
      }
      std::vector<Tensor> outputs;
      EXPECT_NO_THROW(outputs = op_case.fused(inputs)) << full_name(op_case);
      for (const Tensor& output : outputs) {
        if (!output.requires_grad()) continue;
        EXPECT_NO_THROW(backward(output)) << full_name(op_case);
        break;  // outputs of one op share their node, which can be walked once
      }
    }
  }
}

/// Each family's file must instantiate the suites: a list that no test runs proves nothing.
TEST(Families, EveryOneIsTested) {
  std::set<std::string> suites;
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  for (int i = 0; i < tests.total_test_suite_count(); ++i) suites.insert(tests.GetTestSuite(i)->name());
  for (const Family& family : families()) {
    const std::string name(family.name);
    EXPECT_TRUE(suites.contains(name + "/Forward")) << name;
    EXPECT_TRUE(suites.contains(name + "/Backward")) << name;
    EXPECT_EQ(suites.contains(name + "/ReferenceGradient"), !with_reference_gradient(name).empty()) << name;
  }
}

// A family may have no case for one of the suites.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Forward);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Backward);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ReferenceGradient);

}  // namespace candela::cases
