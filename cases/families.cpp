#include <array>
#include <map>
#include <mutex>

#include <candela/core/error.h>

#include "cases/op_case.h"

namespace candela::cases {
namespace {

constexpr std::array kFamilies = {
    Family{"elementwise", elementwise_cases},
    Family{"reduce", reduce_cases},
    Family{"matmul", matmul_cases},
    Family{"norm", norm_cases},
    Family{"softmax", softmax_cases},
    Family{"attention", attention_cases},
    Family{"rope", rope_cases},
    Family{"gather", gather_cases},
    Family{"loss", loss_cases},
    Family{"optimizer", optimizer_cases},
    Family{"random", random_cases},
    Family{"copy", copy_cases},
    Family{"lora", lora_cases},
    Family{"topk", topk_cases},
};

}  // namespace

std::span<const Family> families() {
  return kFamilies;
}

const std::vector<OpCase>& cases_of(std::string_view family) {
  static std::mutex mutex;
  static std::map<std::string_view, std::vector<OpCase>> made;
  const std::lock_guard lock(mutex);
  for (const Family& known : kFamilies) {
    if (known.name != family) continue;
    auto found = made.find(known.name);
    if (found == made.end()) found = made.emplace(known.name, known.list()).first;
    return found->second;
  }
  throw InvalidArgument(fmt::format("cases: there is no op family \"{}\"", family));
}

}  // namespace candela::cases
