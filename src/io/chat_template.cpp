#include <algorithm>
#include <fmt/format.h>

#include <candela/io/chat_template.h>
#include <candela/io/hub_cache.h>

#include "io/chat.h"
#include "io/json.h"

namespace candela {
namespace {

using io::Json;
using jinja::Template;

/// Texts of the special tokens in tokenizer_config.json, by their fields.
jinja::Variables special_tokens(const Json& config) {
  jinja::Variables tokens;
  for (const auto& [key, value] : config.items()) {
    if (!key.ends_with("_token")) continue;
    const Json* text = value.is_object() && value.contains("content") ? &value.at("content") : &value;
    if (text->is_string()) tokens.emplace_back(key, jinja::Value::string(text->get<std::string>()));
  }
  return tokens;
}

std::filesystem::path config_file_of(const std::filesystem::path& folder) {
  return folder / "tokenizer_config.json";
}

/// tokenizer_config.json of a folder; an empty object where it has none.
auto load_config(const std::filesystem::path& folder) {
  std::error_code error;
  const std::filesystem::path file = config_file_of(folder);
  auto config =
      std::filesystem::exists(file, error) ? io::load_json(file) : io::parse_json("{}", file.string());
  const Json& object = config;
  require<IoError>(object.is_object(), "{}: must hold a JSON object", file.string());
  return config;
}

}  // namespace

const Template& ChatTemplate::Impl::choose(bool with_tools) const {
  const auto find = [&](std::string_view wanted) -> const Template* {
    for (const auto& [own, parsed] : templates)
      if (own == wanted) return &parsed;
    return nullptr;
  };
  if (const Template* tool_use = with_tools ? find("tool_use") : nullptr) return *tool_use;
  if (const Template* usual = find("default")) return *usual;
  throw TemplateError(fmt::format("{}: has several chat templates, and none is named default", name));
}

std::optional<ChatTemplate> ChatTemplate::load(const std::filesystem::path& name) {
  const std::filesystem::path folder = local_path(name);
  auto impl = std::make_shared<Impl>();
  const auto add = [&](const std::string& label, const std::string& source, const std::string& file) {
    impl->templates.emplace_back(label, Template::parse(source, file));
    if (impl->source.empty() || label == "default") {
      impl->source = source;
      impl->name = file;
    }
  };
  std::error_code error;
  const std::filesystem::path config_file = config_file_of(folder);
  const auto document = load_config(folder);
  const Json& config = document;
  impl->special_tokens = special_tokens(config);

  const std::filesystem::path file = folder / "chat_template.jinja";
  if (std::filesystem::exists(file, error)) {
    add("default", io::read_file(file, Template::kMaxSource), file.string());
    std::vector<std::filesystem::path> others;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "additional_chat_templates", error))
      if (entry.path().extension() == ".jinja") others.push_back(entry.path());
    std::sort(others.begin(), others.end());
    for (const auto& other : others)
      add(other.stem().string(), io::read_file(other, Template::kMaxSource), other.string());
  } else if (config.contains("chat_template") && !config.at("chat_template").is_null()) {
    const Json& given = config.at("chat_template");
    const io::JsonObject object(config, config_file.string());
    if (given.is_string()) {
      add("default", given.get<std::string>(), config_file.string());
    } else {
      if (!given.is_array())
        object.fail("chat_template", "a string or a list of objects with name and template");
      for (const io::JsonObject& entry : object.objects("chat_template"))
        add(entry.string("name"), entry.string("template"), config_file.string());
    }
  }
  if (impl->templates.empty()) return std::nullopt;
  return ChatTemplate(std::move(impl));
}

ChatTemplate ChatTemplate::parse(std::string_view source, const std::string& name,
                                 const std::filesystem::path& folder) {
  auto impl = std::make_shared<Impl>();
  if (!folder.empty()) impl->special_tokens = special_tokens(load_config(local_path(folder)));
  impl->templates.emplace_back("default", Template::parse(source, name));
  impl->source = source;
  impl->name = name;
  return ChatTemplate(std::move(impl));
}

std::string ChatTemplate::render(std::string_view row, const std::string& where) const {
  return io::render(*this, io::parse_chat_row(row, where), where).text;
}

const std::string& ChatTemplate::source() const {
  return impl_->source;
}
const std::string& ChatTemplate::name() const {
  return impl_->name;
}

jinja::Rendering io::render(const ChatTemplate& chat_template, const ChatInput& input,
                            const std::string& where) {
  const ChatTemplate::Impl& impl = chat_template.impl();
  try {
    const jinja::Variables variables = variables_of(input, impl.special_tokens);
    return impl.choose(!input.tools.is_none()).render(variables, input.now);
  } catch (const TemplateError& error) {
    throw TemplateError(fmt::format("{}: {}", where, error.what()));
  }
}

}  // namespace candela
