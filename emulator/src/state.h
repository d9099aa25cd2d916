#pragma once

#include <atomic>
#include <cstdint>
#include <emulator/control.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace emulator {

/// What a queue tells the rest of the stand-in, so that `settle` can wait without touching Objective-C
/// objects.
struct Idleness {
  virtual ~Idleness() = default;
  /// Waits until nothing committed is left; false if `seconds` passed first.
  virtual bool wait_idle(double seconds) = 0;
};

/// Counts down to an injected failure.
struct Injection {
  std::uint64_t after = 0;
  std::uint64_t times = 0;
  int code = 0;
  bool fires() {
    if (times == 0) return false;
    if (after > 0) {
      --after;
      return false;
    }
    --times;
    return true;
  }
};

/// The limits of the emulated device: those of a small Apple-silicon machine.
struct Limits {
  std::uint64_t working_set = std::uint64_t{12} << 30;
  std::uint64_t max_buffer = std::uint64_t{8} << 30;
  std::size_t max_threads_per_pipeline = 1024;
  double completion_delay_ms = 0;
  std::uint8_t fill_byte = 0xff;
  std::uint64_t watchdog_threads = 0;
  bool mps_fast_math = false;
  std::uint64_t mps_product = std::uint64_t{1} << 31;
};

/// The one place with process-wide state: the registry behind the emulated device.
class State {
 public:
  static State& get();

  void count(std::uint64_t Counters::*member, std::uint64_t by = 1);
  void count_in_flight(std::uint64_t in_flight);
  Counters counters();

  void born(const char* class_name);
  void died(const char* class_name);
  std::map<std::string, std::int64_t> live();

  void fault(std::string kind, std::string text);
  std::vector<Fault> faults(bool forget);

  /// Adds to the allocated bytes; false (and nothing added) past the working-set limit or on an injected
  /// failure.
  bool allocate(std::uint64_t bytes);
  void free(std::uint64_t bytes);
  std::uint64_t allocated();

  Limits limits();
  void set_limits(const std::function<void(Limits&)>& change);

  void inject_command_buffers(Injection injection);
  void inject_allocations(Injection injection);
  void inject_pipelines(Injection injection);
  /// The error code for the command buffer being committed; 0 for none.
  int next_command_buffer_error();
  bool next_pipeline_fails();

  void set_compile_options(const CompileOptions& options);
  std::optional<CompileOptions> compile_options();

  void add_queue(const std::shared_ptr<Idleness>& queue);
  bool settle(double seconds);
  void reset();

 private:
  std::mutex mutex_;
  Counters counters_;
  std::map<std::string, std::int64_t> live_;
  std::vector<Fault> faults_;
  std::uint64_t allocated_ = 0;
  Limits limits_;
  Injection command_buffers_, allocations_, pipelines_;
  std::optional<CompileOptions> compile_options_;
  std::vector<std::weak_ptr<Idleness>> queues_;
};

/// True on a thread that executes command buffers.
bool on_worker_thread();
void mark_worker_thread();

/// printf-style text, for assertions.
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// Throws ValidationError.
[[noreturn]] void refuse(const char* method, const std::string& assertion);
inline void check(bool condition, const char* method, const char* assertion) {
  if (!condition) refuse(method, assertion);
}

/// References to the device held by the code under test; see device.mm.
std::int64_t device_references();

}  // namespace emulator
