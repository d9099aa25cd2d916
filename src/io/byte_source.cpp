#include "io/byte_source.h"

#include <algorithm>
#include <array>
#include <utility>

#include <candela/core/error.h>

#include "io/mapped_file.h"

namespace candela::io {
namespace {

struct Kind {
  Compression compression;
  std::string_view ending;
  std::string_view magic;
};
constexpr std::array<Kind, 3> kKinds = {{
    {Compression::Gzip, ".gz", "\x1f\x8b"},
    {Compression::Xz, ".xz", std::string_view("\xfd\x37\x7a\x58\x5a\x00", 6)},
    {Compression::Zstd, ".zst", "\x28\xb5\x2f\xfd"},
}};

class TextSource final : public ByteSource {
 public:
  explicit TextSource(std::string_view text) : text_(text) {}
  std::string_view next() override { return std::exchange(text_, {}); }

 private:
  std::string_view text_;
};

/// Pages that were read are given back, so that a large file does not count as the process's memory.
class FileSource final : public ByteSource {
 public:
  explicit FileSource(const std::filesystem::path& file) : file_(file) {}
  const MappedFile& file() const { return file_; }

  std::string_view next() override {
    constexpr std::size_t kPiece = std::size_t{16} << 20;
    file_.release(begin_, end_ - begin_);
    begin_ = end_;
    end_ = std::min(begin_ + kPiece, file_.size());
    return file_.text().substr(begin_, end_ - begin_);
  }

 private:
  MappedFile file_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace

Compression compression_of(std::string_view head) {
  for (const Kind& kind : kKinds)
    if (head.starts_with(kind.magic)) return kind.compression;
  return Compression::None;
}

Compression compression_of_name(std::string_view name) {
  for (const Kind& kind : kKinds)
    if (name.ends_with(kind.ending)) return kind.compression;
  return Compression::None;
}

std::string_view plain_name(std::string_view name) {
  for (const Kind& kind : kKinds)
    if (name.ends_with(kind.ending)) return name.substr(0, name.size() - kind.ending.size());
  return name;
}

std::unique_ptr<ByteSource> text_source(std::string_view text) {
  return std::make_unique<TextSource>(text);
}

std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& file) {
  auto source = std::make_unique<FileSource>(file);
  const std::string_view text = source->file().text();
  const Compression compression = compression_of(text.substr(0, 8));
  const Compression named = compression_of_name(file.native());
  require<IoError>(named == Compression::None || named == compression,
                   "{}: must be compressed as its name says; its first bytes are not: rename it, or compress "
                   "it again",
                   file.string());
  if (compression == Compression::None) return source;
  return decompressed(std::move(source), text.size(), compression, file.string());
}

}  // namespace candela::io
