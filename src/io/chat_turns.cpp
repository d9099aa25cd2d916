#include "io/chat_turns.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>

namespace candela::io {
namespace {

using jinja::Value;

bool among(std::span<const TokenId> ends, TokenId id) {
  return std::find(ends.begin(), ends.end(), id) != ends.end();
}

/// A turn of the assistant in the rendering of the whole chat.
struct Turn {
  std::size_t message = 0;
  std::size_t begin = 0;
  /// Where the messages up to it end, if that is known.
  std::optional<std::size_t> end;
};

class Chat {
 public:
  Chat(const ChatTemplate& chat_template, const ChatInput& input, const Tokenizer& tokenizer,
       std::span<const TokenId> ends, const std::string& where)
      : template_(chat_template),
        input_(input),
        tokenizer_(tokenizer),
        ends_(ends.begin(), ends.end()),
        where_(where),
        whole_(rendered(input.messages.items().size(), false)) {}

  MarkedTokens by_prefixes(const std::vector<bool>& trained);
  MarkedTokens by_generation(const std::vector<bool>& trained) const;
  const jinja::Rendering& whole() const { return whole_; }

 private:
  /// The first `count` messages.
  jinja::Rendering rendered(std::size_t count, bool opening) const {
    ChatInput part = input_;
    const std::vector<Value>& messages = input_.messages.items();
    part.messages = Value::list({messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(count)});
    part.add_generation_prompt = opening;
    return render(template_, part, where_);
  }
  std::string_view text() const { return whole_.text; }
  std::vector<TokenId> encoded(std::size_t begin, std::size_t end) const {
    return tokenizer_.encode(text().substr(begin, end - begin), false);
  }
  Turn turn_of(std::size_t message) const;
  std::size_t begin_of(std::size_t message) const;
  bool blank(std::span<const TokenId> ids) const {
    return tokenizer_.decode(ids, false).find_first_not_of(" \t\r\n") == std::string::npos;
  }
  /// Number of tokens up to the one that ends the turn; nothing if none does.
  std::optional<std::size_t> cut(const std::vector<TokenId>& ids, bool whole_turn) const;

  const ChatTemplate& template_;
  const ChatInput& input_;
  const Tokenizer& tokenizer_;
  std::vector<TokenId> ends_;
  const std::string& where_;
  jinja::Rendering whole_;
};

std::size_t Chat::begin_of(std::size_t message) const {
  const std::string opened = rendered(message, true).text;
  if (text().starts_with(opened)) return opened.size();
  // The opening for an answer may say more than turns of the past do (`<think>`): what both have in common
  // opens the turn.
  const std::string before = rendered(message, false).text;
  if (text().starts_with(before) && opened.size() >= before.size()) {
    std::size_t common = before.size();
    while (common < opened.size() && common < text().size() && opened[common] == text()[common]) ++common;
    while (common > before.size() && (static_cast<unsigned char>(text()[common]) & 0xC0) == 0x80) --common;
    if (common > before.size()) return common;
  }
  throw TemplateError(
      fmt::format("{}: messages[{}]: where this answer begins cannot be told: the template renders the "
                  "messages before it otherwise once "
                  "it follows; give a chat that ends with it, or train on everything (--train-on all)",
                  where_, message));
}

Turn Chat::turn_of(std::size_t message) const {
  Turn turn{message, begin_of(message), std::nullopt};
  if (message + 1 == input_.messages.items().size()) {
    turn.end = text().size();
    return turn;
  }
  const std::string after = rendered(message + 1, false).text;
  if (text().starts_with(after) && after.size() > turn.begin) turn.end = after.size();
  return turn;
}

std::optional<std::size_t> Chat::cut(const std::vector<TokenId>& ids, bool whole_turn) const {
  const auto first = std::find_if(ids.begin(), ids.end(), [&](TokenId id) { return among(ends_, id); });
  if (first != ids.end()) return static_cast<std::size_t>(first - ids.begin()) + 1;
  if (!whole_turn) return std::nullopt;
  // The last special token, unless words follow it; without one, the turn has no end token of its own.
  for (std::size_t i = ids.size(); i-- > 0;)
    if (tokenizer_.is_special(ids[i])) return blank(std::span(ids).subspan(i + 1)) ? i + 1 : ids.size();
  return ids.size();
}

MarkedTokens Chat::by_prefixes(const std::vector<bool>& trained) {
  std::vector<Turn> turns;
  for (std::size_t i = 0; i < trained.size(); ++i)
    if (trained[i]) turns.push_back(turn_of(i));
  // What ends one turn ends the others: past turns may be rendered otherwise than at their time.
  for (const Turn& turn : turns) {
    if (!turn.end) continue;
    const std::vector<TokenId> ids = encoded(turn.begin, *turn.end);
    const std::size_t count = *cut(ids, true);
    if (count > 0 && tokenizer_.is_special(ids[count - 1]) && !among(ends_, ids[count - 1]))
      ends_.push_back(ids[count - 1]);
  }
  MarkedTokens result;
  std::size_t position = 0;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const Turn& turn = turns[i];
    require<TemplateError>(turn.begin >= position,
                           "{}: messages[{}]: this answer begins inside the one before it", where_,
                           turn.message);
    const std::size_t next = i + 1 < turns.size() ? turns[i + 1].begin : text().size();
    const std::size_t end = turn.end ? std::min(*turn.end, std::max(next, turn.begin)) : next;
    result.add(encoded(position, turn.begin), false);
    std::vector<TokenId> ids = encoded(turn.begin, end);
    const std::optional<std::size_t> count = cut(ids, turn.end.has_value());
    require<TemplateError>(count.has_value(),
                           "{}: messages[{}]: where this answer ends cannot be told: none of the tokens that "
                           "end a text follows it; give a chat "
                           "that ends with it, or train on everything (--train-on all)",
                           where_, turn.message);
    const auto middle = ids.begin() + static_cast<std::ptrdiff_t>(*count);
    result.add({ids.begin(), middle}, true);
    result.add({middle, ids.end()}, false);
    position = end;
  }
  result.add(encoded(position, text().size()), false);
  return result;
}

MarkedTokens Chat::by_generation(const std::vector<bool>& trained) const {
  const auto answers = static_cast<std::size_t>(std::count(trained.begin(), trained.end(), true));
  const std::vector<Value>& messages = input_.messages.items();
  const auto role = [&](std::size_t i) { return messages[i].as_dict().find("role"); };
  std::vector<bool> wanted;
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (const Value* own = role(i); own && own->is_string() && own->bytes() == "assistant")
      wanted.push_back(trained[i]);
  const bool one_each = wanted.size() == whole_.generated.size();
  require<TemplateError>(
      one_each || answers == wanted.size(),
      "{}: the template marks {} stretches as generated for {} answers: which to leave out cannot be told",
      where_, whole_.generated.size(), wanted.size());
  MarkedTokens result;
  std::size_t position = 0;
  // The piece before was an answer without its end token; `open_text`: nor another special token at its end.
  bool open = false, open_text = false;
  const auto context = [&](std::size_t end) {
    const std::vector<TokenId> ids = encoded(position, end);
    const bool ends_turn =
        open && !ids.empty() && (among(ends_, ids[0]) || (open_text && tokenizer_.is_special(ids[0])));
    if (ends_turn) result.add({ids[0]}, true);
    result.add({ids.begin() + (ends_turn ? 1 : 0), ids.end()}, false);
  };
  for (std::size_t i = 0; i < whole_.generated.size(); ++i) {
    const jinja::Span& span = whole_.generated[i];
    if (span.begin < position) continue;  // inside another
    context(span.begin);
    const std::vector<TokenId> ids = encoded(span.begin, span.end);
    const bool answer = !one_each || wanted[i];
    result.add(ids, answer);
    open = answer && (ids.empty() || !among(ends_, ids.back()));
    open_text = open && (ids.empty() || !tokenizer_.is_special(ids.back()));
    position = span.end;
  }
  context(text().size());
  return result;
}

}  // namespace

