#import <dispatch/dispatch.h>

#include "objects.h"

namespace emulator {
namespace {

std::optional<ScalarType> scalar_type(MTLDataType type) {
  switch (type) {
    case MTLDataTypeBool:
      return ScalarType::Bool;
    case MTLDataTypeChar:
      return ScalarType::Char;
    case MTLDataTypeUChar:
      return ScalarType::Uchar;
    case MTLDataTypeShort:
      return ScalarType::Short;
    case MTLDataTypeUShort:
      return ScalarType::Ushort;
    case MTLDataTypeInt:
      return ScalarType::Int;
    case MTLDataTypeUInt:
      return ScalarType::Uint;
    case MTLDataTypeLong:
      return ScalarType::Long;
    case MTLDataTypeULong:
      return ScalarType::Ulong;
    case MTLDataTypeHalf:
      return ScalarType::Half;
    case MTLDataTypeBFloat:
      return ScalarType::Bfloat;
    case MTLDataTypeFloat:
      return ScalarType::Float;
    default:
      return std::nullopt;
  }
}

MTLDataType data_type(ScalarType type) {
  switch (type) {
    case ScalarType::Bool:
      return MTLDataTypeBool;
    case ScalarType::Char:
      return MTLDataTypeChar;
    case ScalarType::Uchar:
      return MTLDataTypeUChar;
    case ScalarType::Short:
      return MTLDataTypeShort;
    case ScalarType::Ushort:
      return MTLDataTypeUShort;
    case ScalarType::Int:
      return MTLDataTypeInt;
    case ScalarType::Uint:
      return MTLDataTypeUInt;
    case ScalarType::Long:
      return MTLDataTypeLong;
    case ScalarType::Ulong:
      return MTLDataTypeULong;
    case ScalarType::Half:
      return MTLDataTypeHalf;
    case ScalarType::Bfloat:
      return MTLDataTypeBFloat;
    case ScalarType::Float:
      return MTLDataTypeFloat;
  }
  return MTLDataTypeNone;
}

ScalarType checked_type(const char* method, MTLDataType type) {
  const auto scalar = scalar_type(type);
  if (!scalar)
    refuse(method, text("type %lu is not one that the stand-in takes for a function constant",
                        static_cast<unsigned long>(type)));
  return *scalar;
}

struct ConstantState final : ObjectState {
  explicit ConstantState(const FunctionConstant& of) : ObjectState("MTLFunctionConstant"), constant(of) {}
  const FunctionConstant constant;
};

const Kernel* find_in(const ShaderSource& source, const std::string& name) {
  for (const Kernel* kernel : kernels(source))
    if (kernel->name == name) return kernel;
  return nullptr;
}

}  // namespace
}  // namespace emulator

using emulator::check;
using emulator::ConstantState;
using emulator::FunctionConstantValuesState;
using emulator::FunctionState;
using emulator::LibraryState;
using emulator::PipelineState;
using emulator::State;
using emulator::state_of;
using emulator::text;

NSErrorDomain const MTLLibraryErrorDomain = @"MTLLibraryErrorDomain";

@interface MTLFunctionConstant (Making)
- (instancetype)initWithState:(emulator::ObjectState*)state;
@end

@implementation MTLFunctionConstant

- (NSString*)name {
  return emulator::to_ns(std::string(state_of<ConstantState>(self).constant.name));
}
- (MTLDataType)type {
  return emulator::data_type(state_of<ConstantState>(self).constant.type);
}
- (NSUInteger)index {
  return state_of<ConstantState>(self).constant.index;
}
- (BOOL)required {
  return state_of<ConstantState>(self).constant.required;
}

@end

@implementation MTLFunctionConstantValues

- (instancetype)init {
  return [self initWithState:new FunctionConstantValuesState];
}
- (id)copyWithZone:(NSZone*)zone {
  (void)zone;
  return [[MTLFunctionConstantValues alloc]
      initWithState:new FunctionConstantValuesState(state_of<FunctionConstantValuesState>(self))];
}
- (void)setConstantValue:(const void*)value type:(MTLDataType)type atIndex:(NSUInteger)index {
  const char* method = "-[MTLFunctionConstantValues setConstantValue:type:atIndex:]";
  check(value != nullptr, method, "value must not be NULL");
  check(index < 65536, method, "index must be < 65536");
  state_of<FunctionConstantValuesState>(self).values.set(static_cast<std::uint32_t>(index),
                                                         emulator::checked_type(method, type), value);
}
- (void)setConstantValues:(const void*)values type:(MTLDataType)type withRange:(NSRange)range {
  const auto scalar =
      emulator::checked_type("-[MTLFunctionConstantValues setConstantValues:type:withRange:]", type);
  const auto* bytes = static_cast<const char*>(values);
  for (NSUInteger i = 0; i < range.length; ++i)
    [self setConstantValue:bytes + i * emulator::size_of(scalar) type:type atIndex:range.location + i];
}
- (void)setConstantValue:(const void*)value type:(MTLDataType)type withName:(NSString*)name {
  const char* method = "-[MTLFunctionConstantValues setConstantValue:type:withName:]";
  check(value != nullptr && name != nil, method, "value must not be NULL and name not nil");
  state_of<FunctionConstantValuesState>(self).values.set(emulator::to_string(name),
                                                         emulator::checked_type(method, type), value);
}
- (void)reset {
  state_of<FunctionConstantValuesState>(self).values.reset();
}

@end

@implementation EmulatorFunction
@dynamic label;

