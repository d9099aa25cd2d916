#pragma once

#include <Block.h>
#import <Foundation/Foundation.h>
#import <dispatch/dispatch.h>
#include <emulator/object.h>
#include <stddef.h>
#include <stdint.h>

#ifndef API_AVAILABLE
#define API_AVAILABLE(...)
#define API_UNAVAILABLE(...)
#define API_DEPRECATED(...)
#endif
#ifndef NS_UNAVAILABLE
#define NS_UNAVAILABLE __attribute__((unavailable))
#endif

#ifndef NS_RETURNS_INNER_POINTER
#define NS_RETURNS_INNER_POINTER __attribute__((objc_returns_inner_pointer))
#endif
#ifndef NS_RETURNS_RETAINED
#define NS_RETURNS_RETAINED __attribute__((ns_returns_retained))
#endif

#ifdef __cplusplus
#define MTL_EXTERN extern "C"
#else
#define MTL_EXTERN extern
#endif

typedef double CFTimeInterval;
typedef NSString* NSErrorDomain;
typedef NSString* NSErrorUserInfoKey;

@protocol MTLDevice;
@protocol MTLHeap;
@protocol MTLBuffer;
@protocol MTLCommandQueue;
@protocol MTLCommandBuffer;
@protocol MTLCommandEncoder;
@protocol MTLComputeCommandEncoder;
@protocol MTLBlitCommandEncoder;
@protocol MTLComputePipelineState;
@protocol MTLLibrary;
@protocol MTLFunction;
@protocol MTLEvent;
@protocol MTLSharedEvent;
@protocol MTLFence;
