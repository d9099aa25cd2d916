#include <fmt/format.h>
#include <utility>

#include <candela/core/error.h>

#include "io/byte_source.h"

#if defined(CANDELA_LIBARCHIVE)
#include <archive.h>
#include <archive_entry.h>
#endif

namespace candela::io {

#if defined(CANDELA_LIBARCHIVE)
namespace {

struct CloseArchive {
  void operator()(archive* value) const { archive_read_free(value); }
};

class DecompressedSource final : public ByteSource {
 public:
  DecompressedSource(std::unique_ptr<ByteSource> packed, std::size_t packed_bytes, Compression compression,
                     std::string name)
      : packed_(std::move(packed)),
        most_(kFreeGrowth + kMostGrowth * packed_bytes),
        packed_bytes_(packed_bytes),
        name_(std::move(name)),
        archive_(archive_read_new()) {
    require<IoError>(archive_ != nullptr, "{}: cannot be decompressed: out of memory", name_);
    archive* const reader = archive_.get();
    const int filter = compression == Compression::Gzip ? archive_read_support_filter_gzip(reader)
                       : compression == Compression::Xz ? archive_read_support_filter_xz(reader)
                                                        : archive_read_support_filter_zstd(reader);
    // A warning means that libarchive would start a program to decompress.
    require<Unsupported>(filter == ARCHIVE_OK,
                         "{}: this libarchive does not decompress it; decompress it by hand", name_);
    archive_read_support_format_raw(reader);
    archive_read_support_format_empty(reader);
    if (archive_read_open(reader, this, nullptr, &read_packed, nullptr) != ARCHIVE_OK) fail();
    const int filters = archive_filter_count(reader) - 1;
    if (filters < 1) fail("its header is not whole");
    require<IoError>(filters == 1, "{}: must be compressed once; it is {} times", name_, filters);
    archive_entry* entry = nullptr;
    const int header = archive_read_next_header(reader, &entry);
    ended_ = header == ARCHIVE_EOF;
    if (!ended_ && header != ARCHIVE_OK) fail();
  }

  std::string_view next() override {
    while (!ended_) {
      const void* bytes = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      const int status = archive_read_data_block(archive_.get(), &bytes, &size, &offset);
      if (status != ARCHIVE_OK && status != ARCHIVE_EOF) fail();
      ended_ = status == ARCHIVE_EOF;
      given_ += size;
      require<IoError>(given_ <= most_,
                       "{}: must not grow to more than {} times its {} bytes when decompressed; if that is "
                       "meant, decompress it by hand",
                       name_, kMostGrowth, packed_bytes_);
      if (size > 0) return {static_cast<const char*>(bytes), size};
    }
    return {};
  }

 private:
  /// The sources below libarchive are mapped files and texts, whose next() does not throw.
  static la_ssize_t read_packed(archive*, void* self, const void** bytes) {
    const std::string_view piece = static_cast<DecompressedSource*>(self)->packed_->next();
    *bytes = piece.data();
    return static_cast<la_ssize_t>(piece.size());
  }
  [[noreturn]] void fail() const { fail(archive_error_string(archive_.get())); }
  [[noreturn]] void fail(const char* reason) const {
    throw IoError(
        fmt::format("{}: must be a whole compressed file; after {} decompressed bytes: {}; is it cut short? "
                    "Fetch it, or compress it, again",
                    name_, given_, reason ? reason : "unknown error"));
  }

  std::unique_ptr<ByteSource> packed_;
  std::size_t most_;
  std::size_t packed_bytes_;
  std::size_t given_ = 0;
  bool ended_ = false;
  std::string name_;
  std::unique_ptr<archive, CloseArchive> archive_;
};

}  // namespace

std::unique_ptr<ByteSource> decompressed(std::unique_ptr<ByteSource> packed, std::size_t packed_bytes,
                                         Compression compression, std::string name) {
  return std::make_unique<DecompressedSource>(std::move(packed), packed_bytes, compression, std::move(name));
}

#else

std::unique_ptr<ByteSource> decompressed(std::unique_ptr<ByteSource>, std::size_t, Compression,
                                         std::string name) {
  throw Unsupported(fmt::format(
      "{}: this build has no libarchive to decompress it; decompress it by hand, or build with libarchive",
      name));
}

#endif

}  // namespace candela::io
