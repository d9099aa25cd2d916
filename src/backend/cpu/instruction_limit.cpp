#include "backend/cpu/instruction_limit.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <string_view>
#include <utility>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if !defined(__APPLE__)
#include <dnnl.hpp>
#endif

#include <candela/core/error.h>

#include "backend/cpu/gemm.h"
#include "backend/cpu/simd_targets.h"

// After simd_targets.h, which names the targets that are compiled.
#include <hwy/targets.h>

namespace candela {
namespace {

constexpr const char* kVariable = "CANDELA_MAX_CPU_ISA";

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  return text;
}

#if HWY_ARCH_X86
/// Highway's best target within `limit`. Better targets are lower bits.
std::int64_t best_target(InstructionLimit limit) {
  if (limit == InstructionLimit::Sse4) return HWY_SSE4;
  if (limit == InstructionLimit::Avx2) return HWY_AVX2;
  return HWY_AVX3;
}
#endif

#if !defined(__APPLE__) && defined(__x86_64__)

/// What the user allows oneDNN by its own variable.
InstructionLimit vendor_variable() {
  std::string name = lower_case(environment("ONEDNN_MAX_CPU_ISA"));
  if (name.empty()) name = lower_case(environment("DNNL_MAX_CPU_ISA"));
  if (name.starts_with("sse") || name == "avx") return InstructionLimit::Sse4;
  if (name.starts_with("avx2")) return InstructionLimit::Avx2;
  if (name == "avx512_core" || name == "avx512_core_vnni") return InstructionLimit::Avx512;
  if (name == "avx512_core_bf16") return InstructionLimit::Avx512Bf16;
  return InstructionLimit::None;
}

dnnl_cpu_isa_t vendor_isa(InstructionLimit limit) {
  switch (limit) {
    case InstructionLimit::Sse4:
      return dnnl_cpu_isa_sse41;
    case InstructionLimit::Avx2:
      return dnnl_cpu_isa_avx2;
    case InstructionLimit::Avx512:
      return dnnl_cpu_isa_avx512_core;
    case InstructionLimit::Avx512Bf16:
      return dnnl_cpu_isa_avx512_core_bf16;
    case InstructionLimit::None:
      break;
  }
  return dnnl_cpu_isa_all;
}

/// Whether CPUID describes the palettes of the tile unit.
bool describes_tiles() {
  unsigned palettes = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid_count(0x1d, 0, &palettes, &b, &c, &d) != 0 && palettes > 0;
}

#endif

}  // namespace

InstructionLimit parse_instruction_limit(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, InstructionLimit>, 5> kNames = {
      {{"", InstructionLimit::None},
       {"sse4", InstructionLimit::Sse4},
       {"avx2", InstructionLimit::Avx2},
       {"avx512", InstructionLimit::Avx512},
       {"avx512_bf16", InstructionLimit::Avx512Bf16}}};
  const std::string wanted = lower_case(name);
  for (const auto& [known, limit] : kNames) {
    if (wanted == known) return limit;
  }
  throw InvalidArgument(
      fmt::format("cpu: {} must be sse4, avx2, avx512 or avx512_bf16, or unset; got {}", kVariable, name));
}

InstructionLimit instruction_limit() {
  static const InstructionLimit limit = parse_instruction_limit(environment(kVariable));
  return limit;
}

std::string describe_instruction_limit() {
  if (instruction_limit() == InstructionLimit::None) return {};
  return fmt::format(" ({}={})", kVariable, environment(kVariable));
}

std::string instruction_set() {
  // Better targets are lower bits.
  const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(targets & -targets);
}

void limit_kernels() {
  const InstructionLimit limit = instruction_limit();
  if (limit == InstructionLimit::None) return;
#if HWY_ARCH_X86
  const std::int64_t best = best_target(limit);
  require<DeviceError>(HWY_STATIC_TARGET >= best, "cpu: {}={} is below {}, which this build needs", kVariable,
                       environment(kVariable), hwy::TargetName(HWY_STATIC_TARGET));
  hwy::DisableTargets(best - 1);
#else
  throw DeviceError(
      fmt::format("cpu: {}={} is for x86-64; unset it on this processor", kVariable, environment(kVariable)));
#endif
}

void gemm_detail::prepare_vendor() {
#if !defined(__APPLE__) && defined(__x86_64__)
  static const bool limited = [] {
    const InstructionLimit runnable =
        describes_tiles() ? InstructionLimit::None : InstructionLimit::Avx512Bf16;
    const InstructionLimit limit = std::min(instruction_limit(), runnable);
    // What is set here takes the place of oneDNN's variable.
    if (limit < vendor_variable()) dnnl_set_max_cpu_isa(vendor_isa(limit));
    return true;
  }();
  static_cast<void>(limited);
#endif
}

}  // namespace candela
