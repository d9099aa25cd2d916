#include "io/rows.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "io/byte_cursor.h"
#include "io/json.h"
#include "io/listing.h"
#include "template/json.h"
#include "template/library.h"

namespace candela::io {
namespace {

using jinja::Dict;
using jinja::Kind;
using jinja::Value;

/// A field that is there and not null.
const Value* field(const Value& row, std::string_view key) {
  const Value* value = row.as_dict().find(key);
  return value && !value->is_none() ? value : nullptr;
}

/// As JSON, shortened.
std::string shown(const Value& value) {
  jinja::Runtime runtime({}, std::nullopt);
  std::string text = jinja::to_json(runtime, value, {});
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

/// Fails for `key` of `row`, a path inside the row in front of it (`messages[0].`).
[[noreturn]] void refuse(const Value& row, std::string_view key, const std::string& where,
                         std::string_view expected, const std::string& path = "") {
  const Value* got = row.as_dict().find(key);
  throw IoError(fmt::format("{}: {}{} must be {}; got {}", where, path, key, expected,
                            got ? shown(*got) : "nothing (the field is missing)"));
}

const std::string& string_of(const Value& row, std::string_view key, const std::string& where,
                             bool may_be_empty = false, const std::string& path = "") {
  const Value* value = field(row, key);
  if (!value || !value->is_string()) refuse(row, key, where, "a string", path);
  if (value->bytes().empty() && !may_be_empty) refuse(row, key, where, "a non-empty string", path);
  return value->bytes();
}

/// `marks`: where to take what trained_messages() reads from.
Value message(std::string role, Value content, const Value* marks = nullptr) {
  auto dict = std::make_shared<Dict>();
  dict->set(Value::string("role"), Value::string(std::move(role)));
  dict->set(Value::string("content"), std::move(content));
  for (const char* name : {"weight", "train"})
    if (const Value* mark = marks ? field(*marks, name) : nullptr) dict->set(Value::string(name), *mark);
  return Value::dict(std::move(dict));
}

/// Fields of each format, the first that a row has deciding.
struct FormatFields {
  RowFormat format;
  std::array<std::string_view, 2> fields;
};
constexpr std::array<FormatFields, 6> kFormats = {{
    {RowFormat::Tokens, {"input_ids", ""}},
    {RowFormat::Completions, {"prompt", "completion"}},
    {RowFormat::Chat, {"messages", ""}},
    {RowFormat::ShareGpt, {"conversations", ""}},
    {RowFormat::Alpaca, {"instruction", "output"}},
    {RowFormat::Text, {"text", ""}},
}};

bool has_fields(const Value& row, const FormatFields& format) {
  return std::all_of(format.fields.begin(), format.fields.end(),
                     [&](std::string_view key) { return key.empty() || field(row, key); });
}

// ---- Chats.

/// The messages of ShareGPT: `from` and `value`, with the names that its files use for the roles.
Value sharegpt_messages(const Value& row, const std::string& where) {
  const Value* turns = field(row, "conversations");
  if (!turns || !turns->is(Kind::List)) refuse(row, "conversations", where, "a list of objects");
  std::vector<Value> messages;
  if (const Value* system = field(row, "system")) messages.push_back(message("system", *system));
  for (std::size_t i = 0; i < turns->items().size(); ++i) {
    const Value& turn = turns->items()[i];
    const std::string path = fmt::format("conversations[{}].", i);
    if (!turn.is(Kind::Dict))
      throw IoError(fmt::format("{}: conversations[{}] must be an object; got {}", where, i, shown(turn)));
    if (field(turn, "role")) {
      messages.push_back(turn);
      continue;
    }
    const std::string& from = string_of(turn, "from", where, false, path);
    const std::string role = from == "human" || from == "user" ? "user"
                             : from == "gpt" || from == "assistant" || from == "model" || from == "chatgpt"
                                 ? "assistant"
                             : from == "system"                        ? "system"
                             : from == "tool" || from == "observation" ? "tool"
                                                                       : "";
    if (role.empty()) refuse(turn, "from", where, "human, gpt, system or tool", path);
    messages.push_back(message(role, Value::string(string_of(turn, "value", where, true, path)), &turn));
  }
  return Value::list(std::move(messages));
}

/// Instruction and input, as Alpaca's own prompt without its preamble: a blank line between them.
std::string alpaca_prompt(const Value& row, const std::string& where) {
  std::string prompt = string_of(row, "instruction", where);
  const Value* input = field(row, "input");
  if (input && !input->is_string()) refuse(row, "input", where, "a string");
  if (input && !input->bytes().empty()) prompt += "\n\n" + input->bytes();
  return prompt;
}

/// prompt and completion, texts or lists of messages, as one chat.
Value completion_messages(const Value& row, const std::string& where) {
  std::vector<Value> messages;
  if (const Value* system = field(row, "system")) messages.push_back(message("system", *system));
  for (const auto& [key, role] : {std::pair("prompt", "user"), {"completion", "assistant"}}) {
    const Value* value = field(row, key);
    if (value && value->is(Kind::List))
      messages.insert(messages.end(), value->items().begin(), value->items().end());
    else
      messages.push_back(message(role, Value::string(string_of(row, key, where))));
  }
  return Value::list(std::move(messages));
}

/// `messages` without what only training reads.
Value for_template(const Value& messages) {
  std::vector<Value> result;
  for (const Value& given : messages.items()) {
    auto dict = std::make_shared<Dict>();
    for (const auto& [key, value] : given.as_dict().entries)
      if (!key.is_string() || (key.bytes() != "weight" && key.bytes() != "train")) dict->set(key, value);
    result.push_back(Value::dict(std::move(dict)));
  }
  return Value::list(std::move(result));
}

void check_messages(const Value& messages, const std::string& where, bool chatml) {
  const auto wrong = [&](std::string_view expected) {
    throw IoError(fmt::format("{}: messages must be {}; got {}", where, expected, shown(messages)));
  };
  if (!messages.is(Kind::List)) wrong("an array of objects");
  if (messages.items().empty()) wrong("a list of at least one message");
  bool answered = false;
  for (std::size_t i = 0; i < messages.items().size(); ++i) {
    const Value& entry = messages.items()[i];
    const std::string path = fmt::format("messages[{}].", i);
    if (!entry.is(Kind::Dict))
      throw IoError(fmt::format("{}: messages[{}] must be an object; got {}", where, i, shown(entry)));
    const std::string& role = string_of(entry, "role", where, false, path);
    answered = answered || role == "assistant";
    if (!chatml) continue;
    constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};
    if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end())
      refuse(entry, "role", where, "system, user, assistant or tool", path);
    string_of(entry, "content", where, true, path);
  }
  if (!answered) wrong("a chat with a message of the role assistant");
}

/// ChatML for a model that knows its tokens but brings no template: texts and the four usual roles only.
MarkedTokens encode_chatml(const Value& messages, const std::vector<bool>& trained,
                           const Tokenizer& tokenizer) {
  MarkedTokens result;
  std::string context;
  const auto flush = [&] {
    if (!context.empty()) result.add(tokenizer.encode(context, false), false);
    context.clear();
  };
  for (std::size_t i = 0; i < trained.size(); ++i) {
    const Dict& entry = messages.items()[i].as_dict();
    const std::string &role = entry.find("role")->bytes(), &content = entry.find("content")->bytes();
    context += fmt::format("<|im_start|>{}\n", role);
    if (trained[i]) {
      flush();
      result.add(tokenizer.encode(content + kChatMlEnd, false), true);
      context = "\n";
    } else {
      context += fmt::format("{}{}\n", content, kChatMlEnd);
    }
  }
  flush();
  return result;
}

RowTokens chat_tokens(const Value& row, const Value& messages, const std::string& where,
                      const Tokenizer& tokenizer, const DatasetOptions& options) {
  if (!options.chat_template) require_chatml(tokenizer, where);
  check_messages(messages, where, !options.chat_template);
  const std::vector<bool> trained = trained_messages(messages, options.train_on == TrainOn::Last, where);
  if (!options.chat_template) return {encode_chatml(messages, trained, tokenizer), false, false};
  ChatInput input = chat_input(row, for_template(messages), where);
  input.add_generation_prompt = false;
  // Everything is trained: where the answers stand need not be known.
  if (options.train_on == TrainOn::All) {
    RowTokens all;
    all.marked.add(tokenizer.encode(render(*options.chat_template, input, where).text, false), true);
    all.complete = true;
    return all;
  }
  return {encode_chat(*options.chat_template, input, trained, tokenizer, options.end_ids, where), false,
          true};
}

// ---- Tokens.

RowTokens ready_tokens(const Value& row, const std::string& where) {
  const auto list_of = [&](std::string_view key) -> const std::vector<Value>& {
    const Value* value = field(row, key);
    if (!value || !value->is(Kind::List)) refuse(row, key, where, "a list of integers");
    return value->items();
  };
  const std::vector<Value>& ids = list_of("input_ids");
  const std::vector<Value>* labels = field(row, "labels") ? &list_of("labels") : nullptr;
  require<IoError>(!labels || labels->size() == ids.size(),
                   "{}: labels must be as many as input_ids, {}; got {}", where, ids.size(),
                   labels ? labels->size() : 0);
  RowTokens result;
  result.complete = true;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!ids[i].is(Kind::Int) || ids[i].as_integer() < 0 || ids[i].as_integer() > 0x7FFFFFFF)
      throw IoError(fmt::format("{}: input_ids[{}] must be a token id; got {}", where, i, shown(ids[i])));
    const auto id = static_cast<TokenId>(ids[i].as_integer());
    bool trained = true;
    if (labels) {
      const Value& label = (*labels)[i];
      const bool same = label.is(Kind::Int) && label.as_integer() == id;
      if (!same && !(label.is(Kind::Int) && label.as_integer() == -100)) {
        throw IoError(fmt::format("{}: labels[{}] must be {} as in input_ids, or -100; got {}", where, i, id,
                                  shown(label)));
      }
      trained = same;
    }
    result.marked.ids.push_back(id);
    result.marked.answer.push_back(trained ? 1 : 0);
  }
  return result;
}

}  // namespace

