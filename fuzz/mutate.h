#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

/// Mutators that know what an input is made of, so that mutated inputs get behind the parser.
namespace candela::fuzz {

/// What one part of an input holds. Parts are joined by a zero byte, which no JSON text holds; the last part
/// is all that is left.
enum class Part {
  Json,
  /// the length of a header in 8 bytes, the header as JSON, then the bytes of the tensors
  Safetensors,
  Bytes,
};

/// For LLVMFuzzerCustomMutator: changes one part of the input, most often by its structure. JSON values are
/// replaced, taken out, repeated up to `max_size`, nested, exchanged; safetensors headers too, and mostly
/// made to fit their bytes again. The new size.
std::size_t mutate_parts(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed,
                         std::initializer_list<Part> parts);

}  // namespace candela::fuzz
