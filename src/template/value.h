#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Values of templates as Python has them: numbers, text by code point, lists, tuples, dicts in insertion
/// order, and the objects that Jinja adds. Values are immutable but for namespaces, iterators and loops.
namespace candela::jinja {

class Value;
class Runtime;

/// What is wrong in terms of Python: `type` is the exception's name there (`TypeError`), `message` its text.
struct Failure {
  std::string type;
  std::string message;
  int line = 0;  // of the template, once known
};
[[noreturn]] void fail(std::string_view type, std::string message);

enum class Kind : std::uint8_t {
  Undefined,
  None,
  Bool,
  Int,
  Float,
  String,
  List,
  Tuple,
  Dict,
  View,  // what dict.keys(), values() and items() give
  Range,
  Iterator,  // a generator: read once
  Namespace,
  Callable,
  Loop,
  Cycler,
  Joiner,
};

/// Valid UTF-8 with its length in code points.
struct Text {
  std::string bytes;
  std::size_t length = 0;
  bool markup = false;  // marked by `safe` or `escape`

  bool ascii() const { return bytes.size() == length; }
};

struct Undefined {
  std::string message;
  std::string exception = "UndefinedError";
};

struct Sequence;
struct Dict;
struct Range;
struct Iterator;
struct Namespace;
struct Callable;
struct Loop;
struct Cycler;
struct Joiner;

/// Counted handle of a value. Ints have 64 bits; what does not fit is an OverflowError.
class Value {
 public:
  Value() : kind_(Kind::None) { number_.integer = 0; }
  static Value boolean(bool value);
  static Value integer(std::int64_t value);
  static Value real(double value);
  static Value undefined(std::string message, std::string exception = "UndefinedError");
  /// `bytes` must be valid UTF-8.
  static Value string(std::string bytes, bool markup = false);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value dict(std::shared_ptr<Dict> dict);
  template <class T>
  static Value object(Kind kind, std::shared_ptr<T> object) {
    Value value;
    value.kind_ = kind;
    value.object_ = std::move(object);
    return value;
  }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_undefined() const { return kind_ == Kind::Undefined; }
  bool is_none() const { return kind_ == Kind::None; }
  bool is_string() const { return kind_ == Kind::String; }
  /// int, bool or float.
  bool is_number() const { return is_integral() || kind_ == Kind::Float; }
  /// int or bool: Python's bools are ints.
  bool is_integral() const { return kind_ == Kind::Int || kind_ == Kind::Bool; }
  bool is_sequence() const { return kind_ == Kind::List || kind_ == Kind::Tuple; }

  /// The number of an integral value.
  std::int64_t as_integer() const { return number_.integer; }
  /// The number of any number.
  double as_real() const {
    return kind_ == Kind::Float ? number_.real : static_cast<double>(number_.integer);
  }
  const Text& text() const { return *static_cast<const Text*>(object_.get()); }
  const std::string& bytes() const { return text().bytes; }
  const Undefined& undefined() const { return *static_cast<const Undefined*>(object_.get()); }
  /// The elements of a list or tuple.
  const std::vector<Value>& items() const;
  const Dict& as_dict() const { return *static_cast<const Dict*>(object_.get()); }
  template <class T>
  T& as() const {
    return *static_cast<T*>(const_cast<void*>(object_.get()));
  }
  const void* identity() const { return object_.get(); }
  /// Containers inside each other, this one included; 0 for what holds nothing.
  int depth() const;
  /// What comparing or printing it costs, in steps: the nodes of its tree, and one for 64 bytes of text.
  std::uint64_t weight() const;

 private:
  Kind kind_;
  union {
    std::int64_t integer;
    double real;
  } number_;
  std::shared_ptr<const void> object_;
};

struct Sequence {
  std::vector<Value> items;
  int depth = 1;
  std::uint64_t weight = 1;
};

/// Total order over hashable values in which equal keys (1, 1.0 and true) are one.
struct KeyLess {
  bool operator()(const Value& a, const Value& b) const;
};

/// Entries in insertion order. Larger ones have a search tree, whose height no choice of keys can raise.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;
  std::uint64_t weight = 1;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  /// Sets or replaces; TypeError if `key` has no hash.
  void set(Value key, Value value);

 private:
  std::map<Value, std::size_t, KeyLess> index_;
};

struct View {
  const char* name;  // dict_keys, dict_values or dict_items
  std::vector<Value> items;
};

struct Range {
  std::int64_t start = 0, stop = 0, step = 1;
  std::int64_t size() const;
};

/// Elements computed up to the first that failed, which fails when it is reached.
struct Iterator {
  std::vector<Value> items;
  std::size_t next = 0;
  std::shared_ptr<Failure> failure;
  const char* name = "generator";
};

struct Namespace {
  Dict attributes;
};

/// Arguments of a call: by position, then by name.
struct Arguments {
  std::vector<Value> values;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable {
  std::string name;
  std::string description;  // its repr
  std::function<Value(Runtime&, Arguments)> call;
};

struct Cycler {
  std::vector<Value> items;
  std::size_t position = 0;
};

struct Joiner {
  Value separator;
  bool used = false;
};

/// Deepest nesting of containers that a template may build or be given.
inline constexpr int kMaxDepth = 200;
/// Largest weight of a container. Containers share their parts, so a few of them can stand for a tree of any
/// size.
inline constexpr std::uint64_t kMaxWeight = 20'000'000;

Value callable(std::string name, std::function<Value(Runtime&, Arguments)> call);

/// Name of the type in Python: `str`, `NoneType`, `dict`.
std::string type_name(const Value& value);
/// As Jinja names an object in errors: `None`, `'dict object'`.
std::string object_type(const Value& value);

bool truth(const Value& value);
/// Whether `a == b`.
bool equal(const Value& a, const Value& b, int depth = 0);
/// Whether `a < b`; TypeError for values without an order. `symbol` names the operator in errors.
bool less(const Value& a, const Value& b, const char* symbol = "<", int depth = 0);
void require_hashable(const Value& value);

/// Python's repr and str of a value; the text is at most `limit` bytes, a MemoryError beyond.
std::string repr(const Value& value, std::size_t limit = std::size_t{1} << 26);
std::string str(const Value& value);
std::string repr(std::string_view text);
std::string repr(double value);

}  // namespace candela::jinja
