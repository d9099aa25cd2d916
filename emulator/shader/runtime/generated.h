#pragma once
// What the C++ that translate_metal writes is made of: the entry of a kernel, which turns the bindings into
// the kernel's arguments and calls it for one thread after the other, and the registration of what a file
// holds.

#include <tuple>
#include <utility>

#include "../metal/metal_stdlib.h"
#include "registry.h"

namespace emulator {

enum class Builtin : std::uint8_t {
  None,  // bound by the host
  ThreadPositionInGrid,
  ThreadPositionInThreadgroup,
  ThreadIndexInThreadgroup,
  ThreadgroupPositionInGrid,
  ThreadsPerThreadgroup,
  DispatchThreadsPerThreadgroup,
  ThreadgroupsPerGrid,
  ThreadsPerGrid,
  SimdgroupIndexInThreadgroup,
  ThreadIndexInSimdgroup,
  SimdgroupsPerThreadgroup,
  ThreadsPerSimdgroup,
  QuadgroupIndexInThreadgroup,
  ThreadIndexInQuadgroup,
};

/// A parameter of a kernel as the source declares it.
struct Parameter {
  Builtin builtin = Builtin::None;
  ArgumentKind kind = ArgumentKind::Device;
  std::uint32_t index = 0;
  const char* name = "";
  const char* type = "";
  const char* condition = "";  // function constant that enables it
};

/// Stands for a kernel where its template is only named, as in decltype.
struct NoKernel {
  static constexpr const char* kSharedNames[] = {""};
};

/// Threadgroup variables of the kernel that `Tag` stands for.
template <class Tag>
inline constinit SharedLayout shared_layout{};

template <class Tag, std::size_t Variable, class T>
inline const std::size_t shared_number = shared_layout<Tag>.add(Tag::kSharedNames[Variable], sizeof(T));

template <class Tag, std::size_t Variable, class T>
T& shared_variable() {
  static_assert(alignof(T) <= 16, "a threadgroup variable is aligned to 16 bytes");
  return *reinterpret_cast<T*>(current_launch->shared(shared_number<Tag, Variable, T>).base);
}

template <class T, std::size_t... N>
struct ArrayOf {
  T elements[(N * ...)];
};
template <class Tag, std::size_t Variable, class T, std::size_t... N>
SharedArray<T, N...> shared_array() {
  static_assert(alignof(T) <= 16, "a threadgroup variable is aligned to 16 bytes");
  const Region& region = current_launch->shared(shared_number<Tag, Variable, ArrayOf<T, N...>>);
  return {reinterpret_cast<std::uintptr_t>(region.base), &region};
}

namespace detail {

template <class P>
struct ArgumentTraits {  // a reference
  using Element = std::remove_cvref_t<P>;
  static constexpr bool kConst = std::is_const_v<std::remove_reference_t<P>>;
  static constexpr bool kReference = true;
};
template <Space S, class T>
struct ArgumentTraits<Pointer<S, T>> {
  using Element = std::remove_const_t<T>;
  static constexpr bool kConst = std::is_const_v<T>;
  static constexpr bool kReference = false;
};

template <class P>
P from_size(const Size3& size) {
  if constexpr (metal::detail::AnyVector<P>) {
    using T = typename P::Element;
    if constexpr (P::kSize == 2) return P(static_cast<T>(size.x), static_cast<T>(size.y));
    if constexpr (P::kSize == 3)
      return P(static_cast<T>(size.x), static_cast<T>(size.y), static_cast<T>(size.z));
  } else {
    return static_cast<P>(size.x);
  }
}

/// The value of a parameter, for threads that start on this fiber.
template <class Tag, std::size_t I, class P>
decltype(auto) argument(const Launch& launch, const ThreadIds& ids) {
  constexpr const Parameter& parameter = Tag::kParameters[I];
  if constexpr (parameter.builtin == Builtin::None) {
    const Region& region = parameter.kind == ArgumentKind::Threadgroup
                               ? launch.threadgroup_argument(parameter.index)
                               : launch.buffer(parameter.index);
    if constexpr (std::is_reference_v<P>) {
      return static_cast<P>(*reinterpret_cast<std::remove_reference_t<P>*>(region.base));
    } else {
      return P(reinterpret_cast<std::uintptr_t>(region.base), &region);
    }
  } else {
    using V = std::remove_cvref_t<P>;
    const GroupIds& group = launch.group();
    const auto simdgroups = [](const Size3& size) {
      return static_cast<std::uint32_t>((size.count() + kSimdWidth - 1) / kSimdWidth);
    };
    switch (parameter.builtin) {
      case Builtin::ThreadPositionInGrid:
        return from_size<V>(ids.in_grid);
      case Builtin::ThreadPositionInThreadgroup:
        return from_size<V>(ids.in_group);
      case Builtin::ThreadIndexInThreadgroup:
        return from_size<V>({ids.index});
      case Builtin::ThreadgroupPositionInGrid:
        return from_size<V>(group.position);
      case Builtin::ThreadsPerThreadgroup:
        return from_size<V>(group.size);
      case Builtin::DispatchThreadsPerThreadgroup:
        return from_size<V>(group.nominal_size);
      case Builtin::ThreadgroupsPerGrid:
        return from_size<V>(group.groups);
      case Builtin::ThreadsPerGrid:
        return from_size<V>(group.grid);
      case Builtin::SimdgroupIndexInThreadgroup:
        return from_size<V>({ids.index / kSimdWidth});
      case Builtin::ThreadIndexInSimdgroup:
        return from_size<V>({ids.index % kSimdWidth});
      case Builtin::SimdgroupsPerThreadgroup:
        return from_size<V>({simdgroups(group.size)});
      case Builtin::ThreadsPerSimdgroup:
        return from_size<V>({kSimdWidth});
      case Builtin::QuadgroupIndexInThreadgroup:
        return from_size<V>({ids.index / 4});
      case Builtin::ThreadIndexInQuadgroup:
        return from_size<V>({ids.index % 4});
      case Builtin::None:
        break;
    }
    return V{};
  }
}

template <class Tag, auto kFunction, class... P, std::size_t... I>
void run_threads(Launch& launch, void (*)(P...), std::index_sequence<I...>) {
  ThreadIds ids;
  while (launch.next_thread(ids)) kFunction(argument<Tag, I, P>(launch, ids)...);
}

template <class Tag, auto kFunction>
void entry(Launch& launch) {
  run_threads<Tag, kFunction>(launch, kFunction, std::make_index_sequence<std::size(Tag::kParameters)>());
}

template <class P>
void describe(const Parameter& parameter, std::vector<Argument>& out) {
  if (parameter.builtin != Builtin::None) return;
  using Traits = ArgumentTraits<P>;
  using Element = typename Traits::Element;
  Argument argument;
  argument.kind = parameter.kind;
  argument.index = parameter.index;
  argument.name = parameter.name;
  argument.type = parameter.type;
  argument.is_const = Traits::kConst;
  argument.is_reference = Traits::kReference;
  argument.element_bytes = sizeof(Element);
  argument.alignment = alignof(Element);
  argument.condition = parameter.condition;
  if (parameter.index >=
      (parameter.kind == ArgumentKind::Threadgroup ? kMaxThreadgroupArguments : kMaxBuffers)) {
    throw std::logic_error(std::string("the index of kernel argument ") + parameter.name + " is too large");
  }
  out.push_back(argument);
}

template <class... P>
std::vector<Argument> describe_all(void (*)(P...), const Parameter* parameters) {
  std::vector<Argument> out;
  (describe<P>(*parameters++, out), ...);
  return out;
}

}  // namespace detail

/// Enters a kernel before main. `Tag` holds its parameters; `kFunction` is the translated function.
template <class Tag, auto kFunction>
class KernelEntry {
 public:
  KernelEntry(const char* name, const char* source, std::size_t max_threads,
              std::vector<FunctionConstant> constants, void (*apply_constants)(const FunctionConstants&))
      : arguments_(detail::describe_all(kFunction, Tag::kParameters)), constants_(std::move(constants)) {
    kernel_.name = name;
    kernel_.source = source;
    kernel_.arguments = arguments_;
    kernel_.function_constants = constants_;
    kernel_.max_threads = max_threads;
    kernel_.shared = &shared_layout<Tag>;
    kernel_.apply_constants = apply_constants;
    kernel_.entry = &detail::entry<Tag, kFunction>;
    register_kernel(kernel_);
  }
  KernelEntry(const KernelEntry&) = delete;
  KernelEntry& operator=(const KernelEntry&) = delete;

