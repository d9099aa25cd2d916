#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// What a test may ask of the stand-in for Metal, and do to it. Plain C++: any translation unit may include
/// it. All functions may be called from any thread.
namespace emulator {

/// A call that Apple's runtime or its validation layer answers with a failed assertion (which there ends the
/// process). Thrown from the Objective-C method, before it has any effect.
class ValidationError : public std::logic_error {
 public:
  ValidationError(std::string method, std::string assertion);
  /// For example `-[MTLCommandBuffer commit]`.
  const std::string& method() const { return method_; }
  /// For example `commit an already committed command buffer`.
  const std::string& assertion() const { return assertion_; }

 private:
  std::string method_, assertion_;
};

/// Something that was wrong but could not be thrown where it was noticed: a shader out of bounds (the command
/// buffer also ends in an error), an encoder freed before endEncoding, a release too many, an exception out
/// of a completed handler.
struct Fault {
  std::string
      kind;  // "shader", "over-release", "encoder-not-ended", "handler", "event", "unretained", "queue"
  std::string text;
};

/// Since the start of the process or the last `reset`.
struct Counters {
  std::uint64_t queues = 0;           // command queues made
  std::uint64_t command_buffers = 0;  // command buffers made
  std::uint64_t commits = 0;
  std::uint64_t completions = 0;            // command buffers that ended, in an error or not
  std::uint64_t errors = 0;                 // of these, in an error
  std::uint64_t waits = 0;                  // waitUntilCompleted and waitUntilScheduled
  std::uint64_t blocking_waits = 0;         // of these, those that found the work unfinished
  std::uint64_t blocked_on_full_queue = 0;  // -commandBuffer calls that had to wait for a free place
  std::uint64_t compute_encoders = 0;
  std::uint64_t blit_encoders = 0;
  std::uint64_t dispatches = 0;  // of shaders, encoded
  std::uint64_t mps_encodes = 0;
  std::uint64_t mps_kernels = 0;   // MPSKernel objects made
  std::uint64_t mps_matrices = 0;  // MPSMatrix and MPSVector objects made
  std::uint64_t pipelines = 0;
  std::uint64_t libraries = 0;
  std::uint64_t buffers = 0;             // MTLBuffer objects made
  std::uint64_t heaps = 0;               // MTLHeap objects made
  std::uint64_t untracked_heaps = 0;     // of these, without hazard tracking
  std::uint64_t failed_allocations = 0;  // newBuffer... calls that returned nil
  std::uint64_t max_in_flight = 0;       // the most uncompleted command buffers of one queue
};
Counters counters();

/// Live objects per class, by Apple's name ("MTLBuffer", "MPSMatrix", ...), classes without one left out.
/// Waits first, for at most five seconds, until every committed command buffer has completed and given up
/// what it held.
std::map<std::string, std::int64_t> live_objects();
std::int64_t live_objects(std::string_view class_name);

/// Live objects of Foundation's own classes (strings, errors, dictionaries, ...) by class, of those made
/// since watch_foundation_objects(); waits as live_objects does. What a binding makes and forgets to release
/// shows here.
void watch_foundation_objects();
std::map<std::string, std::int64_t> foundation_objects();

/// What the last -newLibraryWithSource:options:error: was asked for; nothing before the first since the last
/// reset.
struct CompileOptions {
  bool fast_math = true;               // the default, and so where no options were given
  std::uint64_t language_version = 0;  // of MTLLanguageVersion
};
std::optional<CompileOptions> last_compile_options();

/// Bytes of all live buffers and heaps.
std::size_t allocated_bytes();

std::vector<Fault> faults();
/// Returns the faults and forgets them.
std::vector<Fault> take_faults();

/// MTLCommandBufferError codes.
inline constexpr int kInternalError = 1;
inline constexpr int kTimeoutError = 2;
inline constexpr int kPageFaultError = 3;
/// What a queue answers with after a time-out or a page fault, whatever is submitted to it.
inline constexpr int kIgnoredError = 4;
inline constexpr int kOutOfMemoryError = 8;
inline constexpr int kInvalidResourceError = 9;
/// The watchdog's: an internal error (1) that says "Impacting Interactivity".
inline constexpr int kInteractivityError = 14;

/// After `after` more commits, the next `times` committed command buffers end with MTLCommandBufferError
/// `code`, none of their commands executed. After a time-out or a page fault the queue ignores whatever
/// follows (kIgnoredError), as the system does for some faults: another queue works.
void fail_command_buffers(int code, std::uint64_t after = 0, std::uint64_t times = 1);
/// After `after` more buffer or heap allocations, the next `times` return nil.
void fail_allocations(std::uint64_t after = 0, std::uint64_t times = 1);
/// After `after` more pipeline creations, the next `times` return nil with an error.
void fail_pipelines(std::uint64_t after = 0, std::uint64_t times = 1);
/// Every command buffer takes this much longer, before its first command runs; 0 is none.
void set_completion_delay(double milliseconds);
/// recommendedMaxWorkingSetSize; an allocation that would take the total past it returns nil.
void set_working_set_limit(std::uint64_t bytes);
/// maxBufferLength.
void set_max_buffer_length(std::uint64_t bytes);
/// A dispatch of more threads is killed with kInteractivityError, in whatever command buffer it is: the
/// watchdog of a GPU that drives a display. 0, the default, is no limit.
void set_watchdog(std::uint64_t threads);
/// maxTotalThreadsPerThreadgroup of pipelines made from now on, as for shaders that need many registers; at
/// most 1024.
void set_max_threads_per_pipeline(std::size_t threads);
/// MPSMatrixMultiplication gives NaN in rows where (row + 2 K) N element size reaches this: M1 and M2 corrupt
/// such rows at 2^31, the default.
void set_mps_product_limit(std::uint64_t bytes);
/// MPS's softmax gives 0 where the exact one is not-a-number, as a kernel built with fast-math may.
void set_mps_fast_math(bool on);
/// New buffers are filled with this byte (0xff, not-a-number in every float format, by default).
void set_fill_byte(std::uint8_t value);

/// Waits until no committed command buffer is left to run, at most `seconds`; false if some still are.
bool settle(double seconds = 5);

/// Forgets injections, faults, counters and compile options and puts every limit back. Live objects stay
/// counted.
void reset();

}  // namespace emulator
