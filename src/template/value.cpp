#include "template/value.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "template/text.h"

namespace candela::jinja {
namespace {

int deepest(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth;
}

int nested(int inner) {
  if (inner >= kMaxDepth) fail("RecursionError", fmt::format("containers nest more than {} deep", kMaxDepth));
  return inner + 1;
}

std::uint64_t weighed(std::uint64_t weight) {
  if (weight > kMaxWeight) fail("MemoryError", "a value grows beyond what a template may build");
  return weight;
}

Value sequence(Kind kind, std::vector<Value> items) {
  const int depth = nested(deepest(items));
  std::uint64_t weight = 1;
  for (const Value& item : items) weight = weighed(weight + item.weight());
  return Value::object(kind, std::make_shared<Sequence>(Sequence{std::move(items), depth, weight}));
}

void check_depth(int depth) {
  if (depth > kMaxDepth) fail("RecursionError", "containers nest too deep to compare or print");
}

/// -1, 0 or 1; numbers without NaN.
int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral())
    return a.as_integer() < b.as_integer() ? -1 : a.as_integer() > b.as_integer();
  const double x = a.as_real(), y = b.as_real();
  return x < y ? -1 : x > y;
}

int key_rank(const Value& value) {
  switch (value.kind()) {
    case Kind::None:
      return 0;
    case Kind::Bool:
    case Kind::Int:
      return 1;
    case Kind::Float:
      return std::isnan(value.as_real()) ? 2 : 1;
    case Kind::String:
      return 3;
    case Kind::Tuple:
      return 4;
    case Kind::Undefined:
      return 5;
    default:
      return 6;
  }
}

/// Appends reprs within a limit.
class Printer {
 public:
  explicit Printer(std::size_t limit) : limit_(limit) {}
  void print(const Value& value, int depth);
  std::string take() { return std::move(out_); }

 private:
  void add(std::string_view text) {
    if (out_.size() + text.size() > limit_)
      fail("MemoryError", "a text grows beyond what a template may build");
    out_ += text;
  }
  void items(const std::vector<Value>& values, int depth) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i) add(", ");
      print(values[i], depth + 1);
    }
  }
  void dict(const Dict& value, int depth) {
    add("{");
    for (std::size_t i = 0; i < value.entries.size(); ++i) {
      if (i) add(", ");
      print(value.entries[i].first, depth + 1);
      add(": ");
      print(value.entries[i].second, depth + 1);
    }
    add("}");
  }

  std::size_t limit_;
  std::string out_;
};

void Printer::print(const Value& value, int depth) {
  check_depth(depth);
  switch (value.kind()) {
    case Kind::Undefined:
      return add("Undefined");
    case Kind::None:
      return add("None");
    case Kind::Bool:
      return add(value.as_integer() ? "True" : "False");
    case Kind::Int:
      return add(fmt::format("{}", value.as_integer()));
    case Kind::Float:
      return add(repr(value.as_real()));
    case Kind::String:
      if (value.text().markup) {
        add("Markup(");
        add(repr(value.bytes()));
        return add(")");
      }
      return add(repr(value.bytes()));
    case Kind::List:
      add("[");
      items(value.items(), depth);
      return add("]");
    case Kind::Tuple:
      add("(");
      items(value.items(), depth);
      return add(value.items().size() == 1 ? ",)" : ")");
    case Kind::Dict:
      return dict(value.as_dict(), depth);
    case Kind::View:
      add(value.as<View>().name);
      add("([");
      items(value.as<View>().items, depth);
      return add("])");
    case Kind::Range: {
      const Range& range = value.as<Range>();
      return add(range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                                 : fmt::format("range({}, {}, {})", range.start, range.stop, range.step));
    }
    case Kind::Iterator:
      return add(fmt::format("<{} object>", value.as<Iterator>().name));
    case Kind::Namespace:
      add("<Namespace ");
      dict(value.as<Namespace>().attributes, depth);
      return add(">");
    case Kind::Callable:
      return add(value.as<Callable>().description);
    case Kind::Loop:
      return add("<LoopContext>");
    case Kind::Cycler:
      return add("<Cycler object>");
    case Kind::Joiner:
      return add("<Joiner object>");
  }
}

}  // namespace

void fail(std::string_view type, std::string message) {
  throw Failure{std::string(type), std::move(message), 0};
}

Value Value::boolean(bool value) {
  Value result;
  result.kind_ = Kind::Bool;
  result.number_.integer = value ? 1 : 0;
  return result;
}

Value Value::integer(std::int64_t value) {
  Value result;
  result.kind_ = Kind::Int;
  result.number_.integer = value;
  return result;
}

