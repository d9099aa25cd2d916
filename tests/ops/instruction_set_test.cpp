#include <cstdlib>
#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <string>

#include "backend/kernels.h"

namespace candela {
namespace {

/// CANDELA_TEST_INSTRUCTION_SET=AVX2, say, runs the tests as a processor would that has nothing better.
class InstructionSet : public testing::Environment {
 public:
  void SetUp() override {
    const char* const wanted = std::getenv("CANDELA_TEST_INSTRUCTION_SET");
    if (wanted == nullptr) return;
    std::int64_t target = 0;
    for (std::int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
      if (std::string(hwy::TargetName(left & -left)) == wanted) target = left & -left;
    }
    if (target == 0) GTEST_SKIP() << wanted << " does not run here: the processor does not have it";
    hwy::DisableTargets(target - 1);  // better ones are lower bits
    const std::string used = backend(Device::cpu()).description();
    if (!used.ends_with(wanted)) GTEST_SKIP() << wanted << " does not run here: not compiled, but " << used;
  }
};

[[maybe_unused]] testing::Environment* const instruction_set =
    testing::AddGlobalTestEnvironment(std::make_unique<InstructionSet>().release());

}  // namespace
}  // namespace candela
