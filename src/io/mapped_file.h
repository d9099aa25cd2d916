#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace candela::io {

/// A file in memory, read when touched. Writes to the memory are private to the process and never reach the
/// file.
class MappedFile {
 public:
  /// Of data(), and of what may be addressed after it: the pages of Apple silicon, so that a GPU can use the
  /// memory in place.
  static constexpr std::size_t kAlignment = 16384;

  /// IoError if the file is missing, not a regular file, or cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  /// Gives back the pages that lie in [offset, offset + bytes) as a whole; touched again, they are read
  /// again, and what was written to them is lost.
  void release(std::size_t offset, std::size_t bytes) const;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  void* reserved_ = nullptr;  // the address space that holds it
  std::size_t reserved_bytes_ = 0;
};

}  // namespace candela::io