Value Value::real(double value) {
  Value result;
  result.kind_ = Kind::Float;
  result.number_.real = value;
  return result;
}

Value Value::undefined(std::string message, std::string exception) {
  return object(Kind::Undefined,
                std::make_shared<const Undefined>(Undefined{std::move(message), std::move(exception)}));
}

Value Value::string(std::string bytes, bool markup) {
  const std::size_t length = code_points(bytes);
  return object(Kind::String, std::make_shared<const Text>(Text{std::move(bytes), length, markup}));
}

Value Value::list(std::vector<Value> items) {
  return sequence(Kind::List, std::move(items));
}

Value Value::tuple(std::vector<Value> items) {
  return sequence(Kind::Tuple, std::move(items));
}

Value Value::dict(std::shared_ptr<Dict> dict) {
  return object(Kind::Dict, std::move(dict));
}

const std::vector<Value>& Value::items() const {
  return static_cast<const Sequence*>(object_.get())->items;
}

int Value::depth() const {
  switch (kind_) {
    case Kind::List:
    case Kind::Tuple:
      return static_cast<const Sequence*>(object_.get())->depth;
    case Kind::Dict:
      return as_dict().depth;
    case Kind::Namespace:
      return as<Namespace>().attributes.depth;
    case Kind::View:
      return deepest(as<View>().items) + 1;
    case Kind::Iterator:
      return deepest(as<Iterator>().items) + 1;
    case Kind::Cycler:
      return deepest(as<Cycler>().items) + 1;
    default:
      return 0;
  }
}

std::uint64_t Value::weight() const {
  switch (kind_) {
    case Kind::String:
      return 1 + bytes().size() / 64;
    case Kind::List:
    case Kind::Tuple:
      return static_cast<const Sequence*>(object_.get())->weight;
    case Kind::Dict:
      return as_dict().weight;
    case Kind::View: {
      std::uint64_t weight = 1;
      for (const Value& item : as<View>().items) weight += item.weight();
      return weight;
    }
    default:
      return 1;
  }
}

bool KeyLess::operator()(const Value& a, const Value& b) const {
  const int ra = key_rank(a), rb = key_rank(b);
  if (ra != rb) return ra < rb;
  switch (ra) {
    case 1:
      return compare_numbers(a, b) < 0;
    case 3:
      return a.bytes() < b.bytes();
    case 4:
      return std::lexicographical_compare(a.items().begin(), a.items().end(), b.items().begin(),
                                          b.items().end(), KeyLess{});
    case 6:
      return std::less<const void*>{}(a.identity(), b.identity());
    default:
      return false;
  }
}

namespace {
constexpr std::size_t kIndexed = 8;
bool same_key(const Value& a, const Value& b) {
  return !KeyLess{}(a, b) && !KeyLess{}(b, a);
}
}  // namespace

const Value* Dict::find(const Value& key) const {
  if (entries.size() > kIndexed) {
    const auto at = index_.find(key);
    return at == index_.end() ? nullptr : &entries[at->second].second;
  }
  for (const auto& [own, value] : entries)
    if (same_key(own, key)) return &value;
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (entries.size() > kIndexed) return find(Value::string(std::string(key)));
  for (const auto& [own, value] : entries)
    if (own.is_string() && own.bytes() == key) return &value;
  return nullptr;
}

void Dict::set(Value key, Value value) {
  require_hashable(key);
  depth = std::max(depth, nested(std::max(key.depth(), value.depth())));
  weight = weighed(weight + key.weight() + value.weight());
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = std::move(value);
    return;
  }
  entries.emplace_back(std::move(key), std::move(value));
  if (entries.size() == kIndexed + 1) {
    for (std::size_t i = 0; i < entries.size(); ++i) index_.emplace(entries[i].first, i);
  } else if (entries.size() > kIndexed) {
    index_.emplace(entries.back().first, entries.size() - 1);
  }
}

std::int64_t Range::size() const {
  if (step > 0 && start < stop)
    return static_cast<std::int64_t>(
               (static_cast<std::uint64_t>(stop) - static_cast<std::uint64_t>(start) - 1) /
               static_cast<std::uint64_t>(step)) +
           1;
  if (step < 0 && start > stop)
    return static_cast<std::int64_t>(
               (static_cast<std::uint64_t>(start) - static_cast<std::uint64_t>(stop) - 1) /
               (~static_cast<std::uint64_t>(step) + 1)) +
           1;
  return 0;
}

Value callable(std::string name, std::function<Value(Runtime&, Arguments)> call) {
  auto result = std::make_shared<Callable>();
  result->description = fmt::format("<function {}>", name);
  result->name = std::move(name);
  result->call = std::move(call);
  return Value::object(Kind::Callable, std::move(result));
}

