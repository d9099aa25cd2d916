#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

/// Files from front to back, in pieces, decompressed on the way: what is read is never held as a whole.
namespace candela::io {

class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  /// The next piece, valid until the next call; empty: the end. IoError naming the file.
  virtual std::string_view next() = 0;
};

enum class Compression : std::uint8_t { None, Gzip, Xz, Zstd };
/// By the first bytes of a file: no text begins with them.
Compression compression_of(std::string_view head);
/// By the end of a name: .gz, .xz, .zst.
Compression compression_of_name(std::string_view name);
/// `name` without the ending of a compressed file.
std::string_view plain_name(std::string_view name);

/// A text in memory, which must outlive the source.
std::unique_ptr<ByteSource> text_source(std::string_view text);

/// What `packed`, `packed_bytes` long, gives decompressed; `name` stands for it in errors. IoError for what
/// is damaged, cut short, or grows to more than kMostGrowth times its size (and kFreeGrowth bytes).
/// Unsupported, naming the way out, in a build without libarchive.
inline constexpr std::size_t kMostGrowth = 1000;
inline constexpr std::size_t kFreeGrowth = std::size_t{64} << 20;
std::unique_ptr<ByteSource> decompressed(std::unique_ptr<ByteSource> packed, std::size_t packed_bytes,
                                         Compression compression, std::string name);

/// The bytes of a regular file, decompressed. IoError as MappedFile, and where the name says compressed and
/// the first bytes do not.
std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& file);

}  // namespace candela::io
