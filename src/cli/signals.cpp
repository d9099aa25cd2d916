#include "cli/signals.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <fcntl.h>
#include <initializer_list>
#include <string_view>
#include <unistd.h>

#include "cli/usage.h"

namespace candela::cli {
namespace {

constexpr int kStops[] = {SIGINT, SIGTERM, SIGHUP};

volatile std::sig_atomic_t received_signal = 0;  // a handler can reach nothing else

void note_signal(int signal) {
  if (received_signal == 0) received_signal = signal;
}

/// Models are mapped into memory: a page of a file that has become shorter meanwhile is no memory any more.
void end_at_bus_error(int) {
  constexpr std::string_view kText =
      "candela: error: a file that was being read (model, adapter or data) became shorter meanwhile; "
      "try again once it is complete\n";
  static_cast<void>(::write(STDERR_FILENO, kText.data(), kText.size()) < 0);
  ::_exit(kFailed);
}

/// Handlers run on a stack of their own: oneDNN's generated kernels keep other values in the stack pointer.
void make_signal_stack() {
  alignas(std::max_align_t) static std::array<std::byte, std::size_t{64} << 10U> memory;  // AMX state: 11 KiB
  stack_t stack{};
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  ::sigaltstack(&stack, nullptr);
}

void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  ::sigaction(signal, &action, nullptr);
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

void prepare_process() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is `stream`. For reading only: a write to it fails, as it should.
    if (::open("/dev/null", O_RDONLY) != stream) return;
  }
  make_signal_stack();
  handle(SIGPIPE, SIG_IGN, 0);
  handle(SIGXFSZ, SIG_IGN, 0);
  handle(SIGBUS, end_at_bus_error, 0);
}

StopSignals::StopSignals() {
  received_signal = 0;
  // RESETHAND: the second one has its usual effect. RESTART: no read or write is cut short.
  for (const int signal : kStops) {
    if (signal != SIGHUP || !is_ignored(signal)) handle(signal, note_signal, SA_RESETHAND | SA_RESTART);
  }
}

StopSignals::~StopSignals() {
  for (const int signal : kStops) {
    if (signal != SIGHUP || !is_ignored(signal)) handle(signal, SIG_DFL, 0);
  }
}

void StopSignals::hold() const {
  for (const int signal : kStops) {
    if (!is_ignored(signal)) handle(signal, note_signal, SA_RESTART);
  }
}

int StopSignals::received() {
  return received_signal;
}

const char* StopSignals::name(int signal) {
  return signal == SIGINT ? "SIGINT" : signal == SIGTERM ? "SIGTERM" : "SIGHUP";
}

}  // namespace candela::cli
