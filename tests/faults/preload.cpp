#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

#include "faults/interpose.h"

/// Arms what CANDELA_FAULT asks for when main() begins, and writes the number of calls of that kind into the
/// file CANDELA_FAULT_COUNT when it has returned.
namespace {

using Main = int (*)(int, char**, char**);
using Start = int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);
using candela::faults::Call;

constexpr std::array kNames = {"allocate", "open",  "write", "fsync",     "rename",
                               "unlink",   "mkdir", "mmap",  "ftruncate", "change"};

Main program = nullptr;

int run(int count, char** arguments, char** environment) {
  const char* const text = std::getenv("CANDELA_FAULT");
  const char* const colon = text == nullptr ? nullptr : std::strchr(text, ':');
  if (colon == nullptr) return program(count, arguments, environment);
  std::size_t call = 0;
  while (call + 1 < kNames.size() &&
         std::strncmp(text, kNames[call], static_cast<std::size_t>(colon - text)) != 0)
    ++call;
  char* end = nullptr;
  const long at = std::strtol(colon + 1, &end, 10);
  const bool onwards = *end == '+';
  if (onwards) ++end;
  candela::faults::arm(static_cast<Call>(call), at, onwards, *end == ':' ? std::atoi(end + 1) : 0);
  const int status = program(count, arguments, environment);
  const long calls = candela::faults::disarm(static_cast<Call>(call));
  if (const char* const file = std::getenv("CANDELA_FAULT_COUNT")) {
    if (std::FILE* out = std::fopen(file, "w")) {
      std::fprintf(out, "%ld\n", calls);
      std::fclose(out);
    }
  }
  return status;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int __libc_start_main(Main main, int count,
                                                                        char** arguments, void (*begin)(),
                                                                        void (*end)(), void (*loaded)(),
                                                                        void* stack) {
  program = main;
  const auto start = reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"));
  return start(run, count, arguments, begin, end, loaded, stack);
}
