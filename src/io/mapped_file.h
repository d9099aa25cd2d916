#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace candela::io {

/// A file in memory, read when touched. Writes to the memory are private to the process and never reach the
/// file.
class MappedFile {
 public:
  /// IoError if the file is missing, not a regular file, or cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace candela::io
