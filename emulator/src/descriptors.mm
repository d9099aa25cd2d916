// The plain value objects: properties with Apple's defaults.

#include "objects.h"

namespace emulator {
namespace {

struct CompileOptionsState final : ObjectState {
  CompileOptionsState() : ObjectState("MTLCompileOptions") {}
  CompileOptionsState(const CompileOptionsState& other)
      : ObjectState(other),
        macros(other.macros.get()),
        math_mode(other.math_mode),
        functions(other.functions),
        version(other.version),
        level(other.level),
        invariance(other.invariance) {}
  Ref macros;
  MTLMathMode math_mode = MTLMathModeFast;
  MTLMathFloatingPointFunctions functions = MTLMathFloatingPointFunctionsFast;
  MTLLanguageVersion version = MTLLanguageVersion3_1;
  MTLLibraryOptimizationLevel level = MTLLibraryOptimizationLevelDefault;
  BOOL invariance = NO;
};

struct HeapDescriptorState final : ObjectState {
  HeapDescriptorState() : ObjectState("MTLHeapDescriptor") {}
  NSUInteger size = 0;
  MTLStorageMode storage = MTLStorageModePrivate;
  MTLCPUCacheMode cache = MTLCPUCacheModeDefaultCache;
  MTLHazardTrackingMode tracking = MTLHazardTrackingModeDefault;
  MTLHeapType type = MTLHeapTypeAutomatic;
};

struct CommandBufferDescriptorState final : ObjectState {
  CommandBufferDescriptorState() : ObjectState("MTLCommandBufferDescriptor") {}
  BOOL retained = YES;
  MTLCommandBufferErrorOption errors = MTLCommandBufferErrorOptionNone;
};

struct PipelineDescriptorState final : ObjectState {
  PipelineDescriptorState() : ObjectState("MTLComputePipelineDescriptor") {}
  PipelineDescriptorState(const PipelineDescriptorState& other)
      : ObjectState(other),
        function(other.function.get()),
        multiple(other.multiple),
        threads(other.threads) {}
  Ref function;
  BOOL multiple = NO;
  NSUInteger threads = 0;
};

}  // namespace
}  // namespace emulator

using emulator::CommandBufferDescriptorState;
using emulator::CompileOptionsState;
using emulator::HeapDescriptorState;
using emulator::PipelineDescriptorState;
using emulator::state_of;

@implementation MTLCompileOptions

- (instancetype)init {
  return [self initWithState:new CompileOptionsState];
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  return
      [[MTLCompileOptions alloc] initWithState:new CompileOptionsState(state_of<CompileOptionsState>(self))];
}
- (NSDictionary*)preprocessorMacros {
  return state_of<CompileOptionsState>(self).macros.get();
}
- (void)setPreprocessorMacros:(NSDictionary*)macros {
  NSDictionary* copy = [macros copy];
  state_of<CompileOptionsState>(self).macros = emulator::Ref(copy);
  [copy release];
}
- (BOOL)fastMathEnabled {
  return state_of<CompileOptionsState>(self).math_mode == MTLMathModeFast;
}
- (void)setFastMathEnabled:(BOOL)enabled {
  state_of<CompileOptionsState>(self).math_mode = enabled ? MTLMathModeFast : MTLMathModeSafe;
}
- (MTLMathMode)mathMode {
  return state_of<CompileOptionsState>(self).math_mode;
}
- (void)setMathMode:(MTLMathMode)mode {
  state_of<CompileOptionsState>(self).math_mode = mode;
}
- (MTLMathFloatingPointFunctions)mathFloatingPointFunctions {
  return state_of<CompileOptionsState>(self).functions;
}
- (void)setMathFloatingPointFunctions:(MTLMathFloatingPointFunctions)functions {
  state_of<CompileOptionsState>(self).functions = functions;
}
- (MTLLanguageVersion)languageVersion {
  return state_of<CompileOptionsState>(self).version;
}
- (void)setLanguageVersion:(MTLLanguageVersion)version {
  state_of<CompileOptionsState>(self).version = version;
}
- (MTLLibraryOptimizationLevel)optimizationLevel {
  return state_of<CompileOptionsState>(self).level;
}
- (void)setOptimizationLevel:(MTLLibraryOptimizationLevel)level {
  state_of<CompileOptionsState>(self).level = level;
}
- (BOOL)preserveInvariance {
  return state_of<CompileOptionsState>(self).invariance;
}
- (void)setPreserveInvariance:(BOOL)preserve {
  state_of<CompileOptionsState>(self).invariance = preserve;
}