- (id<MTLDevice>)device {
  return emulator::device();
}
- (MTLFunctionType)functionType {
  return MTLFunctionTypeKernel;
}
- (NSString*)name {
  return emulator::to_ns(std::string(state_of<FunctionState>(self).kernel.name));
}
- (NSDictionary*)functionConstantsDictionary {
  NSMutableDictionary* result = [NSMutableDictionary dictionary];
  for (const auto& constant : state_of<FunctionState>(self).kernel.function_constants) {
    MTLFunctionConstant* object = [[MTLFunctionConstant alloc] initWithState:new ConstantState(constant)];
    [result setObject:object forKey:object.name];
    [object release];
  }
  return result;
}

@end

@implementation EmulatorPipeline
@dynamic label;

- (id<MTLDevice>)device {
  return emulator::device();
}
- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return state_of<PipelineState>(self).max_threads;
}
- (NSUInteger)threadExecutionWidth {
  return emulator::kSimdWidth;
}
- (NSUInteger)staticThreadgroupMemoryLength {
  return state_of<PipelineState>(self).kernel.static_threadgroup_bytes();
}

@end

@implementation EmulatorLibrary
@dynamic label;

- (id<MTLDevice>)device {
  return emulator::device();
}
- (NSArray*)functionNames {
  NSMutableArray* names = [NSMutableArray array];
  for (const emulator::Kernel* kernel : emulator::kernels(state_of<LibraryState>(self).source))
    [names addObject:emulator::to_ns(std::string(kernel->name))];
  return names;
}
- (id<MTLFunction>)newFunctionWithName:(NSString*)name {
  check(name != nil, "-[MTLLibrary newFunctionWithName:]", "functionName must not be nil.");
  const emulator::Kernel* kernel =
      emulator::find_in(state_of<LibraryState>(self).source, emulator::to_string(name));
  return kernel ? [[EmulatorFunction alloc] initWithState:new FunctionState(*kernel, {})] : nil;
}
- (id<MTLFunction>)newFunctionWithName:(NSString*)name
                        constantValues:(MTLFunctionConstantValues*)values
                                 error:(NSError**)error {
  const char* method = "-[MTLLibrary newFunctionWithName:constantValues:error:]";
  check(name != nil, method, "functionName must not be nil.");
  check(values != nil, method, "constantValues must not be nil.");
  const std::string wanted = emulator::to_string(name);
  const emulator::Kernel* kernel = emulator::find_in(state_of<LibraryState>(self).source, wanted);
  if (!kernel) {
    emulator::set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorFunctionNotFound,
                        text("Function %s does not exist in the library", wanted.c_str()));
    return nil;
  }
  const auto& constants = state_of<FunctionConstantValuesState>(values).values;
  const std::string problem = emulator::check_constants(*kernel, constants);
  if (!problem.empty()) {
    emulator::set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure, problem);
    return nil;
  }
  return [[EmulatorFunction alloc] initWithState:new FunctionState(*kernel, constants)];
}

@end

namespace emulator {

id<MTLLibrary> make_library(NSString* source, MTLCompileOptions* options, NSError** error) {
  check(source != nil, "-[MTLDevice newLibraryWithSource:options:error:]", "source must not be nil.");
  CompileOptions asked;
  if (options != nil) {
    asked.fast_math = [options fastMathEnabled] == YES;
    asked.language_version = [options languageVersion];
  }
  State::get().set_compile_options(asked);
  if ([options.preprocessorMacros count] > 0) {
    set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
              "the stand-in for Metal translates shaders at build time: preprocessorMacros cannot be set");
    return nil;
  }
  const std::string code = to_string(source);
  const ShaderSource* found = find_source(code);
  if (!found) {
    set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure,
              text("the stand-in for Metal has no translation of this source (%zu bytes, hash %016lx): it "
                   "runs only the "
                   ".metal files translated at build time, and the text must be theirs",
                   code.size(), static_cast<unsigned long>(source_hash(code))));
    return nil;
  }
  State::get().count(&Counters::libraries);
  return [[EmulatorLibrary alloc] initWithState:new LibraryState(*found)];
}

id<MTLComputePipelineState> make_pipeline(id<MTLFunction> function, NSUInteger threads, NSString* label,
                                          NSError** error) {
  const FunctionState& state = state_of<FunctionState>(function);
  NSString* domain = @"CompilerError";
  if (State::get().next_pipeline_fails()) {
    set_error(error, domain, 2, "Compiler encountered an internal error (injected)");
    return nil;
  }
  const std::string problem = check_constants(state.kernel, state.constants);
  if (!problem.empty()) {
    set_error(error, domain, 2, problem);
    return nil;
  }
  if (state.kernel.static_threadgroup_bytes() > kMaxThreadgroupMemory) {
    set_error(error, domain, 2,
              text("Threadgroup memory size (%zu) exceeds the maximum threadgroup memory allowed (%zu)",
                   state.kernel.static_threadgroup_bytes(), kMaxThreadgroupMemory));
    return nil;
  }
  NSUInteger limit =
      std::min<NSUInteger>(state.kernel.max_threads, State::get().limits().max_threads_per_pipeline);
  if (threads > 0) limit = std::min(limit, threads);
  State::get().count(&Counters::pipelines);
  EmulatorPipeline* pipeline = [[EmulatorPipeline alloc] initWithState:new PipelineState(state, limit)];
  if (label) [pipeline setLabel:label];
  return pipeline;
}

}  // namespace emulator
