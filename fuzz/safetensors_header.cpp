#include <candela/io/safetensors.h>

#include "fuzz/fuzz.h"
#include "fuzz/mutate.h"

/// A whole safetensors file. What is accepted must lie within the file and not overlap.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  fuzz::expect_result_or_error([&] {
    const auto header = SafetensorsHeader::parse(fuzz::text_of(data, size), size, "fuzz");
    std::uint64_t total = 0;
    for (const auto& [name, entry] : header.tensors) {
      fuzz::check(entry.begin <= entry.end && header.data_offset + entry.end <= size,
                  "tensors lie in the file");
      total += entry.end - entry.begin;
    }
    fuzz::check(header.data_offset + total == size, "tensors cover the file once");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Safetensors});
}
