#pragma once
// What the stand-in for Metal offers its Objective-C side: the kernels that were translated from `.metal`
// files at build time, and a way to run one over a grid on the CPU. Plain C++20, no Objective-C.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace emulator {

inline constexpr std::size_t kMaxBuffers = 31;               // [[buffer(0)]] .. [[buffer(30)]]
inline constexpr std::size_t kMaxThreadgroupArguments = 31;  // [[threadgroup(0)]] ..
inline constexpr std::size_t kMaxThreadsPerThreadgroup = 1024;
inline constexpr std::size_t kMaxThreadgroupMemory = 32 * 1024;  // bytes, static plus dynamic
inline constexpr std::uint32_t kSimdWidth = 32;

/// A shader, or the way it was launched, broke a rule. The text names the kernel, what was expected and what
/// came; for an access also the argument, the byte offset, the size of the binding and the position of the
/// thread.
class ShaderFault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class ArgumentKind : std::uint8_t {
  Device,       // `device T*` or `device T&`: bound by setBuffer or setBytes
  Constant,     // `constant T*` or `constant T&`: bound by setBuffer or setBytes
  Threadgroup,  // `threadgroup T*`: its length is set by setThreadgroupMemoryLength
};

/// One parameter of a kernel that the host binds.
struct Argument {
  ArgumentKind kind = ArgumentKind::Device;
  std::uint32_t index = 0;    // n of [[buffer(n)]] or [[threadgroup(n)]]
  std::string_view name;      // parameter name
  std::string_view type;      // element type as written in the source
  bool is_const = false;      // the shader cannot write through it
  bool is_reference = false;  // `T&`: at least `element_bytes` must be bound
  std::size_t element_bytes = 0;
  std::size_t alignment = 0;   // of the element type, in bytes
  std::string_view condition;  // function constant that enables the parameter, or empty
};

/// The scalar types a function constant may have.
enum class ScalarType : std::uint8_t {
  Bool,
  Char,
  Uchar,
  Short,
  Ushort,
  Int,
  Uint,
  Long,
  Ulong,
  Half,
  Bfloat,
  Float
};

std::string_view name_of(ScalarType type);
std::size_t size_of(ScalarType type);

/// `constant T name [[function_constant(index)]];` as a kernel sees it.
struct FunctionConstant {
  std::uint32_t index = 0;
  std::string_view name;
  ScalarType type = ScalarType::Bool;
  bool required = true;  // used by the kernel without is_function_constant_defined
};

/// The values of MTLFunctionConstantValues. By index or by name; a name wins over an index, the last set of
/// each wins.
class FunctionConstants {
 public:
  /// Copies size_of(type) bytes from `value`.
  void set(std::uint32_t index, ScalarType type, const void* value);
  void set(std::string_view name, ScalarType type, const void* value);
  void reset();

  struct Value {
    ScalarType type = ScalarType::Bool;
    std::array<std::byte, 8> bytes{};
  };
  /// The value for a constant of that index and name, or nullptr.
  const Value* find(std::uint32_t index, std::string_view name) const;

 private:
  struct Entry {
    std::optional<std::uint32_t> index;
    std::string name;
    Value value;
  };
  std::vector<Entry> entries_;
};

/// What is bound at one buffer index. `data` already includes the offset; `bytes` is what is left from there.
struct Binding {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  bool bound = false;
  std::string label;  // the buffer's label, for fault texts
};

struct Size3 {
  std::uint32_t x = 1, y = 1, z = 1;
  std::uint64_t count() const { return std::uint64_t{x} * y * z; }
  friend bool operator==(const Size3&, const Size3&) = default;
};

/// dispatchThreadgroups gives the first two; dispatchThreads also `threads`, and then groups at the far edges
/// are smaller.
struct Grid {
  Size3 threadgroups;
  Size3 threads_per_threadgroup;
  std::optional<Size3> threads;

  static Grid of_threadgroups(Size3 groups, Size3 threads_per_group) {
    return {groups, threads_per_group, std::nullopt};
  }
  static Grid of_threads(Size3 threads, Size3 threads_per_group);
};

