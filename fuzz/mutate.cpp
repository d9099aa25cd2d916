#include "fuzz/mutate.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace candela::fuzz {
namespace {

using Json = nlohmann::ordered_json;
using Random = std::mt19937;

constexpr std::size_t kMostNodes = 4096;

std::size_t below(Random& random, std::size_t count) {
  return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
}

std::string mutated_bytes(std::string text, std::size_t max_size) {
  const std::size_t size = text.size();
  text.resize(std::max(max_size, size));
  text.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), size, text.size()));
  return text;
}

/// Values at the edges of what readers take.
Json edge(Random& random) {
  static const std::vector<Json> values = {nullptr,
                                           true,
                                           false,
                                           0,
                                           1,
                                           -1,
                                           2,
                                           3,
                                           7,
                                           8,
                                           64,
                                           255,
                                           65'536,
                                           2'147'483'647,
                                           2'147'483'648LL,
                                           std::numeric_limits<std::int64_t>::max(),
                                           std::numeric_limits<std::int64_t>::min(),
                                           std::numeric_limits<std::uint64_t>::max(),
                                           0.5,
                                           -0.0,
                                           1e-310,
                                           1e-45,
                                           1e38,
                                           1e308,
                                           -1e308,
                                           "",
                                           "a",
                                           " ",
                                           "\n",
                                           "\x1b[31m",
                                           "\xE2\x80\xAE",
                                           "../x",
                                           "/",
                                           "llama",
                                           "BPE",
                                           "F32",
                                           "BF16",
                                           "I64",
                                           Json::array(),
                                           Json::object(),
                                           Json::array({0}),
                                           Json::array({0, 0}),
                                           Json::array({Json::array()})};
  return values[below(random, values.size())];
}

void collect(Json& value, std::vector<Json*>& nodes) {
  if (nodes.size() >= kMostNodes) return;
  nodes.push_back(&value);
  if (!value.is_structured()) return;
  for (Json& item : value) collect(item, nodes);
}

/// An item of an array, or a member of an object, whose iterators go by single steps.
Json::iterator any_item(Json& value, Random& random) {
  return std::next(value.begin(), static_cast<std::ptrdiff_t>(below(random, value.size())));
}

void change_scalar(Json& value, Random& random) {
  if (value.is_string()) {
    value = mutated_bytes(value.get<std::string>(), value.get_ref<const std::string&>().size() + 16);
  } else if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    const std::int64_t steps[] = {1, -1, number, number / 2 + 1};
    const auto sum = static_cast<std::uint64_t>(number) + static_cast<std::uint64_t>(steps[below(random, 4)]);
    value = static_cast<std::int64_t>(sum);
  } else if (value.is_number_float()) {
    const double factors[] = {-1, 0.5, 2, 1e-30, 1e30};
    value = value.get<double>() * factors[below(random, 5)];
  } else {
    value = edge(random);
  }
}

/// Repeats an item of an array, or a member under other names, as often as `room` bytes allow, or less.
void repeat(Json& value, std::size_t room, Random& random) {
  if (!value.is_structured() || value.empty()) return;
  const auto found = any_item(value, random);
  const Json item = *found;
  const std::string key = value.is_object() ? found.key() : "";
  const std::size_t each = item.dump(-1, ' ', false, Json::error_handler_t::replace).size() + key.size() + 12;
  const std::size_t most = std::min(room / each, std::size_t{1} << (2 + below(random, 18)));
  // An ordered object is searched from its start for every key.
  const std::size_t count = value.is_array() ? most : std::min<std::size_t>(most, 512);
  for (std::size_t i = 0; i < count; ++i) {
    if (value.is_array()) {
      value.push_back(item);
    } else {
      value[key + std::to_string(i)] = item;
    }
  }
}

void mutate_node(Json& value, const std::vector<Json*>& nodes, std::size_t room, Random& random) {
  switch (below(random, 8)) {
    case 0:
      value = edge(random);
      return;
    case 1: {  // from elsewhere in the document
      Json copy = *nodes[below(random, nodes.size())];
      value = std::move(copy);
      return;
    }
    case 2:
      if (value.is_structured() && !value.empty()) {
        const auto gone = any_item(value, random);
        value.erase(gone);
        return;
      }
      break;
    case 3:
      return repeat(value, room, random);
    case 4: {
      Json around = Json::array();
      for (std::size_t depth = below(random, 80) + 1; depth > 0; --depth) {
        around = Json::array({std::move(value)});
        value = std::move(around);
      }
      return;
    }
    case 5:
      if (value.is_object() && !value.empty()) {
        const auto member = any_item(value, random);
        Json moved = member.value();
        const std::string key = member.key();
        value.erase(member);
        value[mutated_bytes(key, key.size() + 8)] = std::move(moved);
        return;
      }
      break;
    case 6:
      if (value.is_array() && !value.empty()) {
        std::shuffle(value.begin(), value.end(), random);
        return;
      }
      break;
    default:
      break;
  }
  change_scalar(value, random);
}