Value parse_value(std::string_view json, const std::string& where) {
  // The strict reader first: it says where the text goes wrong, and refuses a key that occurs twice.
  static_cast<void>(parse_json(json, where, {.max_bytes = kMaxRowBytes}));
  try {
    return jinja::parse_json(json);
  } catch (const jinja::Failure& failure) {
    throw IoError(fmt::format("{}: {}", where, failure.message));
  }
}

Value parse_row(std::string_view json, const std::string& where, const DatasetOptions& options) {
  const Value row = parse_value(json, where);
  require<IoError>(row.is(Kind::Dict), "{}: must be a JSON object; got {}", where, shown(row));
  return renamed_row(row, where, options);
}

Value renamed_row(const Value& row, const std::string& where, const DatasetOptions& options) {
  if (options.map.empty()) return row;
  auto renamed = std::make_shared<Dict>();
  for (const auto& entry : row.as_dict().entries) {
    const auto at = std::find_if(options.map.begin(), options.map.end(),
                                 [&](const auto& names) { return names.second == entry.first.bytes(); });
    renamed->set(at == options.map.end() ? entry.first : Value::string(at->first), entry.second);
  }
  for (const auto& [name, source] : options.map)
    require<IoError>(row.as_dict().find(source),
                     "{}: must have \"{}\", which --map takes for \"{}\"; it has none", where, source, name);
  return Value::dict(std::move(renamed));
}