std::string type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
      return "Undefined";
    case Kind::None:
      return "NoneType";
    case Kind::Bool:
      return "bool";
    case Kind::Int:
      return "int";
    case Kind::Float:
      return "float";
    case Kind::String:
      return value.text().markup ? "Markup" : "str";
    case Kind::List:
      return "list";
    case Kind::Tuple:
      return "tuple";
    case Kind::Dict:
      return "dict";
    case Kind::View:
      return value.as<View>().name;
    case Kind::Range:
      return "range";
    case Kind::Iterator:
      return value.as<Iterator>().name;
    case Kind::Namespace:
      return "Namespace";
    case Kind::Callable:
      return "function";
    case Kind::Loop:
      return "LoopContext";
    case Kind::Cycler:
      return "Cycler";
    case Kind::Joiner:
      return "Joiner";
  }
  return "object";
}

std::string object_type(const Value& value) {
  return value.is_none() ? "None" : type_name(value) + " object";
}

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::Undefined:
    case Kind::None:
      return false;
    case Kind::Bool:
    case Kind::Int:
      return value.as_integer() != 0;
    case Kind::Float:
      return value.as_real() != 0;
    case Kind::String:
      return value.text().length > 0;
    case Kind::List:
    case Kind::Tuple:
      return !value.items().empty();
    case Kind::Dict:
      return !value.as_dict().entries.empty();
    case Kind::View:
      return !value.as<View>().items.empty();
    case Kind::Range:
      return value.as<Range>().size() > 0;
    default:
      return true;
  }
}

bool equal(const Value& a, const Value& b, int depth) {
  check_depth(depth);
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.as_integer() == b.as_integer();
    return a.as_real() == b.as_real();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::Undefined:
    case Kind::None:
      return true;
    case Kind::String:
      return a.bytes() == b.bytes();
    case Kind::List:
    case Kind::Tuple:
      if (a.identity() == b.identity()) return true;
      return std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(),
                        [&](const Value& x, const Value& y) { return equal(x, y, depth + 1); });
    case Kind::Dict: {
      if (a.identity() == b.identity()) return true;
      const Dict &x = a.as_dict(), &y = b.as_dict();
      if (x.entries.size() != y.entries.size()) return false;
      for (const auto& [key, value] : x.entries) {
        const Value* other = y.find(key);
        if (!other || !equal(value, *other, depth + 1)) return false;
      }
      return true;
    }
    case Kind::Range: {
      const Range &x = a.as<Range>(), &y = b.as<Range>();
      if (x.size() != y.size()) return false;
      return x.size() == 0 || (x.start == y.start && (x.size() == 1 || x.step == y.step));
    }
    default:
      return a.identity() == b.identity();
  }
}

bool less(const Value& a, const Value& b, const char* symbol, int depth) {
  check_depth(depth);
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.as_integer() < b.as_integer();
    return a.as_real() < b.as_real();
  }
  if (a.is_string() && b.is_string()) return a.bytes() < b.bytes();  // UTF-8 keeps the order of code points
  if (a.is_sequence() && a.kind() == b.kind()) {
    const std::size_t common = std::min(a.items().size(), b.items().size());
    for (std::size_t i = 0; i < common; ++i) {
      if (!equal(a.items()[i], b.items()[i], depth + 1))
        return less(a.items()[i], b.items()[i], symbol, depth + 1);
    }
    return a.items().size() < b.items().size();
  }
  for (const Value* side : {&a, &b})
    if (side->is_undefined()) fail(side->undefined().exception, side->undefined().message);
  fail("TypeError", fmt::format("'{}' not supported between instances of '{}' and '{}'", symbol, type_name(a),
                                type_name(b)));
}

void require_hashable(const Value& value) {
  if (value.is(Kind::List) || value.is(Kind::Dict))
    fail("TypeError", fmt::format("unhashable type: '{}'", type_name(value)));
  if (value.is(Kind::Tuple))
    for (const Value& item : value.items()) require_hashable(item);
}

std::string repr(std::string_view text) {
  const char quote =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      append(out, c);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<std::uint32_t>(c));
    }
  }
  return out + quote;
}

std::string repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // The fewest digits that give the number back, with an exponent where Python has one.
  const std::string text = fmt::format("{}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string repr(const Value& value, std::size_t limit) {
  Printer printer(limit);
  printer.print(value, 0);
  return printer.take();
}

std::string str(const Value& value) {
  if (value.is_string()) return value.bytes();
  if (value.is_undefined()) return "";
  return repr(value);
}

}  // namespace candela::jinja