/// How deep brackets nest, those within strings included.
std::size_t depth_of(const std::string& text) {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') deepest = std::max(deepest, ++depth);
    if ((c == ']' || c == '}') && depth > 0) --depth;
  }
  return deepest;
}

/// Text that is no JSON, or nests too deep for a recursive writer, changes byte by byte.
std::string mutate_json(const std::string& text, std::size_t max_size, Random& random) {
  constexpr std::size_t kDeepest = 500;
  if (depth_of(text) > kDeepest || below(random, 8) == 0) return mutated_bytes(text, max_size);
  Json document = Json::parse(text, nullptr, false);
  if (document.is_discarded()) return mutated_bytes(text, max_size);
  const std::size_t room = max_size > text.size() ? max_size - text.size() : 0;
  for (std::size_t times = below(random, 3) + 1; times > 0; --times) {
    std::vector<Json*> nodes;
    collect(document, nodes);
    mutate_node(*nodes[below(random, nodes.size())], nodes, room, random);
  }
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::size_t width_of(const Json& dtype) {
  static const std::pair<const char*, std::size_t> widths[] = {{"F64", 8}, {"I64", 8},  {"F32", 4},
                                                               {"I32", 4}, {"BF16", 2}, {"F16", 2}};
  for (const auto& [name, width] : widths) {
    if (dtype == name) return width;
  }
  return 1;
}

/// The tensors one behind the other, each of the bytes that its dtype and shape ask for. The bytes of all.
std::size_t lay_out(Json& header, std::size_t most) {
  std::size_t position = 0;
  if (!header.is_object()) return 0;
  for (auto& [name, entry] : header.items()) {
    if (name == "__metadata__" || !entry.is_object() || !entry.contains("shape")) continue;
    const Json& shape = entry["shape"];
    std::size_t bytes = entry.contains("dtype") ? width_of(entry["dtype"]) : 1;
    if (!shape.is_array()) continue;
    for (const Json& size : shape) {
      const std::uint64_t dimension = size.is_number_unsigned() ? size.get<std::uint64_t>() : 1;
      bytes = dimension == 0 ? 0 : std::min(bytes, most / dimension) * dimension;
    }
    if (bytes > most - position) break;
    entry["data_offsets"] = Json::array({position, position + bytes});
    position += bytes;
  }
  return position;
}

std::string mutate_safetensors(const std::string& text, std::size_t max_size, Random& random) {
  std::uint64_t length = 0;
  if (text.size() >= sizeof length) std::memcpy(&length, text.data(), sizeof length);
  const bool framed = text.size() >= sizeof length && length <= text.size() - sizeof length;
  if (!framed || below(random, 6) == 0) return mutated_bytes(text, max_size);
  std::string header = mutate_json(text.substr(sizeof length, length), max_size / 2, random);
  std::string bytes = text.substr(sizeof length + length);
  Json document = Json::parse(header, nullptr, false);
  if (!document.is_discarded() && below(random, 4) != 0) {
    const std::size_t room = max_size > header.size() + 64 ? max_size - header.size() - 64 : 0;
    bytes.resize(lay_out(document, room), '\0');
    header = document.dump(-1, ' ', false, Json::error_handler_t::replace);
    header.append((8 - header.size() % 8) % 8, ' ');
  }
  length = header.size();
  std::string result(sizeof length, '\0');
  std::memcpy(result.data(), &length, sizeof length);
  return result + header + bytes;
}

}  // namespace

std::size_t mutate_parts(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed,
                         std::initializer_list<Part> parts) {
  Random random(seed);
  const std::string input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> pieces;
  for (std::size_t at = 0, i = 0; i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    const std::size_t end = last ? input.size() : std::min(input.find('\0', at), input.size());
    pieces.push_back(input.substr(std::min(at, input.size()), end - std::min(at, end)));
    at = std::min(end + 1, input.size());
  }
  const std::size_t chosen = below(random, pieces.size());
  std::string& piece = pieces[chosen];
  const std::size_t room = max_size > size ? piece.size() + max_size - size : piece.size();
  switch (parts.begin()[chosen]) {
    case Part::Json:
      piece = mutate_json(piece, room, random);
      break;
    case Part::Safetensors:
      piece = mutate_safetensors(piece, room, random);
      break;
    case Part::Bytes:
      piece = mutated_bytes(piece, room);
      break;
  }
  std::string output;
  for (std::size_t i = 0; i < pieces.size(); ++i) output += (i == 0 ? "" : std::string(1, '\0')) + pieces[i];
  if (output.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, output.data(), output.size());
  return output.size();
}

}  // namespace candela::fuzz
