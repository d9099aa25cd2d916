#include "registry.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "execution.h"

namespace emulator {
namespace {

struct Registry {
  std::map<std::string_view, const Kernel*> kernels;
  std::vector<const ShaderSource*> sources;
};

Registry& registry() {
  static Registry& instance = *new Registry;  // never destroyed: a program may end while a queue is at work
  return instance;
}

}  // namespace

void register_kernel(const Kernel& kernel) {
  if (!registry().kernels.emplace(kernel.name, &kernel).second) {
    throw std::logic_error("two kernels are named " + std::string(kernel.name));
  }
}

void register_source(const ShaderSource& source) {
  registry().sources.push_back(&source);
}

std::size_t Kernel::static_threadgroup_bytes() const {
  return shared->bytes;
}

std::uint64_t source_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::vector<const Kernel*> kernels() {
  std::vector<const Kernel*> out;
  for (const auto& [name, kernel] : registry().kernels) out.push_back(kernel);
  return out;
}

std::vector<const Kernel*> kernels(const ShaderSource& source) {
  std::vector<const Kernel*> out;
  for (const auto& [name, kernel] : registry().kernels) {
    if (kernel->source == source.file) out.push_back(kernel);
  }
  return out;
}

const Kernel* find_kernel(std::string_view name) {
  const auto found = registry().kernels.find(name);
  return found == registry().kernels.end() ? nullptr : found->second;
}

std::vector<const ShaderSource*> sources() {
  return registry().sources;
}

const ShaderSource* find_source(std::string_view text) {
  const std::uint64_t hash = source_hash(text);
  for (const ShaderSource* source : registry().sources) {
    if (source->hash == hash || source->flat_hash == hash) return source;
  }
  return nullptr;
}

std::string_view name_of(ScalarType type) {
  constexpr std::string_view kNames[] = {"bool", "char", "uchar", "short", "ushort", "int",
                                         "uint", "long", "ulong", "half",  "bfloat", "float"};
  return kNames[static_cast<std::size_t>(type)];
}

std::size_t size_of(ScalarType type) {
  constexpr std::size_t kSizes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4};
  return kSizes[static_cast<std::size_t>(type)];
}

void FunctionConstants::set(std::uint32_t index, ScalarType type, const void* value) {
  Entry entry{index, {}, {type, {}}};
  std::memcpy(entry.value.bytes.data(), value, size_of(type));
  entries_.push_back(std::move(entry));
}

void FunctionConstants::set(std::string_view name, ScalarType type, const void* value) {
  Entry entry{std::nullopt, std::string(name), {type, {}}};
  std::memcpy(entry.value.bytes.data(), value, size_of(type));
  entries_.push_back(std::move(entry));
}

void FunctionConstants::reset() {
  entries_.clear();
}

const FunctionConstants::Value* FunctionConstants::find(std::uint32_t index, std::string_view name) const {
  const auto last = [this](const auto& matches) -> const Value* {
    const auto found = std::find_if(entries_.rbegin(), entries_.rend(), matches);
    return found == entries_.rend() ? nullptr : &found->value;
  };
  const Value* by_name = last([name](const Entry& entry) { return !entry.index && entry.name == name; });
  return by_name != nullptr ? by_name : last([index](const Entry& entry) { return entry.index == index; });
}

std::string check_constants(const Kernel& kernel, const FunctionConstants& constants) {
  for (const FunctionConstant& constant : kernel.function_constants) {
    const std::string where = std::string(kernel.name) + ": function constant " +
                              std::to_string(constant.index) + " (" + std::string(name_of(constant.type)) +
                              " " + std::string(constant.name) + ")";
    const FunctionConstants::Value* value = constants.find(constant.index, constant.name);
    if (value == nullptr) {
      if (constant.required) return where + " has no value";
    } else if (value->type != constant.type) {
      return where + " was given a value of type " + std::string(name_of(value->type));
    }
  }
  return {};
}

}  // namespace emulator
