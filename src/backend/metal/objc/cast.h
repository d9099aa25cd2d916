#pragma once

// For the `.mm` files of this folder only: from handles to the objects behind them, and strings both ways.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>

#include <string>
#include <string_view>

#include "backend/metal/objc/object.h"

namespace candela::metal::objc {

template <class T>
T native(const Object& object) {
  return static_cast<T>(object.get());
}

inline NSString* to_ns(std::string_view text) {
  return [[[NSString alloc] initWithBytes:text.data() length:text.size()
                                 encoding:NSUTF8StringEncoding] autorelease];
}

inline std::string from_ns(NSString* text) {
  const char* bytes = [text UTF8String];
  return bytes == nullptr ? std::string() : std::string(bytes);
}

inline std::string describe(NSError* error) {
  if (error == nil) return "no reason given";
  return from_ns([error localizedDescription]) + " (" + from_ns([error domain]) + " " +
         std::to_string([error code]) + ")";
}

}  // namespace candela::metal::objc
