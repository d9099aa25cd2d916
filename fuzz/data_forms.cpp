#include <array>

#include <candela/io/dataset.h>

#include "fuzz/fuzz.h"

/// The first byte says how the rest is written: as a JSON array, CSV, TSV, a text or JSONL.
namespace {

candela::Tokenizer make_tokenizer() {
  return candela::Tokenizer::parse(R"({
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"<eos>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "u": 5, "Ġ": 6, "Ċ": 7},
              "merges": ["a b"]}})",
                                   "fuzz");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const Tokenizer tokenizer = make_tokenizer();
  if (size == 0) return 0;
  constexpr std::array<const char*, 5> kNames = {"d.json", "d.csv", "d.tsv", "d.txt", "d.jsonl"};
  DatasetOptions options;
  options.frame.eos = 0;
  options.truncate = true;
  options.max_length = 12;
  options.keep_going = data[0] >= 0x80;
  fuzz::expect_result_or_error([&] {
    const Dataset dataset = Dataset::parse(fuzz::text_of(data + 1, size - 1), kNames[data[0] % kNames.size()],
                                           tokenizer, options);
    fuzz::check(dataset.statistics.rows == dataset.samples.size(), "every row is counted");
    fuzz::check(options.keep_going || dataset.bad_rows.count == 0, "bad rows are errors unless asked for");
    for (const Sample& sample : dataset.samples) {
      fuzz::check(sample.ids.size() == sample.trained.size() && sample.ids.size() == sample.answer.size(),
                  "each token has its marks");
      fuzz::check(sample.ids.size() >= 2 && sample.ids.size() <= options.max_length,
                  "lengths are within the limits");
      fuzz::check(sample.line >= 1, "lines count from 1");
    }
  });
  return 0;
}
