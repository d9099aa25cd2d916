#include <algorithm>
#include <chrono>
#include <ctime>
#include <fmt/format.h>

#include "template/library.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100'000;

Value range(Runtime&, Arguments arguments) {
  const Bound bound("range", std::move(arguments), {"start", "stop", "step"}, 1);
  Range range;
  if (bound.has(1)) {
    range.start = index_of(bound[0]);
    range.stop = index_of(bound[1]);
  } else {
    range.stop = index_of(bound[0]);
  }
  range.step = bound.integer(2, 1);
  if (range.step == 0) fail("ValueError", "range() arg 3 must not be zero");
  // Sizes are counted in unsigned numbers: half of them look negative here.
  if (range.size() > kMaxRange || range.size() < 0) {
    fail("OverflowError",
         fmt::format("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kMaxRange));
  }
  return Value::object(Kind::Range, std::make_shared<Range>(range));
}

/// dict(mapping or pairs, **named).
std::shared_ptr<Dict> dict_of(Runtime& runtime, Arguments arguments, const char* name) {
  if (arguments.values.size() > 1)
    fail("TypeError", fmt::format("{} expected at most 1 argument, got {}", name, arguments.values.size()));
  auto dict = std::make_shared<Dict>();
  const auto set = [&](const Value& key, const Value& value) {
    runtime.allocate(3 * sizeof(Value));
    dict->set(key, value);
  };
  if (!arguments.values.empty()) {
    const Value& from = arguments.values[0];
    if (from.is(Kind::Dict)) {
      for (const auto& [key, value] : from.as_dict().entries) set(key, value);
    } else {
      require_defined(from);
      for (const Value& pair : runtime.elements(from)) {
        const std::vector<Value> parts = runtime.elements(pair);
        if (parts.size() != 2)
          fail("ValueError",
               fmt::format("dictionary update sequence element has length {}; 2 is required", parts.size()));
        set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [key, value] : arguments.named) set(runtime.string(key), value);
  return dict;
}

Value make_namespace(Runtime& runtime, Arguments arguments) {
  auto result = std::make_shared<Namespace>();
  result->attributes = std::move(*dict_of(runtime, std::move(arguments), "namespace"));
  for (const auto& [key, value] : result->attributes.entries) {
    if (key.is_string() && key.bytes().starts_with("_"))
      fail("SecurityError", "Chat templates cannot store underscore-prefixed attributes on a namespace");
  }
  return runtime.track(std::move(result));
}

Value cycler(Runtime&, Arguments arguments) {
  if (arguments.values.empty()) fail("RuntimeError", "at least one item has to be provided");
  return Value::object(Kind::Cycler, std::make_shared<Cycler>(Cycler{std::move(arguments.values), 0}));
}

Value joiner(Runtime& runtime, Arguments arguments) {
  const Bound bound("joiner", std::move(arguments), {"sep"});
  return Value::object(Kind::Joiner,
                       std::make_shared<Joiner>(Joiner{bound.get(0, runtime.string(", ")), false}));
}

Value raise_exception(Runtime& runtime, Arguments arguments) {
  const Bound bound("raise_exception", std::move(arguments), {"message"}, 1);
  fail("TemplateError", runtime.str(bound[0]));
}

/// datetime.now().strftime(format).
Value strftime_now(Runtime& runtime, Arguments arguments) {
  const Bound bound("strftime_now", std::move(arguments), {"format"}, 1);
  std::string format = bound.text(0);
  std::tm time{};
  if (runtime.now()) {
    const auto seconds = static_cast<std::time_t>(*runtime.now());
    gmtime_r(&seconds, &time);
  } else {
    const std::time_t seconds = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    localtime_r(&seconds, &time);
  }
  if (format.size() > 4096) fail("ValueError", "strftime_now: the format must have at most 4096 bytes");
  for (std::size_t i = 0; i + 1 < format.size(); ++i) {
    if (format[i] != '%') continue;
    // Python's own directives, and widths, which the C library would honour up to any size.
    if (format[i + 1] == 'f')
      format.replace(i, 2, "000000");
    else if (format[i + 1] == 'z' || format[i + 1] == 'Z')
      format.erase(i, 2), i = i ? i - 1 : 0;
    else if (format[i + 1] >= '0' && format[i + 1] <= '9')
      fail("ValueError", "strftime_now: a directive must have no width");
    else
      ++i;
  }
  if (format.empty()) return runtime.string("");
  std::string text(format.size() * 40 + 64, '\0');
  const std::size_t size = std::strftime(text.data(), text.size(), format.c_str(), &time);
  text.resize(size);
  if (!valid_utf8(text)) fail("ValueError", "strftime_now: the format must give valid text");
  return runtime.string(std::move(text));
}

}  // namespace

std::vector<std::pair<std::string, Value>> globals() {
  return {
      {"range", callable("range", range)},
      {"dict", callable("dict", [](Runtime& r,
                                   Arguments a) { return Value::dict(dict_of(r, std::move(a), "dict")); })},
      {"namespace", callable("namespace", make_namespace)},
      {"cycler", callable("cycler", cycler)},
      {"joiner", callable("joiner", joiner)},
      {"raise_exception", callable("raise_exception", raise_exception)},
      {"strftime_now", callable("strftime_now", strftime_now)},
  };
}

}  // namespace candela::jinja
