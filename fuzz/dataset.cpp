#include <candela/io/dataset.h>

#include "fuzz/fuzz.h"

namespace {

candela::Tokenizer make_tokenizer() {
  return candela::Tokenizer::parse(R"({
    "added_tokens": [{"id": 0, "content": "<|im_start|>", "special": true}, {"id": 1, "content": "<|im_end|>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"<|im_start|>": 0, "<|im_end|>": 1, "a": 2, "b": 3, "c": 4, "ab": 5, "u": 6, "s": 7},
              "merges": ["a b"]}})",
                                   "fuzz");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const Tokenizer tokenizer = make_tokenizer();
  DatasetOptions options;
  options.frame.eos = 1;
  options.truncate = true;
  options.max_length = 12;
  fuzz::expect_result_or_error([&] {
    const Dataset dataset = Dataset::parse(fuzz::text_of(data, size), "fuzz", tokenizer, options);
    fuzz::check(dataset.statistics.rows == dataset.samples.size(), "every row is counted");
    for (const Sample& sample : dataset.samples) {
      fuzz::check(sample.ids.size() == sample.trained.size() && sample.ids.size() == sample.answer.size(),
                  "each token has its marks");
      fuzz::check(sample.ids.size() >= 2 && sample.ids.size() <= options.max_length,
                  "lengths are within the limits");
    }
  });
  return 0;
}
