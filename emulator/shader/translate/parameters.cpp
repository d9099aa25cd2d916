#include <algorithm>
#include <charconv>

#include "declaration.h"
#include "kernel_definition.h"

namespace translate {
namespace {

/// A kernel's parameter that the attribute names, and the Builtin that stands for it.
struct BuiltinName {
  std::string_view attribute, builtin;
  bool of_grid = false;  // all of these have one type in a kernel: scalars, or vectors of as many components
};
constexpr std::array<BuiltinName, 15> kBuiltins = {{
    {"thread_position_in_grid", "ThreadPositionInGrid", true},
    {"thread_position_in_threadgroup", "ThreadPositionInThreadgroup", true},
    {"thread_index_in_threadgroup", "ThreadIndexInThreadgroup"},
    {"threadgroup_position_in_grid", "ThreadgroupPositionInGrid", true},
    {"threads_per_threadgroup", "ThreadsPerThreadgroup", true},
    {"dispatch_threads_per_threadgroup", "DispatchThreadsPerThreadgroup", true},
    {"threadgroups_per_grid", "ThreadgroupsPerGrid", true},
    {"threads_per_grid", "ThreadsPerGrid", true},
    {"simdgroup_index_in_threadgroup", "SimdgroupIndexInThreadgroup"},
    {"thread_index_in_simdgroup", "ThreadIndexInSimdgroup"},
    {"simdgroups_per_threadgroup", "SimdgroupsPerThreadgroup"},
    {"threads_per_simdgroup", "ThreadsPerSimdgroup"},
    {"quadgroup_index_in_threadgroup", "QuadgroupIndexInThreadgroup"},
    {"thread_index_in_quadgroup", "ThreadIndexInQuadgroup"},
    {"thread_execution_width", "ThreadsPerSimdgroup"},
}};

constexpr int kMostIndices = 31;  // of buffers, and of threadgroup arguments

struct Parameter {
  Range range;
  std::size_t attribute = 0;  // range.end if there is none
  std::string name;
};

struct SpaceAndType {
  std::string space, type;
};

SpaceAndType space_and_type(const Tokens& tokens, const Parameter& parameter) {
  SpaceAndType out;
  for (std::size_t i = parameter.range.begin; i < parameter.attribute; ++i) {
    const Token& token = tokens[i];
    if (is_address_space(token)) out.space = token.text;
    if (token.is("[")) break;
    if (is_address_space(token) || token.is("const") || token.is("volatile") || token.is("*") ||
        token.is("&") || token.is(parameter.name))
      continue;
    out.type += (out.type.empty() || !token.is_identifier() ? "" : " ") + std::string(token.text);
  }
  return out;
}

/// "uint" 1, "ushort3" 3.
int components(const std::string& type) {
  return !type.empty() && type.back() >= '2' && type.back() <= '4' ? type.back() - '0' : 1;
}

void check_grid_type(const Token& at, std::string_view attribute, const std::string& type,
                     KernelDefinition& kernel) {
  if (kernel.grid_attribute.empty()) {
    kernel.grid_attribute = attribute;
    kernel.grid_type = type;
    return;
  }
  if (components(kernel.grid_type) == components(type)) return;
  throw SourceError(at, "[[" + std::string(attribute) + "]] of " + kernel.name + " is " + type + " and [[" +
                            kernel.grid_attribute + "]] is " + kernel.grid_type +
                            ": both must be scalars, or vectors of as many components");
}

/// Takes the index that `attribute` gives, `kind` being "buffer" or "threadgroup".
void take_index(const Tokens& tokens, std::size_t attribute, std::string_view kind,
                std::set<std::string>& taken) {
  const auto given = attribute_argument(tokens, attribute, kind);
  if (!given) return;
  const std::string text = plain_text(tokens, *given);
  const std::string what = "[[" + std::string(kind) + "(" + text + ")]]";
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= kMostIndices)
    throw SourceError(tokens[attribute],
                      what + " is too large: the last is " + std::to_string(kMostIndices - 1));
  // Parameters that function constants switch may stand in for one another.
  if (!taken.insert(text).second && !attribute_has(tokens, attribute, "function_constant"))
    throw SourceError(tokens[attribute], "two parameters at " + what);
}

std::string builtin_or_binding(const Tokens& tokens, const Parameter& parameter, KernelDefinition& kernel) {
  const auto& [range, attribute, name] = parameter;
  const auto [kind, type] = space_and_type(tokens, parameter);
  for (const BuiltinName& builtin : kBuiltins) {
    if (attribute == range.end || !attribute_has(tokens, attribute, builtin.attribute)) continue;
    if (builtin.of_grid) check_grid_type(tokens[attribute], builtin.attribute, type, kernel);
    return "::emulator::Builtin::" + std::string(builtin.builtin);
  }
  const bool threadgroup = kind == "threadgroup";
  const bool bound = threadgroup || kind == "device" || kind == "constant";
  std::string index;
  if (const auto given =
          attribute == range.end
              ? std::nullopt
              : attribute_argument(tokens, attribute, threadgroup ? "threadgroup" : "buffer")) {
    index = plain_text(tokens, *given);
  } else if (bound && attribute == range.end) {
    // The compiler numbers what the source does not, in order and leaving out what the source names.
    std::set<std::string>& taken = kernel.taken[threadgroup ? 1 : 0];
    int free = 0;
    while (taken.contains(std::to_string(free))) ++free;
    index = std::to_string(free);
    taken.insert(index);
  }
  if (index.empty() || !bound) {
    throw SourceError(
        tokens[range.begin],
        "parameter " + name + " of " + kernel.name +
            " must be a device or constant pointer with [[buffer(n)]], a threadgroup pointer with "
            "[[threadgroup(n)]], or a builtin known to the stand-in");
  }
  std::string condition;
  if (const auto constant = attribute == range.end
                                ? std::nullopt
                                : attribute_argument(tokens, attribute, "function_constant")) {
    condition = plain_text(tokens, *constant);
    kernel.conditions.push_back(condition);
  }
  const std::string space = threadgroup ? "Threadgroup" : kind == "constant" ? "Constant" : "Device";
  return "::emulator::Builtin::None, ::emulator::ArgumentKind::" + space + ", " + index + ", " +
         quoted(name) + ", " + quoted(type) + ", " + quoted(condition);
}

Parameter read_parameter(const Tokens& tokens, Range range, const KernelDefinition& kernel) {
  std::size_t attribute = range.begin;
  while (attribute < range.end && !starts_attribute(tokens, attribute)) ++attribute;
  while (range.begin < attribute && tokens[range.begin].kind == Kind::Directive) ++range.begin;
  std::size_t name = attribute;  // one past it
  for (std::size_t i = range.begin; i < attribute; ++i) {
    if (tokens[i].is("[")) name = std::min(name, i);
  }
  if (name == range.begin || !tokens[name - 1].is_identifier()) {
    throw SourceError(tokens[range.begin], "a parameter of " + kernel.name + " has no name");
  }
  return {range, attribute, std::string(tokens[name - 1].text)};
}

}  // namespace

void read_parameters(const Tokens& tokens, Range range, KernelDefinition& kernel) {
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if (!starts_attribute(tokens, i)) continue;
    take_index(tokens, i, "buffer", kernel.taken[0]);
    take_index(tokens, i, "threadgroup", kernel.taken[1]);
  }
  for (const Range& part : split_parameters(tokens, range)) {
    kernel.parameters +=
        (kernel.parameters.empty() ? "" : ",\n      ") +
        ("{" + builtin_or_binding(tokens, read_parameter(tokens, part, kernel), kernel) + "}");
  }
}

}  // namespace translate