struct Launch;        // internal: runtime/execution.h
struct SharedLayout;  // internal

/// A kernel as its pipeline state sees it. Lives as long as the program.
struct Kernel {
  std::string_view name;    // function name or host_name
  std::string_view source;  // file it came from, as given to candela_translate_metal
  std::span<const Argument> arguments;
  std::span<const FunctionConstant> function_constants;  // those that the kernel can reach
  std::size_t max_threads = kMaxThreadsPerThreadgroup;   // [[max_total_threads_per_threadgroup(n)]]

  /// Bytes of `threadgroup` variables declared in the kernel (staticThreadgroupMemoryLength).
  std::size_t static_threadgroup_bytes() const;

  // Set by the generated code.
  const SharedLayout* shared = nullptr;
  void (*apply_constants)(const FunctionConstants&) = nullptr;  // for the calling OS thread
  void (*entry)(Launch&) = nullptr;
};

/// A translated file. `hash` is source_hash of the file's text, `flat_hash` that of the text with its quoted
/// includes put in place (what `translate_metal --flatten` writes, and what a program embeds for
/// newLibraryWithSource).
struct ShaderSource {
  std::string_view file;
  std::uint64_t hash = 0;
  std::uint64_t flat_hash = 0;
};

/// FNV-1a, 64 bits.
std::uint64_t source_hash(std::string_view text);

std::vector<const Kernel*> kernels();  // sorted by name
std::vector<const Kernel*> kernels(const ShaderSource& source);
const Kernel* find_kernel(std::string_view name);  // nullptr if there is none
std::vector<const ShaderSource*> sources();
/// The translated file whose text this is, plain or flattened; nullptr if the text was never translated.
const ShaderSource* find_source(std::string_view text);

/// The text of a pipeline error, if this kernel cannot be specialised with these constants (a required one is
/// missing or has another type); empty if it can.
std::string check_constants(const Kernel& kernel, const FunctionConstants& constants);

/// In which order the threads of a group start, and go on after a barrier. A shader that is right does not
/// depend on it.
enum class Order : std::uint8_t { Forward, Reverse, Shuffled };

struct Options {
  Order order = Order::Forward;
  std::uint64_t seed = 0;   // of Shuffled
  unsigned os_threads = 0;  // 0: as many as the machine has; 1: the calling thread alone
  /// Counts what launches read (`traffic`).
  bool traffic = false;
  /// f32 subnormals are zero for shaders, in and out, as on Apple's GPUs.
  bool flush_subnormals = true;
};
/// Process-wide defaults; read from EMULATOR_ORDER (forward, reverse, shuffled:SEED) and EMULATOR_THREADS at
/// the first launch.
Options options();
void set_options(const Options& options);

/// Accesses of one binding through pointers, of a simdgroup's matrix loads each element once.
struct BufferTraffic {
  std::uint64_t accesses = 0, bytes = 0;
};
/// What the launches of a kernel did while Options::traffic was on.
struct Traffic {
  std::array<BufferTraffic, kMaxBuffers> buffers{};
  /// Of simdgroup matrices from threadgroup memory.
  std::uint64_t matrix_loads = 0;
  /// Cycles that these loads take beyond the fewest possible: a load takes as many as the busiest of 32 banks
  /// of 4 bytes has words.
  std::uint64_t bank_conflicts = 0;
};
/// Of a kernel since the last call with its name; forgets it.
Traffic take_traffic(std::string_view kernel);

/// Runs the kernel over the grid and returns when every thread has ended. `buffers[n]` is bound at
/// [[buffer(n)]]; `threadgroup_lengths[n]` is the length in bytes for [[threadgroup(n)]]. Safe to call from
/// several OS threads at once. Throws ShaderFault; memory written before the fault stays written.
void launch(const Kernel& kernel, std::span<const Binding> buffers,
            std::span<const std::size_t> threadgroup_lengths, const FunctionConstants& constants,
            const Grid& grid);

}  // namespace emulator
