#include "backend/selector.h"

#include <cstdio>
#include <mutex>
#include <set>

namespace candela {

void log_composed_once(std::string_view op, Device device, const std::string& reasons) {
  if (backend(device).planned() != nullptr) return;
  static std::mutex mutex;
  static std::set<std::string> logged;
  const std::lock_guard lock(mutex);
  if (!logged.insert(fmt::format("{}@{}", op, device)).second) return;
  fmt::print(stderr, "candela: {} on {} runs as its composed reference ({})\n", op, device,
             reasons.empty() ? "no implementation" : reasons);
}

}  // namespace candela
