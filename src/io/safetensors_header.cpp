#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <candela/io/safetensors.h>

#include "io/json.h"

namespace candela {
namespace {

using io::JsonObject;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // as the format's own reader
constexpr std::size_t kLengthBytes = 8;

/// Bits of one element; nothing for a dtype that is not known.
std::optional<std::uint64_t> bits_of(std::string_view dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64" || dtype == "C64") return 64;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 32;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 16;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL" || dtype.starts_with("F8_")) return 8;
  if (dtype.starts_with("F6_")) return 6;
  if (dtype == "F4") return 4;
  return std::nullopt;
}

std::uint64_t length_of(std::string_view bytes, std::uint64_t file_size, const std::string& source) {
  require<IoError>(
      file_size >= kLengthBytes && bytes.size() >= kLengthBytes,
      "{}: must begin with 8 bytes of header length; the file has {} bytes and is no safetensors file",
      source, file_size);
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  const std::uint64_t room = std::min<std::uint64_t>(file_size, bytes.size()) - kLengthBytes;
  require<IoError>(
      length <= room && length <= kMaxHeaderBytes,
      "{}: the header length must be at most {}; got {}: the file is truncated or no safetensors file",
      source, std::min(room, kMaxHeaderBytes), length);
  return length;
}

std::uint64_t unsigned_item(const JsonObject& tensor, const char* key, const io::Json& item) {
  const bool fits = item.is_number_unsigned() && item.get<std::uint64_t>() <= std::uint64_t{1} << 62;
  if (!fits) tensor.fail(key, "made of integers in [0, 2^62]");
  return item.get<std::uint64_t>();
}

SafetensorsEntry read_entry(const JsonObject& tensor, std::uint64_t data_bytes) {
  SafetensorsEntry entry;
  entry.dtype = tensor.string("dtype");
  const io::Json& shape = tensor.at("shape");
  if (!shape.is_array()) tensor.fail("shape", "an array of sizes");
  for (const io::Json& size : shape)
    entry.shape.push_back(static_cast<std::int64_t>(unsigned_item(tensor, "shape", size)));
  const io::Json& offsets = tensor.at("data_offsets");
  if (!offsets.is_array() || offsets.size() != 2) tensor.fail("data_offsets", "a pair [begin, end]");
  entry.begin = unsigned_item(tensor, "data_offsets", offsets[0]);
  entry.end = unsigned_item(tensor, "data_offsets", offsets[1]);
  if (entry.begin > entry.end || entry.end > data_bytes) {
    tensor.fail("data_offsets", fmt::format("in order and within the {} bytes of data", data_bytes));
  }
  const auto bits = bits_of(entry.dtype);
  if (!bits) return entry;
  std::uint64_t total = *bits;
  bool empty = false;
  for (const std::int64_t size : entry.shape) empty = empty || size == 0;
  for (const std::int64_t size : entry.shape) {
    if (empty) break;
    const auto count = static_cast<std::uint64_t>(size);
    if (total > std::numeric_limits<std::uint64_t>::max() / count)
      tensor.fail("shape", "a shape of less than 2^64 bits");
    total *= count;
  }
  if (empty) total = 0;
  if (total % 8 != 0 || total / 8 != entry.end - entry.begin) {
    tensor.fail("data_offsets",
                fmt::format("{} bytes apart, as {} {} needs", total / 8, entry.dtype, io::shown(shape)));
  }
  return entry;
}

/// The tensors must follow one another from the first byte of the data to the last.
void check_cover(const std::map<std::string, SafetensorsEntry>& tensors, std::uint64_t data_bytes,
                 const std::string& source) {
  std::vector<const std::pair<const std::string, SafetensorsEntry>*> order;
  order.reserve(tensors.size());
  for (const auto& item : tensors) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t position = 0;
  for (const auto* item : order) {
    require<IoError>(item->second.begin == position,
                     "{}: {} must begin at byte {} of the data, where the tensor before it ends; "
                     "got {}: the tensors overlap or leave a hole",
                     source, item->first, position, item->second.begin);
    position = item->second.end;
  }
  require<IoError>(position == data_bytes,
                   "{}: the tensors must end at byte {} of the data, where the file ends; got {}", source,
                   data_bytes, position);
}

}  // namespace

SafetensorsHeader SafetensorsHeader::parse(std::string_view bytes, std::uint64_t file_size,
                                           const std::string& source) {
  const std::uint64_t length = length_of(bytes, file_size, source);
  SafetensorsHeader header;
  header.data_offset = kLengthBytes + length;
  const std::string where = source + ": header";
  bool has_metadata = false;
  const auto read = [&](const std::string& name, const io::Json& value) {
    if (name != "__metadata__") {
      const bool once =
          header.tensors
              .emplace(name, read_entry(JsonObject(value, where, name), file_size - header.data_offset))
              .second;
      require<IoError>(once, "{}: key \"{}\" must occur once; it occurs again in the same object", where,
                       name);
      return;
    }
    const JsonObject texts(value, where, name);
    require<IoError>(!std::exchange(has_metadata, true),
                     "{}: key \"{}\" must occur once; it occurs again in the same object", where, name);
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) texts.fail(key.c_str(), "a string");
      header.metadata.emplace(key, text.get<std::string>());
    }
  };
  // One tensor at a time: as a tree, 100 MB of header can take gigabytes.
  constexpr std::size_t kMostValues = 1 << 16;  // of one tensor, or of the metadata
  io::parse_json_members(bytes.substr(kLengthBytes, length), where,
                         {.max_bytes = kMaxHeaderBytes, .max_depth = 8, .max_values = kMostValues}, read);
  const auto first = static_cast<unsigned char>(bytes[kLengthBytes]);
  require<IoError>(first == '{', "{}: must begin with {{; got the byte {:#04x}", where, first);
  check_cover(header.tensors, file_size - header.data_offset, source);
  return header;
}

}  // namespace candela
