#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <candela/template/error.h>

namespace candela {

/// The Jinja template by which a model was taught chats, with the special tokens that it names. Rendered as
/// transformers renders it. A copy is cheap; all methods may be called from several threads.
class ChatTemplate {
 public:
  struct Impl;

  /// The template of a model folder: chat_template.jinja (further ones in additional_chat_templates/), else
  /// `chat_template` of tokenizer_config.json, a string or a list of {name, template}. Nothing if the folder
  /// has none; IoError or TemplateError, with the file, if one is malformed.
  static std::optional<ChatTemplate> load(const std::filesystem::path& folder);
  /// The template `source`, which `name` stands for in errors, with the special tokens of the
  /// tokenizer_config.json in `folder`; an empty folder: none.
  static ChatTemplate parse(std::string_view source, const std::string& name,
                            const std::filesystem::path& folder = {});

  /// The text of a chat. `row` is a JSON object: `messages` and, where given, `tools`, `documents`,
  /// `add_generation_prompt`, `kwargs` (further variables), special tokens (`bos_token`), `now`
  /// (YYYY-MM-DDTHH:MM:SS, read by strftime_now instead of the clock). TemplateError, opening with `where`,
  /// if the template refuses it.
  std::string render(std::string_view row, const std::string& where = "row") const;

  /// The text of the template that is used for chats without tools.
  const std::string& source() const;
  /// The file it was read from.
  const std::string& name() const;
  const Impl& impl() const { return *impl_; }

 private:
  explicit ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace candela
