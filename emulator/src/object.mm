#include "object.h"

#import <Foundation/NSDebug.h>

#include <algorithm>
#include <array>
#include <deque>
#include <string_view>

// NOLINTBEGIN(bugprone-reserved-identifier): of the leak sanitizer, where it is linked
extern "C" void __lsan_disable(void) __attribute__((weak));
extern "C" void __lsan_enable(void) __attribute__((weak));
// NOLINTEND(bugprone-reserved-identifier)

namespace {

// Freed shells wait here, so that a message to one is noticed. The oldest is really freed when there are more
// than this.
constexpr std::size_t kQuarantine = 8192;

}  // namespace

/// What a freed object becomes. Its `_state` points at the name its class had.
@interface EmulatorFreedObject : EmulatorObject
@end

namespace emulator {
namespace {

struct Quarantine {
  std::mutex mutex;
  std::deque<EmulatorObject*> objects;
};

Quarantine& quarantine() {
  static auto* instance = new Quarantine;
  return *instance;
}

void bury(EmulatorObject* object, const char* class_name) {
  object->_state = reinterpret_cast<ObjectState*>(const_cast<char*>(class_name));
  object_setClass(object, [EmulatorFreedObject class]);
  EmulatorObject* oldest = nil;
  {
    std::lock_guard lock(quarantine().mutex);
    quarantine().objects.push_back(object);
    if (quarantine().objects.size() > kQuarantine) {
      oldest = quarantine().objects.front();
      quarantine().objects.pop_front();
    }
  }
  if (oldest) NSDeallocateObject(oldest);
}

const char* name_of_freed(EmulatorObject* object) { return reinterpret_cast<const char*>(object->_state); }

}  // namespace

void make_foundation_singletons() {
  if (__lsan_disable != nullptr) __lsan_disable();
  [NSArray class];
  if (__lsan_enable != nullptr) __lsan_enable();
}

void discard(EmulatorObject* object) { NSDeallocateObject(object); }

bool is_freed(id object) { return object && object_getClass(object) == [EmulatorFreedObject class]; }

std::string to_string(NSString* text) {
  const char* bytes = [text UTF8String];
  return bytes ? bytes : "";
}

NSString* to_ns(const std::string& text) {
  NSString* string = [NSString stringWithUTF8String:text.c_str()];
  return string ? string : @"(not UTF-8)";
}

void watch_foundation_objects() { GSDebugAllocationActive(YES); }

std::map<std::string, std::int64_t> foundation_objects() {
  State::get().settle(5);
  constexpr std::array<std::string_view, 3> kOurs = {"Emulator", "MTL", "MPS"};
  std::map<std::string, std::int64_t> live;
  Class* const classes = GSDebugAllocationClassList();
  for (Class* next = classes; *next != Nil; ++next) {
    const std::string_view name = class_getName(*next);
    const bool ours = std::any_of(kOurs.begin(), kOurs.end(), [name](std::string_view start) {
      return name.substr(0, start.size()) == start;
    });
    const int count = GSDebugAllocationCount(*next);
    if (!ours && count != 0) live.emplace(name, count);
  }
  NSZoneFree(NSDefaultMallocZone(), classes);
  return live;
}

void set_error(NSError** error, NSString* domain, NSInteger code, const std::string& description) {
  if (!error) return;
  NSDictionary* information = [NSDictionary dictionaryWithObject:to_ns(description)
                                                          forKey:NSLocalizedDescriptionKey];
  *error = [NSError errorWithDomain:domain code:code userInfo:information];
}

}  // namespace emulator

using emulator::State;

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wobjc-missing-super-calls"

@implementation EmulatorObject

- (instancetype)retain {
  __atomic_add_fetch(&_references, 1, __ATOMIC_RELAXED);
  return self;
}

- (oneway void)release {
  // `_references` counts those beyond the first, as an object is born with zeroed memory and one owner.
  if (__atomic_fetch_sub(&_references, 1, __ATOMIC_ACQ_REL) == 0) [self dealloc];
}

- (NSUInteger)retainCount {
  return static_cast<NSUInteger>(__atomic_load_n(&_references, __ATOMIC_RELAXED) + 1);
}

- (void)dealloc {
  const char* name = _state ? _state->class_name : object_getClassName(self);
  delete _state;
  emulator::bury(self, name);
}

@end

@implementation EmulatorObject (State)

- (instancetype)initWithState:(emulator::ObjectState*)state {
  self = [super init];
  _state = state;
  return self;
}

- (NSString*)label {
  const std::string label = _state->label();
  return label.empty() ? nil : emulator::to_ns(label);
}

- (void)setLabel:(NSString*)label {
  _state->set_label(emulator::to_string(label));
}

@end

@implementation EmulatorFreedObject

// Neither may throw: they are called from destructors and from autorelease pools.
- (oneway void)release {
  State::get().fault("over-release", emulator::text("-[%s release]: message sent to deallocated instance %p",
                                                    emulator::name_of_freed(self), static_cast<void*>(self)));
}

- (instancetype)retain {
  State::get().fault("over-release", emulator::text("-[%s retain]: message sent to deallocated instance %p",
                                                    emulator::name_of_freed(self), static_cast<void*>(self)));
  return self;
}

- (instancetype)autorelease {
  State::get().fault("over-release",
                     emulator::text("-[%s autorelease]: message sent to deallocated instance %p",
                                    emulator::name_of_freed(self), static_cast<void*>(self)));
  return self;
}

- (void)dealloc {
}

- (NSMethodSignature*)methodSignatureForSelector:(SEL)selector {
  emulator::refuse(emulator::text("-[%s %s]", emulator::name_of_freed(self), sel_getName(selector)).c_str(),
                   emulator::text("message sent to deallocated instance %p", static_cast<void*>(self)));
}

- (NSString*)label {
  [self methodSignatureForSelector:_cmd];
  return nil;
}

- (void)setLabel:(NSString*)label {
  (void)label;
  [self methodSignatureForSelector:_cmd];
}

@end

#pragma clang diagnostic pop
