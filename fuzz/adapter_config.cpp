#include "fuzz/fuzz.h"
#include "fuzz/mutate.h"
#include "lora/adapter_file.h"

/// An adapter_config.json; what is accepted is written and read back to the same.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  fuzz::expect_result_or_error([&] {
    const LoraConfig config = parse_adapter_config(std::string(fuzz::text_of(data, size)), "fuzz");
    const std::string written = format_adapter_config(config, "base");
    const LoraConfig again = parse_adapter_config(written, "written");
    fuzz::check(format_adapter_config(again, "base") == written,
                "a written configuration reads back to the same");
    config.selects("model.layers.0.self_attn.q_proj", false);
    config.scale_of("model.layers.0.self_attn.q_proj");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json});
}
