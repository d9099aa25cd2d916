#include "cases/measure.h"

#include <gtest/gtest.h>

#include <candela/core/device.h>
#include <candela/ops/elementwise.h>

namespace candela::cases {
namespace {

/// Single: each call is timed with its wait. Batched: so are many calls together, and the time is of one.
TEST(Measure, TimesOneCallOrManyTogether) {
  for (const Device device : available_devices()) {
    for (const bool backward : {false, true}) {
      for (const int calls : {1, 8}) {
        int ran = 0;
        OpCase op_case{.op = "exp", .name = "measured", .inputs = {{.shape = {4, 8}}}};
        op_case.fused = [&ran](std::span<const Tensor> in) -> std::vector<Tensor> {
          ++ran;
          return {exp(in[0])};
        };
        op_case.kernel = "unary";
        op_case.kernel_grad = "unary_grad";
        MeasureOptions options;
        options.min_seconds = 0;
        options.min_runs = 3;
        options.cold_bytes = 1024;  // eight sets of inputs
        options.calls = calls;
        const Measurement measured = measure(op_case, DType::F32, device, backward, options);
        EXPECT_GT(measured.seconds, 0);
        EXPECT_NE(measured.implementation, "composed");
        EXPECT_EQ(measured.calls, calls);
        const int first_touch = calls == 1 ? 8 : 1;
        EXPECT_EQ(ran, (first_touch + 3) * calls + (backward ? 1 : 0));
      }
    }
  }
}

}  // namespace
}  // namespace candela::cases
