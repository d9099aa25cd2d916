#include "fuzz/fuzz.h"
#include "io/byte_source.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  const std::string_view packed = fuzz::text_of(data, size);
  const io::Compression compression = io::compression_of(packed);
  if (compression == io::Compression::None) return 0;
  fuzz::expect_result_or_error([&] {
    const auto source = io::decompressed(io::text_source(packed), packed.size(), compression, "fuzz");
    std::size_t given = 0;
    for (std::string_view piece = source->next(); !piece.empty(); piece = source->next()) {
      given += piece.size();
      fuzz::check(given <= io::kFreeGrowth + io::kMostGrowth * packed.size(), "growth is bounded");
      if (given > (std::size_t{4} << 20U)) break;  // the bound has a test of its own
    }
  });
  return 0;
}
