#include <fmt/ranges.h>
#include <mutex>
#include <optional>

#include <candela/core/device.h>
#include <candela/io/hub_cache.h>
#include <candela/io/safetensors.h>

#include "io/json.h"
#include "io/mapped_file.h"
#include "io/missing.h"

namespace candela {
namespace {

using io::JsonObject;

std::optional<DType> dtype_of(std::string_view name) {
  if (name == "F32") return DType::F32;
  if (name == "BF16") return DType::BF16;
  if (name == "F16") return DType::F16;
  if (name == "I64") return DType::I64;
  if (name == "I32") return DType::I32;
  if (name == "U8") return DType::U8;
  if (name == "F64") return DType::F64;
  return std::nullopt;
}

/// Whether a Shape can have these sizes: it multiplies those that are not 0.
bool fits(const std::vector<std::int64_t>& sizes) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) {
    if (size == 0) continue;
    if (count > (std::int64_t{1} << 62) / size) return false;
    count *= size;
  }
  return true;
}

/// The memory of one mapped file as the devices see it.
class SharedMapping {
 public:
  explicit SharedMapping(std::shared_ptr<const io::MappedFile> mapping) : mapping_(std::move(mapping)) {}

  /// The whole file as one storage of `device`, the same for every tensor: a device counts what it wraps
  /// against its memory, and a file wrapped once per tensor would soon use all of it up. Null if the device
  /// cannot; that too is asked once.
  StoragePtr on(Device device) {
    const std::lock_guard lock(mutex_);
    for (const auto& [known, storage] : storages_) {
      if (known == device) return storage;
    }
    StoragePtr storage = device_interface(device).wrap_host(mapping_->data(), mapping_->size(), mapping_);
    storages_.emplace_back(device, storage);
    return storage;
  }

 private:
  std::shared_ptr<const io::MappedFile> mapping_;
  std::mutex mutex_;
  std::vector<std::pair<Device, StoragePtr>> storages_;
};

struct Shard {
  std::filesystem::path path;
  std::shared_ptr<const io::MappedFile> mapping;
  SafetensorsHeader header;
  std::shared_ptr<SharedMapping> shared;
};

Shard open_shard(const std::filesystem::path& path) {
  Shard shard{path, std::make_shared<const io::MappedFile>(path), {}, {}};
  shard.shared = std::make_shared<SharedMapping>(shard.mapping);
  shard.header = SafetensorsHeader::parse(shard.mapping->text(), shard.mapping->size(), path.string());
  return shard;
}

/// The name of a shard stands beside its index; a path out of the folder is refused.
void check_shard_name(const JsonObject& map, const std::string& tensor, const std::string& file) {
  const bool plain = !file.empty() && file != "." && file != ".." && file.find('/') == std::string::npos &&
                     file.find('\\') == std::string::npos && file.find('\0') == std::string::npos;
  if (!plain) map.fail(tensor.c_str(), "the name of a file beside the index");
}

/// Nothing is read by it: files differ in what they count.
void check_total_size(const JsonObject& top) {
  if (!top.has("metadata")) return;
  const JsonObject metadata = top.object("metadata");
  if (metadata.has("total_size") && metadata.number("total_size") < 0)
    metadata.fail("total_size", "a number of bytes, at least 0");
}

std::filesystem::path file_in(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    std::string why;
    const bool there = io::is_there(path / name, why);
    require<IoError>(why.empty(), "{}: {}", (path / name).string(), why);
    if (there) return path / name;
  }
  throw IoError(fmt::format("{}: must hold model.safetensors or model.safetensors.index.json; got neither",
                            path.string()));
}

}  // namespace

struct SafetensorsReader::State {
  std::vector<Shard> shards;
  std::vector<std::string> names;
  std::map<std::string, std::size_t> shard_of;
  std::map<std::string, std::string> metadata;
  std::vector<std::filesystem::path> files;
  std::uint64_t total_bytes = 0;

  void add(Shard shard);
  void add_index(const std::filesystem::path& index);
};

void SafetensorsReader::State::add(Shard shard) {
  for (const auto& [name, entry] : shard.header.tensors) {
    shard_of.emplace(name, shards.size());
    total_bytes += entry.end - entry.begin;
  }
  metadata.insert(shard.header.metadata.begin(), shard.header.metadata.end());
  files.push_back(shard.path);
  shards.push_back(std::move(shard));
}

