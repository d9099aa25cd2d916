#include <gtest/gtest.h>

#include "cases/check.h"
#include "late/late_device.h"

namespace candela::cases {
namespace {

class LateOps : public testing::TestWithParam<Family> {};

TEST_P(LateOps, MatchTheReference) {
  for (const OpCase& op_case : cases_of(GetParam().name)) {
    if (op_case.bench) continue;
    for (const DType dtype : op_case.dtypes) {
      EXPECT_EQ(check_forward(op_case, dtype, test::late_device()), "")
          << op_case.op << "." << op_case.name << " " << to_string(dtype);
      EXPECT_EQ(check_gradient(op_case, dtype, test::late_device()), "")
          << op_case.op << "." << op_case.name << " " << to_string(dtype);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, LateOps, testing::ValuesIn(families().begin(), families().end()),
                         [](const auto& given) { return std::string(given.param.name); });

}  // namespace
}  // namespace candela::cases
