#include <algorithm>
#include <fmt/ranges.h>
#include <set>
#include <string_view>

#include <candela/core/atomic_file.h>
#include <candela/core/device.h>
#include <candela/io/safetensors.h>

#include "io/json.h"

namespace candela {
namespace {

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return "F32";
    case DType::BF16:
      return "BF16";
    case DType::F16:
      return "F16";
    case DType::I64:
      return "I64";
    case DType::I32:
      return "I32";
    case DType::U8:
      return "U8";
    case DType::F64:
      return "F64";
  }
  return "";
}

template <class T>
void write_elements(AtomicFile& file, const Tensor& tensor) {
  // What the host cannot read itself is copied out as a whole.
  if (tensor.is_contiguous() && device_interface(tensor.device()).host_accessible()) {
    file.write(std::as_bytes(std::span<const T>(tensor.data<T>(), static_cast<std::size_t>(tensor.numel()))));
  } else {
    const std::vector<T> values = tensor.to_vector<T>();
    file.write(std::as_bytes(std::span<const T>(values)));
  }
}

void write_tensor(AtomicFile& file, const Tensor& tensor) {
  if (tensor.numel() == 0) return;
  switch (tensor.dtype()) {
    case DType::F32:
      return write_elements<float>(file, tensor);
    case DType::BF16:
      return write_elements<BFloat16>(file, tensor);
    case DType::F16:
      return write_elements<Float16>(file, tensor);
    case DType::I64:
      return write_elements<std::int64_t>(file, tensor);
    case DType::I32:
      return write_elements<std::int32_t>(file, tensor);
    case DType::U8:
      return write_elements<std::uint8_t>(file, tensor);
    case DType::F64:
      return write_elements<double>(file, tensor);
  }
}

using Item = std::pair<std::string, Tensor>;

std::vector<const Item*> in_file_order(const std::vector<Item>& tensors, const std::string& path) {
  std::vector<const Item*> order;
  for (const Item& item : tensors) {
    require(item.second.defined(), "{}: the tensor {} is undefined", path, item.first);
    require(item.first != "__metadata__", "{}: a tensor must not be named __metadata__", path);
    order.push_back(&item);
  }
  std::sort(order.begin(), order.end(), [](const Item* a, const Item* b) {
    const std::size_t widths[] = {size_of(a->second.dtype()), size_of(b->second.dtype())};
    return widths[0] != widths[1] ? widths[0] > widths[1] : a->first < b->first;
  });
  return order;
}

/// `text` as JSON writes it.
std::string quoted(const std::string& text, const std::string& path) {
  try {
    return io::Json(text).dump();
  } catch (const io::Json::exception&) {
    throw InvalidArgument(fmt::format("{}: tensor names and metadata must be valid UTF-8", path));
  }
}

std::string header_of(const std::vector<const Item*>& order,
                      const std::map<std::string, std::string>& metadata, const std::string& path) {
  std::set<std::string_view> names;
  std::string text;
  const auto add = [&](const std::string& key, std::string_view value) {
    text += fmt::format("{}{}:{}", text.empty() ? "{" : ",", quoted(key, path), value);
  };
  if (!metadata.empty()) {
    std::string entries;
    for (const auto& [key, value] : metadata)
      entries += fmt::format("{}{}:{}", entries.empty() ? "" : ",", quoted(key, path), quoted(value, path));
    add("__metadata__", fmt::format("{{{}}}", entries));
  }
  std::uint64_t position = 0;
  for (const Item* item : order) {
    const Tensor& tensor = item->second;
    const std::uint64_t bytes = static_cast<std::uint64_t>(tensor.numel()) * size_of(tensor.dtype());
    require(names.insert(item->first).second, "{}: the tensor name {} must occur once", path, item->first);
    add(item->first,
        fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name_of(tensor.dtype()),
                    fmt::join(tensor.shape().begin(), tensor.shape().end(), ","), position,
                    position + bytes));
    position += bytes;
  }
  text += text.empty() ? "{}" : "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<Item>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  AtomicFile file(path);
  write_safetensors(file, path, tensors, metadata);
  file.commit();
}

void write_safetensors(AtomicFile& file, const std::filesystem::path& path, const std::vector<Item>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const auto order = in_file_order(tensors, path.string());
  const std::string header = header_of(order, metadata, path.string());
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  file.write(length);
  file.write(header);
  for (const Item* item : order) write_tensor(file, item->second);
}

}  // namespace candela