void SafetensorsReader::State::add_index(const std::filesystem::path& index) {
  const io::JsonTree document = io::load_json(index);
  const JsonObject top(document, index.string());
  check_total_size(top);
  const JsonObject map = top.object("weight_map");
  std::map<std::string, std::vector<std::string>> tensors_of;  // file -> names
  for (const auto& [name, value] : map.json().items()) {
    const std::string file = map.string(name.c_str());
    check_shard_name(map, name, file);
    tensors_of[file].push_back(name);
  }
  require<IoError>(!tensors_of.empty(), "{}: weight_map must name at least one tensor", index.string());
  for (const auto& [file, expected] : tensors_of) {
    const auto path = index.parent_path() / file;
    std::string why;
    const bool there = io::is_there(path, why);
    require<IoError>(why.empty(), "{}: {}", path.string(), why);
    require<IoError>(there, "{}: weight_map names {}, which is not there; fetch the missing shard",
                     index.string(), file);
    Shard shard = open_shard(path);
    for (const std::string& name : expected) {
      require<IoError>(shard.header.tensors.contains(name),
                       "{}: weight_map puts {} into {}, which does not hold it", index.string(), name, file);
    }
    for (const auto& [name, entry] : shard.header.tensors) {
      const auto owner = map.json().find(name);
      const bool named = owner != map.json().end();
      require<IoError>(named && *owner == file, "{}: {} holds {}, which weight_map {}", index.string(), file,
                       name, named ? "puts elsewhere" : "does not name");
    }
    add(std::move(shard));
  }
}

SafetensorsReader SafetensorsReader::open(const std::filesystem::path& path) {
  auto state = std::make_shared<State>();
  const auto file = file_in(local_path(path));
  if (file.extension() == ".json") {
    state->add_index(file);
  } else {
    state->add(open_shard(file));
  }
  for (const auto& [name, shard] : state->shard_of) state->names.push_back(name);
  return SafetensorsReader(std::move(state));
}

const std::vector<std::string>& SafetensorsReader::names() const {
  return state_->names;
}

bool SafetensorsReader::contains(const std::string& name) const {
  return state_->shard_of.contains(name);
}

const SafetensorsEntry& SafetensorsReader::entry(const std::string& name) const {
  const auto found = state_->shard_of.find(name);
  require<IoError>(found != state_->shard_of.end(),
                   "{}: must hold the tensor {}; it is not among its {} tensors",
                   state_->files.front().string(), name, state_->names.size());
  return state_->shards[found->second].header.tensors.at(name);
}

Tensor SafetensorsReader::tensor(const std::string& name, Device device) const {
  const SafetensorsEntry& found = entry(name);
  const Shard& shard = state_->shards[state_->shard_of.at(name)];
  const auto dtype = dtype_of(found.dtype);
  require<Unsupported>(dtype.has_value(),
                       "{}: {} has dtype {}; supported are F32, BF16, F16, I64, I32, U8 and F64",
                       shard.path.string(), name, found.dtype);
  require<Unsupported>(found.shape.size() <= static_cast<std::size_t>(kMaxRank),
                       "{}: {} has {} dimensions; supported are at most {}", shard.path.string(), name,
                       found.shape.size(), kMaxRank);
  require<Unsupported>(fits(found.shape),
                       "{}: {} has shape [{}]; supported are at most 2^62 elements, even where a size of 0 "
                       "leaves none",
                       shard.path.string(), name, fmt::join(found.shape, ", "));
  const Shape shape{std::span<const std::int64_t>(found.shape)};
  const std::uint64_t begin = shard.header.data_offset + found.begin;
  const std::uint64_t bytes = found.end - found.begin;
  if (bytes == 0) return Tensor::empty(shape, *dtype, device);
  std::byte* const memory = shard.mapping->data();
  if (begin % size_of(*dtype) == 0) {
    if (StoragePtr storage = shard.shared->on(device)) {
      Layout layout = Layout::contiguous(shape);
      layout.offset = static_cast<std::int64_t>(begin / size_of(*dtype));
      return Tensor::from_storage(std::move(storage), layout, *dtype);
    }
  }
  return Tensor::from_bytes({memory + begin, bytes}, shape, *dtype, device);
}

void SafetensorsReader::release(const std::string& name, std::uint64_t begin, std::uint64_t end) const {
  const SafetensorsEntry& found = entry(name);
  const Shard& shard = state_->shards[state_->shard_of.at(name)];
  require<IoError>(begin <= end && end <= found.end - found.begin,
                   "{}: {} has {} bytes; bytes {} to {} are not among them", shard.path.string(), name,
                   found.end - found.begin, begin, end);
  shard.mapping->release(shard.header.data_offset + found.begin + begin, end - begin);
}

const std::map<std::string, std::string>& SafetensorsReader::metadata() const {
  return state_->metadata;
}

const std::vector<std::filesystem::path>& SafetensorsReader::files() const {
  return state_->files;
}

std::uint64_t SafetensorsReader::total_bytes() const {
  return state_->total_bytes;
}

}  // namespace candela
