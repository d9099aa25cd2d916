#include "cli/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace candela::cli {
namespace {

constexpr const char* kPathType = "PATH";
constexpr const char* kListType = "LIST";
constexpr const char* kNamesType = "NAMES";
/// add_paths()
constexpr const char* kPathsType = "PATHS";
/// In front of a value, keeps CLI11 from seeing a bracket there. No text that a person types begins with it.
constexpr char kMark = '\x1f';

/// The one of `options` that goes by `name`; null: none.
template <class Option>
Option* named(const std::vector<Option*>& options, const std::string& name) {
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const Option* option) { return option->check_name(name); });
  return found == options.end() ? nullptr : *found;
}

/// Whether `text` is a number such as 016, which CLI11 would read as octal.
bool has_leading_zero(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// The whole of `text` as a number; nothing if it is none. Whole numbers must fit std::int64_t.
std::optional<double> parse_number(const std::string& text, bool whole) {
  if (whole) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return static_cast<double>(value);
  }
  if (text.empty() || std::isspace(static_cast<unsigned char>(text[0])) != 0) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end == text.c_str() + text.size() ? std::optional(value) : std::nullopt;
}

std::string describe(const Bounds& bounds, bool whole) {
  const char* const kind = whole ? "a whole number" : "a number";
  if (std::isinf(bounds.low) && std::isinf(bounds.high)) return "a finite number";
  if (std::isinf(bounds.high)) {
    return fmt::format("{} {} {}", kind, bounds.above_low ? "above" : "of at least", bounds.low);
  }
  // Bounds of whole numbers would else be written as 2.147e9.
  const auto shown = [&](double bound) {
    return whole ? fmt::format("{}", static_cast<std::int64_t>(bound)) : fmt::format("{}", bound);
  };
  return fmt::format("{} in {}{}, {}{}", kind, bounds.above_low ? '(' : '[', shown(bounds.low),
                     shown(bounds.high), bounds.below_high ? ')' : ']');
}

}  // namespace

CLI::Option* find_option(CLI::App& command, const std::string& name) {
  return named(command.get_options(), name);
}

const CLI::Option* find_option(const CLI::App& command, const std::string& name) {
  return named(command.get_options(), name);
}

CLI::Validator number_within(const Bounds& bounds, bool whole) {
  return CLI::Validator(
      [bounds, whole](const std::string& text) -> std::string {
        if (whole && has_leading_zero(text)) {
          return fmt::format("must be {}, without a leading zero; got {}", describe(bounds, whole), text);
        }
        const std::optional<double> value = parse_number(text, whole);
        const bool fits = value && (bounds.above_low ? *value > bounds.low : *value >= bounds.low) &&
                          (bounds.below_high ? *value < bounds.high : *value <= bounds.high) &&
                          std::isfinite(*value);
        return fits ? std::string() : fmt::format("must be {}; got {}", describe(bounds, whole), text);
      },
      "");
}

CLI::Validator not_empty() {
  return CLI::Validator(
      [](const std::string& text) { return text.empty() ? std::string("must not be empty") : std::string(); },
      "");
}

CLI::Validator one_of(const std::vector<std::string>& choices) {
  return CLI::Validator(
      [choices](const std::string& text) -> std::string {
        if (std::find(choices.begin(), choices.end(), text) != choices.end()) return {};
        return fmt::format("must be one of {}; got {}", fmt::join(choices, ", "), text);
      },
      "");
}

CLI::Option* add_path(CLI::App& command, const std::string& name, std::string& value,
                      const std::string& help) {
  return command.add_option(name, value, help)->check(not_empty())->type_name(kPathType);
}

CLI::Option* add_choice(CLI::App& command, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& help) {
  CLI::Option* const option = command.add_option(name, value, help)->check(one_of(choices));
  return option->capture_default_str()->type_name(fmt::format("{{{}}}", fmt::join(choices, ",")));
}

CLI::Option* add_list(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                      const std::string& help) {
  CLI::Option* option = command.add_option(name, values, help);
  option->type_name(kListType)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  option->default_str(fmt::format("{}", fmt::join(values, " ")));
  option->transform(
      [](const std::string& text) { return !text.empty() && text[0] == kMark ? text.substr(1) : text; });
  option->check(not_empty());
  return option;
}

CLI::Option* add_paths(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                       const std::string& help) {
  return add_list(command, name, values, help)->type_name(kPathsType);
}

CLI::Option* add_names(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                       const std::string& help) {
  return add_list(command, name, values, help)->type_name(kNamesType);
}

bool is_list(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type == kListType || type == kNamesType || type == kPathsType;
}

bool takes_path(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type == kPathType || type == kPathsType;
}

std::vector<std::string> list_values(const CLI::Option& option, const std::string& text) {
  if (option.get_type_name() != kNamesType) return {text};
  std::vector<std::string> values;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::size_t first = std::min(text.find_first_not_of(' ', begin), end);
    const std::size_t last = first == end ? end : text.find_last_not_of(' ', end - 1) + 1;
    values.push_back(text.substr(first, last - first));
    begin = end + 1;
  }
  return values;
}

std::string literal(const std::string& value) {
  return kMark + value;
}

}  // namespace candela::cli
