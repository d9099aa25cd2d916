#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <candela/template/error.h>

#include "template/runtime.h"

/// Jinja as chat templates use it: the language of Jinja 3.1 with trim_blocks and lstrip_blocks, in its
/// immutable sandbox, with the additions of transformers (tojson without HTML escapes, raise_exception,
/// strftime_now, break and continue,
/// {% generation %}). Templates that load others, {% trans %} and line statements are not part of it.
///
/// A template from outside is hostile: steps, memory, output and nesting are bounded (Limits), and it sees
/// nothing but its variables. Integers have 64 bits.
namespace candela::jinja {

/// Bytes [begin, end) of a text.
struct Span {
  std::size_t begin = 0, end = 0;
};

struct Rendering {
  std::string text;
  /// What {% generation %} encloses, in order.
  std::vector<Span> generated;
  /// A {% generation %} was rendered inside a macro, a set block or a filter whose text was then changed or
  /// not printed: where it went is not known.
  bool generated_elsewhere = false;
};

using Variables = std::vector<std::pair<std::string, Value>>;

class Template {
 public:
  /// TemplateError with `name` and line for what is no template; at most kMaxSource bytes of valid UTF-8.
  static Template parse(std::string_view source, std::string name);
  static constexpr std::size_t kMaxSource = std::size_t{1} << 20;

  /// TemplateError with name, line and what Python would raise. `now`: what strftime_now reads, in seconds
  /// since 1970.
  Rendering render(const Variables& variables, std::optional<std::int64_t> now = std::nullopt,
                   const Limits& limits = {}) const;
  /// Whether the template has a {% generation %}.
  bool has_generation() const;
  const std::string& name() const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace candela::jinja