 private:
  Kernel kernel_;
  std::vector<Argument> arguments_;
  std::vector<FunctionConstant> constants_;
};

struct SourceEntry {
  SourceEntry(const char* file, std::uint64_t hash, std::uint64_t flat_hash) : source{file, hash, flat_hash} {
    register_source(source);
  }
  SourceEntry(const SourceEntry&) = delete;
  SourceEntry& operator=(const SourceEntry&) = delete;
  ShaderSource source;
};

template <class T>
constexpr ScalarType scalar_type() {
  using metal::bfloat, metal::half;
  if constexpr (std::same_as<T, bool>) return ScalarType::Bool;
  if constexpr (std::same_as<T, char> || std::same_as<T, signed char>) return ScalarType::Char;
  if constexpr (std::same_as<T, unsigned char>) return ScalarType::Uchar;
  if constexpr (std::same_as<T, short>) return ScalarType::Short;
  if constexpr (std::same_as<T, unsigned short>) return ScalarType::Ushort;
  if constexpr (std::same_as<T, int>) return ScalarType::Int;
  if constexpr (std::same_as<T, unsigned>) return ScalarType::Uint;
  if constexpr (std::same_as<T, long> || std::same_as<T, long long>) return ScalarType::Long;
  if constexpr (std::same_as<T, unsigned long> || std::same_as<T, unsigned long long>)
    return ScalarType::Ulong;
  if constexpr (std::same_as<T, half>) return ScalarType::Half;
  if constexpr (std::same_as<T, bfloat>) return ScalarType::Bfloat;
  if constexpr (std::same_as<T, float>) return ScalarType::Float;
}

/// Gives a function constant its value for this OS thread; zero if it has none.
template <class T>
bool load_constant(const FunctionConstants& constants, std::uint32_t index, std::string_view name, T& out) {
  const FunctionConstants::Value* value = constants.find(index, name);
  out = T{};
  if (value == nullptr) return false;
  std::memcpy(static_cast<void*>(&out), value->bytes.data(), sizeof(T));
  return true;
}

}  // namespace emulator
