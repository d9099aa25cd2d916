#pragma once

#include <CLI/CLI.hpp>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

/// Options that check their values as they are read: what is wrong with the command line is found before any
/// work.
namespace candela::cli {

/// The values that a number may have. NaN is never among them.
struct Bounds {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  /// low itself is not allowed
  bool above_low = false;
  /// high itself is not allowed
  bool below_high = false;
};

/// Largest count that an option takes.
inline constexpr double kMostCount = 2147483647;
/// The highest rank of an adapter that an option takes.
inline constexpr double kMostRank = 65536;

/// The option of `command` that goes by `name` ("--rank"); null: none. CLI11's own look-up is noexcept and
/// allocates, so that it ends the process where memory is short.
CLI::Option* find_option(CLI::App& command, const std::string& name);
const CLI::Option* find_option(const CLI::App& command, const std::string& name);

CLI::Validator number_within(const Bounds& bounds, bool whole);

template <class T>
struct NumberType {
  using Type = T;
};
template <class T>
struct NumberType<std::optional<T>> {
  using Type = T;
};

/// An option with one number, which may be optional (then it has no default).
template <class T>
CLI::Option* add_number(CLI::App& command, const std::string& name, T& value, const Bounds& bounds,
                        const std::string& help) {
  using Number = typename NumberType<T>::Type;
  CLI::Option* option = command.add_option(name, value, help);
  option->check(number_within(bounds, std::is_integral_v<Number>));
  if constexpr (std::is_same_v<T, Number>) option->capture_default_str();
  return option;
}

/// Refuses the empty text: as a path it would stand for the current folder, or for no option at all.
CLI::Validator not_empty();

/// Takes one of `choices`.
CLI::Validator one_of(const std::vector<std::string>& choices);

/// An option with the path of a file or folder.
CLI::Option* add_path(CLI::App& command, const std::string& name, std::string& value,
                      const std::string& help);

/// An option with one of `choices`, which its get_type_name() shows: "{a,b}".
CLI::Option* add_choice(CLI::App& command, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& help);

/// An option with any number of texts that are not empty, each taken as it is written: CLI11 itself would
/// split "[a,b]".
CLI::Option* add_list(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                      const std::string& help);
/// As add_list, of names, which may also stand in one text with commas between them.
CLI::Option* add_names(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                       const std::string& help);
/// As add_list, of files and folders.
CLI::Option* add_paths(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                       const std::string& help);
/// Whether add_path() or add_paths() made it.
bool takes_path(const CLI::Option& option);
/// Whether add_list(), add_names() or add_paths() made it.
bool is_list(const CLI::Option& option);
/// The values that one text of a list stands for.
std::vector<std::string> list_values(const CLI::Option& option, const std::string& text);
/// How the value of a list must be handed to CLI11 to come out as it is.
std::string literal(const std::string& value);

}  // namespace candela::cli
