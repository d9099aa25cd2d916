#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <candela/io/hub_cache.h>

namespace candela::hub {

/// A file of a repository on the Hub.
struct RemoteFile {
  /// is_plain_relative()
  std::string path;
  std::uint64_t size = 0;
  /// What the cache names it by: the SHA-256 of its bytes in 64 digits (`checked`), or git's hash.
  std::string blob;
  /// the SHA-256 is known
  bool checked = false;
};

/// A commit of a repository and its files, in their order there.
struct Listing {
  std::string commit;
  std::vector<RemoteFile> files;
};

/// What /api/models/ID/revision/REV?blobs=true answers: IoError, opening with `source`, for what is no such
/// answer, a path that leads out of its folder, a file that is also a folder, a hash that is none, and sizes
/// beyond 2^46.
Listing parse_listing(std::string_view json, const std::string& source);

/// The files to fetch. Without `include`: of a model its safetensors, JSON, Jinja and tokenizer files, at the
/// top, in additional_chat_templates/ and in the module folders of sentence-transformers (`1_Pooling/`); of a
/// data set its files of rows and texts. Patterns are those of fnmatch(3) on whole paths, * matching / too.
/// IoError where nothing is left, naming what there is.
std::vector<RemoteFile> choose_files(const Listing& listing, const HubName& name,
                                     const std::vector<std::string>& include,
                                     const std::vector<std::string>& exclude);

}  // namespace candela::hub
