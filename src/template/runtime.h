#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "template/value.h"

namespace candela::jinja {

/// What one rendering may take. A template from outside reaches one of them instead of memory's end.
struct Limits {
  std::uint64_t max_steps = 50'000'000;
  /// Of all texts and containers that are built, in all.
  std::uint64_t max_bytes = std::uint64_t{256} << 20;
  std::uint64_t max_output = std::uint64_t{64} << 20;
  int max_depth = 1200;
};

/// What filters, tests, methods and functions need of the rendering they run in.
class Runtime {
 public:
  Runtime(Limits limits, std::optional<std::int64_t> now) : limits_(limits), now_(now) {}

  /// Counts work; RuntimeError beyond the limit.
  void charge(std::uint64_t steps);
  /// Counts memory before it is taken; MemoryError beyond the limit.
  void allocate(std::uint64_t bytes);
  void charge(const Value& value) { charge(value.weight()); }

  /// New values, counted.
  Value string(std::string bytes, bool markup = false);
  Value list(std::vector<Value> items);
  Value tuple(std::vector<Value> items);
  /// str(value), counted.
  std::string str(const Value& value);
  std::string repr(const Value& value);

  /// All elements of an iterable; TypeError if it is none. An iterator is empty afterwards.
  std::vector<Value> elements(const Value& value);
  Value call(const Value& function, Arguments arguments);
  Value filter(std::string_view name, const Value& value, Arguments arguments);
  bool test(std::string_view name, const Value& value, Arguments arguments);

  const Limits& limits() const { return limits_; }
  /// Seconds since 1970 of the clock's reading, taken as local time; the system's clock if none was given.
  std::optional<std::int64_t> now() const { return now_; }
  std::mt19937& random() { return random_; }

  /// The value of a namespace, which is emptied when the rendering ends: it may hold itself.
  Value track(std::shared_ptr<Namespace> space);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Nesting of calls and of evaluation.
  class Deeper {
   public:
    explicit Deeper(Runtime& runtime);
    ~Deeper() { --runtime_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Runtime& runtime_;
  };

 private:
  Limits limits_;
  std::optional<std::int64_t> now_;
  std::uint64_t steps_ = 0, bytes_ = 0;
  int depth_ = 0;
  std::mt19937 random_{0};
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

/// a.name: attribute first, then item. Undefined where neither is there.
Value get_attribute(Runtime& runtime, const Value& object, const std::string& name);
/// a[key]: item first, then attribute.
Value get_item(Runtime& runtime, const Value& object, const Value& key);
/// The attribute alone; nothing if Python's object has none of this name.
std::optional<Value> attribute_of(Runtime& runtime, const Value& object, const std::string& name);
Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step);

Value arithmetic(Runtime& runtime, const std::string& op, const Value& a, const Value& b);
Value negative(const Value& value);
Value positive(const Value& value);
bool contains(Runtime& runtime, const Value& container, const Value& value);
bool compare(Runtime& runtime, std::string_view op, const Value& a, const Value& b);
/// Number of elements; TypeError if it has none.
std::int64_t size_of(const Value& value);

/// text % values.
std::string percent_format(Runtime& runtime, std::string_view text, const Value& values);
/// text.format(*values, **named).
std::string brace_format(Runtime& runtime, std::string_view text, const Arguments& arguments);
/// format(value, specification).
std::string format_value(Runtime& runtime, const Value& value, std::string_view specification);

/// Arguments bound to the names of parameters, as Python binds them.
class Bound {
 public:
  /// TypeError if there are more than names, a name is unknown or given twice, or one of the first `required`
  /// is missing.
  Bound(std::string_view function, Arguments arguments, std::initializer_list<const char*> names,
        std::size_t required = 0);

  bool has(std::size_t i) const { return values_[i].has_value(); }
  /// Whether it is given and not None.
  bool some(std::size_t i) const { return has(i) && !values_[i]->is_none(); }
  const Value& operator[](std::size_t i) const { return *values_[i]; }
  Value get(std::size_t i, Value otherwise = Value()) const { return has(i) ? *values_[i] : otherwise; }
  std::int64_t integer(std::size_t i, std::int64_t otherwise) const;
  bool flag(std::size_t i, bool otherwise) const { return has(i) ? truth(*values_[i]) : otherwise; }
  /// A str; TypeError otherwise.
  const std::string& text(std::size_t i) const;

 private:
  std::string function_;
  std::vector<std::optional<Value>> values_;
};

/// The int of an integral value; TypeError otherwise.
std::int64_t index_of(const Value& value);
/// Fails with what an undefined value says of itself.
[[noreturn]] void fail_undefined(const Value& value);
void require_defined(const Value& value);

}  // namespace candela::jinja