@end

@implementation MTLHeapDescriptor

- (instancetype)init {
  return [self initWithState:new HeapDescriptorState];
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  return
      [[MTLHeapDescriptor alloc] initWithState:new HeapDescriptorState(state_of<HeapDescriptorState>(self))];
}
- (NSUInteger)size {
  return state_of<HeapDescriptorState>(self).size;
}
- (void)setSize:(NSUInteger)size {
  state_of<HeapDescriptorState>(self).size = size;
}
- (MTLStorageMode)storageMode {
  return state_of<HeapDescriptorState>(self).storage;
}
- (void)setStorageMode:(MTLStorageMode)mode {
  state_of<HeapDescriptorState>(self).storage = mode;
}
- (MTLCPUCacheMode)cpuCacheMode {
  return state_of<HeapDescriptorState>(self).cache;
}
- (void)setCpuCacheMode:(MTLCPUCacheMode)mode {
  state_of<HeapDescriptorState>(self).cache = mode;
}
- (MTLHazardTrackingMode)hazardTrackingMode {
  return state_of<HeapDescriptorState>(self).tracking;
}
- (void)setHazardTrackingMode:(MTLHazardTrackingMode)mode {
  state_of<HeapDescriptorState>(self).tracking = mode;
}
- (MTLResourceOptions)resourceOptions {
  return static_cast<MTLResourceOptions>((self.storageMode << MTLResourceStorageModeShift) |
                                         self.cpuCacheMode |
                                         (self.hazardTrackingMode << MTLResourceHazardTrackingModeShift));
}
- (void)setResourceOptions:(MTLResourceOptions)options {
  self.storageMode = static_cast<MTLStorageMode>((options >> MTLResourceStorageModeShift) & 0xf);
  self.cpuCacheMode = static_cast<MTLCPUCacheMode>(options & 0xf);
  self.hazardTrackingMode = static_cast<MTLHazardTrackingMode>(options >> MTLResourceHazardTrackingModeShift);
}
- (MTLHeapType)type {
  return state_of<HeapDescriptorState>(self).type;
}
- (void)setType:(MTLHeapType)type {
  state_of<HeapDescriptorState>(self).type = type;
}

@end

@implementation MTLCommandBufferDescriptor

- (instancetype)init {
  return [self initWithState:new CommandBufferDescriptorState];
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  return [[MTLCommandBufferDescriptor alloc]
      initWithState:new CommandBufferDescriptorState(state_of<CommandBufferDescriptorState>(self))];
}
- (BOOL)retainedReferences {
  return state_of<CommandBufferDescriptorState>(self).retained;
}
- (void)setRetainedReferences:(BOOL)retained {
  state_of<CommandBufferDescriptorState>(self).retained = retained;
}
- (MTLCommandBufferErrorOption)errorOptions {
  return state_of<CommandBufferDescriptorState>(self).errors;
}
- (void)setErrorOptions:(MTLCommandBufferErrorOption)options {
  state_of<CommandBufferDescriptorState>(self).errors = options;
}

@end

@implementation MTLComputePipelineDescriptor
@dynamic label;

- (instancetype)init {
  return [self initWithState:new PipelineDescriptorState];
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  return [[MTLComputePipelineDescriptor alloc]
      initWithState:new PipelineDescriptorState(state_of<PipelineDescriptorState>(self))];
}
- (id<MTLFunction>)computeFunction {
  return state_of<PipelineDescriptorState>(self).function.get();
}
- (void)setComputeFunction:(id<MTLFunction>)function {
  state_of<PipelineDescriptorState>(self).function = emulator::Ref(function);
}
- (BOOL)threadGroupSizeIsMultipleOfThreadExecutionWidth {
  return state_of<PipelineDescriptorState>(self).multiple;
}
- (void)setThreadGroupSizeIsMultipleOfThreadExecutionWidth:(BOOL)multiple {
  state_of<PipelineDescriptorState>(self).multiple = multiple;
}
- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return state_of<PipelineDescriptorState>(self).threads;
}
- (void)setMaxTotalThreadsPerThreadgroup:(NSUInteger)threads {
  state_of<PipelineDescriptorState>(self).threads = threads;
}
- (void)reset {
  PipelineDescriptorState& state = state_of<PipelineDescriptorState>(self);
  state.function = emulator::Ref();
  state.multiple = NO;
  state.threads = 0;
  [self setLabel:nil];
}

@end
