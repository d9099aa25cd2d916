#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <candela/io/chat_template.h>

#include "template/engine.h"

namespace candela {

struct ChatTemplate::Impl {
  std::vector<std::pair<std::string, jinja::Template>> templates;
  jinja::Variables special_tokens;
  std::string source, name;

  /// `tool_use` for chats with tools, where there is one, else `default`.
  const jinja::Template& choose(bool with_tools) const;
};

}  // namespace candela

/// Chats as transformers hands them to a template.
namespace candela::io {

/// What one rendering is given.
struct ChatInput {
  jinja::Value messages;  // a list of dicts
  jinja::Value tools;     // None: no tools
  jinja::Value documents;
  bool add_generation_prompt = false;
  /// Further variables: those of the row, which win over the template's special tokens.
  jinja::Variables variables;
  std::optional<std::int64_t> now;
};

/// `messages` without keys whose value is null, and reasoning under each name that templates read it by
/// (`reasoning_content`, `thinking`), as transformers does before it renders. TemplateError, opening with
/// `where`, unless it is a list of objects.
jinja::Value normalized_messages(const jinja::Value& messages, const std::string& where);

/// The variables of one rendering, in the order of precedence.
jinja::Variables variables_of(const ChatInput& input, const jinja::Variables& special_tokens);

/// The input that a JSON row describes: `messages`, and, where given, `tools`, `documents`,
/// `add_generation_prompt`, `kwargs` (further variables), special tokens (`bos_token`, `eos_token`) and `now`
/// (YYYY-MM-DDTHH:MM:SS). TemplateError, opening with `where`, for what is no such row.
ChatInput parse_chat_row(std::string_view json, const std::string& where);

/// As parse_chat_row, from a row that is read already, with `messages` in place of its own.
ChatInput chat_input(const jinja::Value& row, const jinja::Value& messages, const std::string& where);

/// The text of a chat; TemplateError, opening with `where`.
jinja::Rendering render(const ChatTemplate& chat_template, const ChatInput& input, const std::string& where);

/// Seconds since 1970 of YYYY-MM-DDTHH:MM:SS; nothing for another text.
std::optional<std::int64_t> parse_time(std::string_view text);

}  // namespace candela::io
