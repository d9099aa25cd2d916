#pragma once

#import <Foundation/Foundation.h>

#include <emulator/object.h>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "state.h"

namespace emulator {

/// The C++ side of an object: everything but the reference count. Deleted before the Objective-C shell goes
/// to quarantine.
struct ObjectState {
  explicit ObjectState(const char* apple_name) : class_name(apple_name) { State::get().born(apple_name); }
  virtual ~ObjectState() { State::get().died(class_name); }
  ObjectState(const ObjectState& other) : class_name(other.class_name), label_(other.label()) {
    State::get().born(class_name);
  }
  ObjectState& operator=(const ObjectState&) = delete;

  std::string label() const {
    std::lock_guard lock(label_mutex_);
    return label_;
  }
  void set_label(std::string label) {
    std::lock_guard lock(label_mutex_);
    label_ = std::move(label);
  }

  const char* const class_name;

 private:
  mutable std::mutex label_mutex_;
  std::string label_;
};

/// The state of an object of the stand-in, as T. The caller knows the class.
template <class T>
T& state_of(id object) {
  return *static_cast<T*>(static_cast<EmulatorObject*>(object)->_state);
}

/// What Foundation makes once, when its collections are first used, and keeps: made while the leak sanitizer
/// looks away, so that it can look at everything else.
void make_foundation_singletons();

/// Frees an object whose initialiser failed before it had a state; it never counted as live.
void discard(EmulatorObject* object);

/// Runs `make`, which validates and returns the state of `object`; frees `object` if it throws.
template <class Make>
ObjectState* guarded(EmulatorObject* object, Make&& make) {
  try {
    return make();
  } catch (...) {
    discard(object);
    throw;
  }
}

/// True for an object that was freed and is still in quarantine.
bool is_freed(id object);

/// A counted (or, for command buffers with unretained references, plain) reference.
class Ref {
 public:
  Ref() = default;
  explicit Ref(id object, bool owned = true) : object_(owned ? [object retain] : object), owned_(owned) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nil)), owned_(other.owned_) {}
  Ref& operator=(Ref&& other) noexcept {
    std::swap(object_, other.object_);
    std::swap(owned_, other.owned_);
    return *this;
  }
  ~Ref() {
    if (owned_) [object_ release];
  }
  id get() const { return object_; }

 private:
  id object_ = nil;
  bool owned_ = true;
};

/// The bytes of a string; empty for nil.
std::string to_string(NSString* text);
/// An autoreleased string.
NSString* to_ns(const std::string& text);
/// An autoreleased error, put into `error` unless that is null.
void set_error(NSError** error, NSString* domain, NSInteger code, const std::string& description);

}  // namespace emulator

@interface EmulatorObject (State)
/// Takes ownership of `state`. The object then counts as live.
- (instancetype)initWithState:(emulator::ObjectState*)state;
- (NSString*)label;
- (void)setLabel:(NSString*)label;
@end
