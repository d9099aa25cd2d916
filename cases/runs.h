#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <candela/core/device.h>

/// Which implementation ran: read off the counters in a device's kernel table.
namespace candela::cases {

struct ImplementationRuns {
  std::string name;
  std::uint64_t count = 0;
};

/// Per kernel list of the table, its implementations in order of preference.
using RunCounts = std::map<std::string, std::vector<ImplementationRuns>, std::less<>>;

RunCounts count_runs(Device device);

/// The implementations of `list` that ran between the two counts, in order of preference.
std::vector<std::string> ran_between(const RunCounts& before, const RunCounts& after,
                                     const std::string& list);

}  // namespace candela::cases
