#pragma once

namespace candela::test {

/// Whether CANDELA_MAX_CPU_ISA can hold this processor to a lesser instruction set, in oneDNN too.
inline bool has_lesser_instruction_sets() {
#if defined(__x86_64__) && !defined(__APPLE__)
  return true;
#else
  return false;
#endif
}

}  // namespace candela::test
