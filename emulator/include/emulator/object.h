#pragma once

#import <Foundation/Foundation.h>

namespace emulator {
struct ObjectState;
}

/// Base of every Metal and MPS object of the stand-in: counts its references itself (so that the thread
/// sanitizer sees the order), counts live objects per class, and keeps freed objects in quarantine so that a
/// message to one is reported instead of being undefined. Never named in code under test.
@interface EmulatorObject : NSObject {
 @public
  long long _references;
  emulator::ObjectState* _state;
}
@end
