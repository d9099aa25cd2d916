#include "state.h"

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdio>

// Read by the leak sanitizer where it is linked: the tables of classes and methods that the Objective-C
// runtime keeps for the life of the process. Objects come from elsewhere (NSAllocateObject), so that a leaked
// one still shows. NOLINTBEGIN(bugprone-reserved-identifier): the sanitizers look for these names
extern "C" const char* __lsan_default_suppressions();
const char* __lsan_default_suppressions() {
  return "leak:objc_malloc\nleak:class_copyMethodList\n";
}

// Likewise for the thread sanitizer: both libraries lock around +initialize, in either order, on the thread
// that comes first.
extern "C" const char* __tsan_default_suppressions();
const char* __tsan_default_suppressions() {
  return "deadlock:libobjc\ndeadlock:libgnustep-base\n";
}
// NOLINTEND(bugprone-reserved-identifier)

namespace emulator {
namespace {

thread_local bool worker_thread = false;

}  // namespace

State& State::get() {
  // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): outlives every thread and every static object
  static State* state = new State;
  return *state;
}

void State::count(std::uint64_t Counters::*member, std::uint64_t by) {
  std::lock_guard lock(mutex_);
  counters_.*member += by;
}

void State::count_in_flight(std::uint64_t in_flight) {
  std::lock_guard lock(mutex_);
  counters_.max_in_flight = std::max(counters_.max_in_flight, in_flight);
}

Counters State::counters() {
  std::lock_guard lock(mutex_);
  return counters_;
}

void State::born(const char* class_name) {
  std::lock_guard lock(mutex_);
  ++live_[class_name];
}

void State::died(const char* class_name) {
  std::lock_guard lock(mutex_);
  if (--live_[class_name] == 0) live_.erase(class_name);
}

std::map<std::string, std::int64_t> State::live() {
  std::lock_guard lock(mutex_);
  return live_;
}

void State::fault(std::string kind, std::string text) {
  std::lock_guard lock(mutex_);
  faults_.push_back({std::move(kind), std::move(text)});
}

std::vector<Fault> State::faults(bool forget) {
  std::lock_guard lock(mutex_);
  std::vector<Fault> result = faults_;
  if (forget) faults_.clear();
  return result;
}

bool State::allocate(std::uint64_t bytes) {
  std::lock_guard lock(mutex_);
  if (allocations_.fires() || bytes > limits_.working_set || allocated_ > limits_.working_set - bytes) {
    ++counters_.failed_allocations;
    return false;
  }
  allocated_ += bytes;
  return true;
}

void State::free(std::uint64_t bytes) {
  std::lock_guard lock(mutex_);
  allocated_ -= bytes;
}

std::uint64_t State::allocated() {
  std::lock_guard lock(mutex_);
  return allocated_;
}

Limits State::limits() {
  std::lock_guard lock(mutex_);
  return limits_;
}

void State::set_limits(const std::function<void(Limits&)>& change) {
  std::lock_guard lock(mutex_);
  change(limits_);
}

void State::inject_command_buffers(Injection injection) {
  std::lock_guard lock(mutex_);
  command_buffers_ = injection;
}

void State::inject_allocations(Injection injection) {
  std::lock_guard lock(mutex_);
  allocations_ = injection;
}

void State::inject_pipelines(Injection injection) {
  std::lock_guard lock(mutex_);
  pipelines_ = injection;
}

int State::next_command_buffer_error() {
  std::lock_guard lock(mutex_);
  return command_buffers_.fires() ? command_buffers_.code : 0;
}

bool State::next_pipeline_fails() {
  std::lock_guard lock(mutex_);
  return pipelines_.fires();
}

void State::set_compile_options(const CompileOptions& options) {
  std::lock_guard lock(mutex_);
  compile_options_ = options;
}

std::optional<CompileOptions> State::compile_options() {
  std::lock_guard lock(mutex_);
  return compile_options_;
}

void State::add_queue(const std::shared_ptr<Idleness>& queue) {
  std::lock_guard lock(mutex_);
  std::erase_if(queues_, [](const std::weak_ptr<Idleness>& old) { return old.expired(); });
  queues_.push_back(queue);
}

bool State::settle(double seconds) {
  if (on_worker_thread()) return false;  // a completed handler would wait for itself
  std::vector<std::weak_ptr<Idleness>> queues;
  {
    std::lock_guard lock(mutex_);
    queues = queues_;
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  bool idle = true;
  for (const auto& weak : queues) {
    const std::chrono::duration<double> left = deadline - std::chrono::steady_clock::now();
    if (const auto queue = weak.lock()) idle &= queue->wait_idle(std::max(0.0, left.count()));
  }
  return idle;
}

void State::reset() {
  settle(5);
  std::lock_guard lock(mutex_);
  counters_ = {};
  faults_.clear();
  limits_ = {};
  command_buffers_ = allocations_ = pipelines_ = {};
  compile_options_.reset();
}

bool on_worker_thread() {
  return worker_thread;
}
void mark_worker_thread() {
  worker_thread = true;
}

std::string text(const char* format, ...) {
  char buffer[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return buffer;
}

void refuse(const char* method, const std::string& assertion) {
  throw ValidationError(method, assertion);
}

ValidationError::ValidationError(std::string method, std::string assertion)
    : std::logic_error(method + ": failed assertion `" + assertion + "'"),
      method_(std::move(method)),
      assertion_(std::move(assertion)) {}

Counters counters() {
  return State::get().counters();
}

std::map<std::string, std::int64_t> live_objects() {
  State::get().settle(5);
  auto live = State::get().live();
  if (const std::int64_t references = device_references()) live["MTLDevice"] = references;
  return live;
}

std::int64_t live_objects(std::string_view class_name) {
  const auto live = live_objects();
  const auto found = live.find(std::string(class_name));
  return found == live.end() ? 0 : found->second;
}

std::optional<CompileOptions> last_compile_options() {
  return State::get().compile_options();
}

std::size_t allocated_bytes() {
  return State::get().allocated();
}
std::vector<Fault> faults() {
  return State::get().faults(false);
}
std::vector<Fault> take_faults() {
  return State::get().faults(true);
}

void fail_command_buffers(int code, std::uint64_t after, std::uint64_t times) {
  State::get().inject_command_buffers({after, times, code});
}
void fail_allocations(std::uint64_t after, std::uint64_t times) {
  State::get().inject_allocations({after, times, 0});
}
void fail_pipelines(std::uint64_t after, std::uint64_t times) {
  State::get().inject_pipelines({after, times, 0});
}

void set_completion_delay(double milliseconds) {
  State::get().set_limits([=](Limits& limits) { limits.completion_delay_ms = milliseconds; });
}
void set_working_set_limit(std::uint64_t bytes) {
  State::get().set_limits([=](Limits& limits) { limits.working_set = bytes; });
}
void set_max_buffer_length(std::uint64_t bytes) {
  State::get().set_limits([=](Limits& limits) { limits.max_buffer = bytes; });
}
void set_max_threads_per_pipeline(std::size_t threads) {
  State::get().set_limits([=](Limits& limits) { limits.max_threads_per_pipeline = threads; });
}
void set_mps_fast_math(bool on) {
  State::get().set_limits([&](Limits& limits) { limits.mps_fast_math = on; });
}
void set_watchdog(std::uint64_t threads) {
  State::get().set_limits([&](Limits& limits) { limits.watchdog_threads = threads; });
}
void set_mps_product_limit(std::uint64_t bytes) {
  State::get().set_limits([&](Limits& limits) { limits.mps_product = bytes; });
}
void set_fill_byte(std::uint8_t value) {
  State::get().set_limits([=](Limits& limits) { limits.fill_byte = value; });
}

bool settle(double seconds) {
  return State::get().settle(seconds);
}
void reset() {
  State::get().reset();
}

}  // namespace emulator
