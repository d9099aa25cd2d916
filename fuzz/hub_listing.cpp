#include "fuzz/fuzz.h"
#include "hub/listing.h"
#include "io/hub_paths.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  const std::string_view text = fuzz::text_of(data, size);
  fuzz::expect_result_or_error([&] {
    const hub::Listing listing = hub::parse_listing(text, "fuzz");
    for (const hub::RemoteFile& file : listing.files) {
      fuzz::check(io::is_plain_relative(file.path), "paths lead nowhere but down");
      fuzz::check(io::is_hub_hash(file.blob), "blobs are hashes");
    }
    const HubName name{HubKind::Model, "o/n", "main", {}};
    fuzz::check(!choose_files(listing, name, {}, {}).empty(), "what is chosen is there");
  });
  for (const HubKind kind : {HubKind::Model, HubKind::Dataset}) {
    const std::optional<HubName> name = HubName::parse(text, kind);
    if (!name) continue;
    fuzz::check(io::is_plain_relative(name->folder()) && name->folder().find('/') == std::string::npos,
                "a name is one folder");
    fuzz::check(io::is_plain_relative(name->revision), "a revision is a path that leads down");
    fuzz::check(name->inside.empty() || io::is_plain_relative(name->inside.native()), "so is what is inside");
  }
  return 0;
}
