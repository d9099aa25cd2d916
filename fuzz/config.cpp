#include <candela/models/config.h>

#include "fuzz/fuzz.h"
#include "fuzz/mutate.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  fuzz::expect_result_or_error([&] {
    const ModelConfig config = ModelConfig::parse(fuzz::text_of(data, size), "fuzz");
    fuzz::check(config.num_heads % config.num_kv_heads == 0, "query heads share key heads evenly");
    fuzz::check(config.layer_types.size() == static_cast<std::size_t>(config.num_layers),
                "each layer has a type");
    fuzz::check(config.rope.rotary_dim > 0 && config.rope.rotary_dim <= config.head_dim,
                "the rotated part is within a head");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json});
}
