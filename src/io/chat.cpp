#include "io/chat.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <fmt/format.h>

#include "template/json.h"

namespace candela::io {
namespace {

using jinja::Dict;
using jinja::Kind;
using jinja::Value;

constexpr std::array<std::string_view, 3> kReasoning = {"reasoning_content", "thinking", "reasoning"};

Value normalized_message(const Value& message) {
  const Dict& given = message.as_dict();
  const Value* reasoning = nullptr;
  for (const std::string_view name : kReasoning) {
    const Value* value = given.find(name);
    if (value && !value->is_none()) {
      reasoning = value;
      break;
    }
  }
  auto result = std::make_shared<Dict>();
  if (reasoning) result->set(Value::string("thinking"), *reasoning);
  for (const auto& [key, value] : given.entries)
    if (!value.is_none()) result->set(key, value);
  if (reasoning) result->set(Value::string("reasoning_content"), *reasoning);
  return Value::dict(std::move(result));
}

}  // namespace

Value normalized_messages(const Value& messages, const std::string& where) {
  require<TemplateError>(messages.is(Kind::List), "{}: messages must be a list of objects", where);
  std::vector<Value> result;
  for (const Value& message : messages.items()) {
    require<TemplateError>(message.is(Kind::Dict), "{}: each of messages must be an object", where);
    result.push_back(normalized_message(message));
  }
  return Value::list(std::move(result));
}

jinja::Variables variables_of(const ChatInput& input, const jinja::Variables& special_tokens) {
  jinja::Variables variables = special_tokens;
  const auto set = [&](const std::string& name, const Value& value) {
    for (auto& [own, old] : variables) {
      if (own != name) continue;
      old = value;
      return;
    }
    variables.emplace_back(name, value);
  };
  for (const auto& [name, value] : input.variables) set(name, value);
  set("messages", input.messages);
  set("tools", input.tools);
  set("documents", input.documents);
  set("add_generation_prompt", Value::boolean(input.add_generation_prompt));
  return variables;
}

ChatInput chat_input(const Value& row, const Value& messages, const std::string& where) {
  ChatInput input;
  input.messages = normalized_messages(messages, where);
  for (const auto& [key, value] : row.as_dict().entries) {
    const std::string& name = key.bytes();
    if (name == "tools") {
      input.tools = value;
    } else if (name == "documents") {
      input.documents = value;
    } else if (name == "add_generation_prompt") {
      input.add_generation_prompt = jinja::truth(value);
    } else if (name == "now") {
      input.now = value.is_string() ? parse_time(value.bytes()) : std::nullopt;
      require<TemplateError>(input.now.has_value(), "{}: now must be YYYY-MM-DDTHH:MM:SS", where);
    } else if ((name == "kwargs" || name == "chat_template_kwargs") && !value.is_none()) {
      require<TemplateError>(value.is(Kind::Dict), "{}: {} must be an object", where, name);
      for (const auto& [own, extra] : value.as_dict().entries)
        input.variables.emplace_back(own.bytes(), extra);
    } else if ((name.ends_with("_token") || name == "enable_thinking") && !value.is_none()) {
      input.variables.emplace_back(name, value);
    }
  }
  return input;
}

ChatInput parse_chat_row(std::string_view json, const std::string& where) {
  try {
    const Value row = jinja::parse_json(json);
    require<TemplateError>(row.is(Kind::Dict), "{}: must be a JSON object", where);
    const Value* messages = row.as_dict().find("messages");
    require<TemplateError>(messages, "{}: must have \"messages\"; it has none", where);
    return chat_input(row, *messages, where);
  } catch (const jinja::Failure& failure) {
    throw TemplateError(fmt::format("{}: {}", where, failure.message));
  }
}

std::optional<std::int64_t> parse_time(std::string_view text) {
  const std::string copy(text);
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, used = 0;
  const int read = std::sscanf(copy.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute,
                               &second, &used);
  if (read != 6 || static_cast<std::size_t>(used) != copy.size()) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60 || hour < 0 || minute < 0 || second < 0)
    return std::nullopt;
  return std::chrono::sys_days(date).time_since_epoch().count() * std::int64_t{86400} + hour * 3600 +
         minute * 60 + second;
}

}  // namespace candela::io
