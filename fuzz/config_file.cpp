#include "cli/config_entries.h"
#include "fuzz/fuzz.h"

/// A file of options, as YAML and as JSON.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  const std::string text(fuzz::text_of(data, size));
  for (const char* name : {"fuzz.yaml", "fuzz.json"}) {
    fuzz::expect_result_or_error([&] {
      for (const cli::ConfigEntry& entry : cli::parse_config_entries(text, name)) {
        fuzz::check(entry.line >= 1, "an entry has a line");
        fuzz::check(entry.kind != cli::ConfigEntry::Kind::Scalar || entry.values.size() == 1,
                    "a scalar has one value");
      }
    });
  }
  return 0;
}
