#include "cases/runs.h"

#include "backend/kernels.h"

namespace candela::cases {

RunCounts count_runs(Device device) {
  RunCounts counts;
  KernelTable::for_each_list([&]<auto kList>() {
    const auto& list = backend(device).kernels().*kList;
    std::vector<ImplementationRuns>& runs = counts[std::string(list.op)];
    for (const auto& kernel : list.kernels) runs.push_back({std::string(kernel.name), kernel.runs->load()});
  });
  return counts;
}

std::vector<std::string> ran_between(const RunCounts& before, const RunCounts& after,
                                     const std::string& list) {
  std::vector<std::string> names;
  const auto from = before.find(list);
  const auto to = after.find(list);
  if (from == before.end() || to == after.end()) return names;
  for (std::size_t i = 0; i < to->second.size(); ++i) {
    if (to->second[i].count > from->second[i].count) names.push_back(to->second[i].name);
  }
  return names;
}

}  // namespace candela::cases
