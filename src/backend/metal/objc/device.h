#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "backend/metal/objc/object.h"

namespace candela::metal::objc {

/// MTLBuffer with shared storage: host and GPU see the same memory.
class Buffer : public Object {
 public:
  Buffer() = default;
  static Buffer adopt(void* owned) { return Buffer(owned, Ownership::Adopt); }
  /// Another reference to a buffer known by its MemoryBlock::native.
  static Buffer share(void* borrowed) { return Buffer(borrowed, Ownership::Share); }

  void* contents() const;
  std::size_t length() const;
  void set_label(std::string_view label);

 private:
  Buffer(void* object, Ownership ownership) : Object(object, ownership) {}
};

/// MTLHeap with shared storage and hazard tracking: many small buffers without a page each.
class Heap : public Object {
 public:
  Heap() = default;
  static Heap adopt(void* owned) { return Heap(owned); }

  /// An empty handle when the heap is full.
  Buffer new_buffer(std::size_t bytes);
  std::size_t size() const;
  std::size_t used() const;

 private:
  explicit Heap(void* owned) : Object(owned, Ownership::Adopt) {}
};

/// MTLSharedEvent: a number that rises, signalled by the GPU, waited for by the host or another command
/// buffer.
class Event : public Object {
 public:
  Event() = default;
  static Event adopt(void* owned) { return Event(owned); }

  std::uint64_t value() const;

 private:
  explicit Event(void* owned) : Object(owned, Ownership::Adopt) {}
};

class CommandQueue;
class Library;
class Pipeline;
class FunctionConstants;

/// MTLDevice.
class Device : public Object {
 public:
  Device() = default;
  /// An empty handle on a machine without a Metal device.
  static Device system_default();

  std::string name() const;
  bool unified_memory() const;
  /// Apple7 (M1, A14) and later: simdgroup matrices.
  bool has_simdgroup_matrix() const;
  bool supports_mps() const;
  std::size_t recommended_working_set() const;
  std::size_t max_buffer_length() const;
  std::size_t allocated() const;

  /// An empty handle when memory is short.
  Buffer new_buffer(std::size_t bytes) const;
  /// A buffer over existing memory; pointer and length are multiples of the page size. `released` is called
  /// when the buffer is deallocated: the last reference, those of command buffers among them, is gone. An
  /// empty handle when the system refuses; we take it that `released` is not called then.
  Buffer new_buffer_over(void* data, std::size_t bytes, std::function<void()> released) const;
  Heap new_heap(std::size_t bytes) const;
  Event new_event() const;
  /// Throws DeviceError when there is none to be had.
  CommandQueue new_queue(std::size_t max_command_buffers) const;
  /// A library from source text, as Metal 3.0, fast-math off. Throws DeviceError with the compiler's words.
  Library new_library_from_source(std::string_view source) const;
  /// A library from the bytes of a metallib. Throws DeviceError.
  Library new_library_from_data(const void* data, std::size_t bytes) const;
  /// Throws DeviceError naming the function.
  Pipeline new_pipeline(const Library& library, const std::string& function,
                        const FunctionConstants& constants) const;

 private:
  explicit Device(void* owned) : Object(owned, Ownership::Adopt) {}
};

}  // namespace candela::metal::objc