RowFormat detect_format(const Value& row, const std::string& where) {
  for (const FormatFields& format : kFormats)
    if (has_fields(row, format)) return format.format;
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.as_dict().entries)
    keys.push_back(value.is_none() ? key.bytes() + " (null)" : key.bytes());
  throw IoError(
      fmt::format("{}: must hold \"text\", or \"prompt\" and \"completion\", or \"messages\", "
                  "\"conversations\", \"instruction\" and "
                  "\"output\", or \"input_ids\" (--map NAME=FIELD renames others); got {}",
                  where, keys.empty() ? "no field" : listed(keys, ", ")));
}

void check_format(const Value& row, RowFormat format, const std::string& where) {
  for (const FormatFields& fields : kFormats) {
    if (fields.format != format) continue;
    if (has_fields(row, fields)) return;
    for (const FormatFields& other : kFormats) {
      if (!has_fields(row, other)) continue;
      throw IoError(fmt::format(
          "{}: must hold {}, which row 1 made the format of the file; got a row with {}: use one format "
          "in a file",
          where, to_string(format), to_string(other.format)));
    }
    return;  // what is missing is named when the row is read
  }
}

RowTokens encode_row(const Value& row, RowFormat format, const std::string& where, const Tokenizer& tokenizer,
                     const DatasetOptions& options) {
  const bool chats = options.chat_template && !options.raw;
  const auto pair = [&](const std::string& prompt, const std::string& completion) {
    RowTokens result;
    result.marked.add(tokenizer.encode(prompt, false), false);
    result.marked.add(tokenizer.encode(completion, false), true);
    result.ends_with_eos = true;
    return result;
  };
  switch (format) {
    case RowFormat::Tokens:
      return ready_tokens(row, where);
    case RowFormat::Chat: {
      const Value* messages = field(row, "messages");
      if (!messages) refuse(row, "messages", where, "an array of objects");
      return chat_tokens(row, *messages, where, tokenizer, options);
    }
    case RowFormat::ShareGpt:
      return chat_tokens(row, sharegpt_messages(row, where), where, tokenizer, options);
    case RowFormat::Completions: {
      const auto is_list = [&](std::string_view key) {
        const Value* value = field(row, key);
        return value && value->is(Kind::List);
      };
      const bool conversational = is_list("prompt") || is_list("completion");
      if (chats || conversational)
        return chat_tokens(row, completion_messages(row, where), where, tokenizer, options);
      return pair(string_of(row, "prompt", where), string_of(row, "completion", where));
    }
    case RowFormat::Alpaca: {
      const std::string prompt = alpaca_prompt(row, where);
      const std::string& output = string_of(row, "output", where);
      if (!chats) return pair(prompt + "\n", output);
      std::vector<Value> messages;
      if (const Value* system = field(row, "system"); system && jinja::truth(*system))
        messages.push_back(message("system", *system));
      messages.push_back(message("user", Value::string(prompt)));
      messages.push_back(message("assistant", Value::string(output)));
      return chat_tokens(row, Value::list(std::move(messages)), where, tokenizer, options);
    }
    case RowFormat::Text:
      break;
  }
  RowTokens result;
  result.marked.add(tokenizer.encode(string_of(row, "text", where), false), true);
  result.ends_with_eos = true;
  return result;
}

}  // namespace candela::io
