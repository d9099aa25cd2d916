#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <candela/core/atomic_file.h>
#include <candela/core/tensor.h>

namespace candela {

/// What a safetensors header says of one tensor.
struct SafetensorsEntry {
  /// as written: F32, BF16, F16, I64, I32, U8, F64, ...
  std::string dtype;
  /// each size >= 0
  std::vector<std::int64_t> shape;
  /// in the data section, in bytes
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// The header of a safetensors file, checked.
struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;
  /// of the data section in the file
  std::uint64_t data_offset = 0;

  /// `bytes`: the start of the file, at least as far as the header goes; `file_size`: of the whole file.
  /// IoError unless the header fits the file, is JSON that begins with {, and its tensors cover the data
  /// section in full without overlaps, each as long as its shape and dtype say. Sizes of dtypes that are not
  /// known are taken as written.
  static SafetensorsHeader parse(std::string_view bytes, std::uint64_t file_size, const std::string& source);
};

/// Tensors in one safetensors file or in the shards of an index. Copies are cheap and share the mappings. All
/// methods may be called from several threads.
class SafetensorsReader {
 public:
  /// Maps a .safetensors file, the shards of a *.safetensors.index.json, or, in a folder, model.safetensors
  /// or model.safetensors.index.json. IoError names file and key where anything does not fit: see
  /// SafetensorsHeader; for an index, a shard that is missing, and a tensor that the index and its shard do
  /// not agree on.
  static SafetensorsReader open(const std::filesystem::path& path);

  /// In alphabetical order.
  const std::vector<std::string>& names() const;
  bool contains(const std::string& name) const;
  /// IoError if there is no tensor `name`.
  const SafetensorsEntry& entry(const std::string& name) const;
  /// The tensor on `device`. It shares the mapping where the device can use host memory and the data is
  /// aligned to the element size; writes to it stay private and never reach the file. Otherwise it is a copy.
  /// Unsupported for a dtype that Candela does not have, more than kMaxRank dimensions, or sizes whose
  /// product without those of 0 is above 2^62.
  Tensor tensor(const std::string& name, Device device = Device::cpu()) const;
  /// Gives back the memory behind the bytes [begin, end) of the tensor's data, once they have been read:
  /// whoever touches them again reads the file again, and what was written to them is lost. IoError if there
  /// is no tensor `name` or it is shorter.
  void release(const std::string& name, std::uint64_t begin, std::uint64_t end) const;

  /// Of the only file; of an index, the union, the first shard winning.
  const std::map<std::string, std::string>& metadata() const;
  const std::vector<std::filesystem::path>& files() const;
  /// Bytes of all tensors.
  std::uint64_t total_bytes() const;

 private:
  struct State;
  explicit SafetensorsReader(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// Writes `tensors` (any layout, any device) to `path` through an AtomicFile: the header padded to 8 bytes,
/// the data ordered by element size and then by name, so that every tensor is aligned. InvalidArgument for a
/// name that occurs twice or is `__metadata__`; IoError if it cannot be written.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
/// The same into a file that its owner commits; `path` stands for it in errors.
void write_safetensors(AtomicFile& file, const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace candela
