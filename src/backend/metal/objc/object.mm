#include "backend/metal/objc/object.h"

#import <Foundation/Foundation.h>

namespace candela::metal::objc {

void Object::retain() const { [static_cast<id>(object_) retain]; }

void Object::release() {
  [static_cast<id>(object_) release];
  object_ = nullptr;
}

AutoreleasePool::AutoreleasePool() : pool_([[NSAutoreleasePool alloc] init]) {}

AutoreleasePool::~AutoreleasePool() { [static_cast<NSAutoreleasePool*>(pool_) drain]; }

}  // namespace candela::metal::objc
