#pragma once

#include <cstdint>
#include <string>

/// How much of the processor the CPU kernels and oneDNN may use. CANDELA_MAX_CPU_ISA (sse4, avx2, avx512 or
/// avx512_bf16; unset: everything) holds all of them to a lesser x86-64 instruction set, so that one machine
/// can prove what others run.
namespace candela {

/// In rising order; each includes those before it.
enum class InstructionLimit : std::uint8_t { Sse4, Avx2, Avx512, Avx512Bf16, None };

/// The limit that `name` stands for, in either case; empty: None. Throws InvalidArgument for another name.
InstructionLimit parse_instruction_limit(const std::string& name);

/// The limit of this process, read from the environment once. Throws as parse_instruction_limit does.
InstructionLimit instruction_limit();

/// " (CANDELA_MAX_CPU_ISA=avx2)", or "" without a limit.
std::string describe_instruction_limit();

/// Holds Highway's kernels to the limit. Throws DeviceError where this build's baseline lies above it.
void limit_kernels();

/// The instruction set that Highway's kernels run on, by its name for it: "AVX3".
std::string instruction_set();

/// The vendor's library and the instructions it uses here: "oneDNN 2.6.3, up to AVX2".
std::string describe_vendor();

}  // namespace candela
