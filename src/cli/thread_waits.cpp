#include "cli/thread_waits.h"

#if defined(__linux__)
#include <array>
#include <climits>
#include <cstdlib>
#include <dlfcn.h>
#include <sys/auxv.h>
#include <unistd.h>
#endif

namespace candela::cli {

#if defined(__linux__)

void shorten_thread_waits(char** arguments) {
  constexpr const char* kSpins = "2000";
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  const bool is_gcc = dlsym(RTLD_DEFAULT, "GOMP_parallel") != nullptr &&
                      dlsym(RTLD_DEFAULT, "__kmpc_fork_call") == nullptr;  // which LLVM's has beside it
  // Started as an argument of the dynamic loader, /proc/self/exe is the loader.
  if (!is_gcc || getauxval(AT_BASE) == 0) return;
  // By its own path, not as /proc/self/exe: that would become the name of the process.
  std::array<char, PATH_MAX> program{};
  const ssize_t length = readlink("/proc/self/exe", program.data(), program.size() - 1);
  if (length <= 0 || setenv("GOMP_SPINCOUNT", kSpins, 0) != 0) return;
  execv(program.data(), arguments);
}

#else

void shorten_thread_waits(char**) {}

#endif

}  // namespace candela::cli
