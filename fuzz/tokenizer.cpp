#include <candela/io/tokenizer.h>

#include "fuzz/fuzz.h"
#include "fuzz/mutate.h"

/// A tokenizer.json; what is accepted encodes a few texts and decodes its own ids, whole and streamed.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  fuzz::expect_result_or_error([&] {
    const Tokenizer tokenizer = Tokenizer::parse(fuzz::text_of(data, size), "fuzz");
    for (const char* text : {"", "Hello  world's 123!\n", "a\xCC\x81\xF0\x9F\xA6\x99 \xE2\x96\x81x \xFF",
                             "<|im_end|> abc abc"}) {
      const auto ids = tokenizer.encode(text);
      for (const TokenId id : ids)
        fuzz::check(id >= 0 && id <= tokenizer.max_id(), "ids are within the vocabulary");
      tokenizer.decode(ids);
      StreamDecoder stream(tokenizer, false);
      for (const TokenId id : ids) stream.add(id);
      stream.finish();
    }
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json});
}