void MarkedTokens::add(const std::vector<TokenId>& tokens, bool is_answer) {
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  answer.insert(answer.end(), tokens.size(), is_answer ? 1 : 0);
}

std::vector<bool> trained_messages(const Value& messages, bool last_only, const std::string& where) {
  std::vector<bool> trained;
  for (const Value& message : messages.items()) {
    const jinja::Dict& fields = message.as_dict();
    const Value* role = fields.find("role");
    bool wanted = role && role->is_string() && role->bytes() == "assistant";
    if (const Value* weight = fields.find("weight")) {
      require<TemplateError>(weight->is_number() && (weight->as_real() == 0 || weight->as_real() == 1),
                             "{}: messages[{}].weight must be 0 or 1; got {}", where, trained.size(),
                             jinja::repr(*weight, 100));
      wanted = wanted && weight->as_real() == 1;
    }
    if (const Value* train = fields.find("train")) wanted = wanted && jinja::truth(*train);
    trained.push_back(wanted);
  }
  if (last_only) {
    bool found = false;
    for (std::size_t i = trained.size(); i-- > 0;) {
      if (found) trained[i] = false;
      found = found || trained[i];
    }
  }
  return trained;
}

MarkedTokens encode_chat(const ChatTemplate& chat_template, const ChatInput& input,
                         const std::vector<bool>& trained, const Tokenizer& tokenizer,
                         std::span<const TokenId> ends, const std::string& where) {
  Chat chat(chat_template, input, tokenizer, ends, where);
  const jinja::Rendering& whole = chat.whole();
  if (!whole.generated.empty() && !whole.generated_elsewhere) return chat.by_generation(trained);
  return chat.by_prefixes(trained);
}

std::optional<TokenId> end_of_turn(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                   std::span<const TokenId> ends) {
  try {
    const ChatInput input = parse_chat_row(
        R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})",
        "probe");
    const MarkedTokens chat = encode_chat(chat_template, input, {false, true}, tokenizer, ends, "probe");
    for (std::size_t i = chat.ids.size(); i-- > 0;) {
      if (!chat.answer[i]) continue;
      return tokenizer.is_special(chat.ids[i]) ? std::optional(chat.ids[i]) : std::nullopt;
    }
  } catch (const Error&) {
    // A template that wants more than a plain chat says so where it is used.
  }
  return std::nullopt;
}

}  // namespace candela::io
