#pragma once

#import <Foundation/Foundation.h>

// The part of libdispatch that a Metal program needs to hand a compiled library to the device: dispatch_data.
// There are no dispatch queues in the stand-in; only a null queue is accepted.

@protocol OS_dispatch_data <NSObject>
@end
typedef NSObject<OS_dispatch_data>* dispatch_data_t;

@protocol OS_dispatch_queue <NSObject>
@end
typedef NSObject<OS_dispatch_queue>* dispatch_queue_t;

typedef void (^dispatch_block_t)(void);

#ifdef __cplusplus
extern "C" {
#endif

/// Copies the bytes (the null block); Apple's value for the default destructor.
#define DISPATCH_DATA_DESTRUCTOR_DEFAULT ((dispatch_block_t)0)

/// Returns an owned (+1) object over `size` bytes. With the default destructor the bytes are copied; with a
/// block they are borrowed until the object dies, and the block is called then. `queue` must be null.
dispatch_data_t dispatch_data_create(const void* buffer, size_t size, dispatch_queue_t queue,
                                     dispatch_block_t destructor);
size_t dispatch_data_get_size(dispatch_data_t data);
void dispatch_release(id object);
void dispatch_retain(id object);

#ifdef __cplusplus
}
#endif
