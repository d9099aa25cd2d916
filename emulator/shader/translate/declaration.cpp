#include "declaration.h"

namespace translate {
namespace {

std::string unquoted(std::string_view text) {
  return text.size() < 2 ? "" : std::string(text.substr(1, text.size() - 2));
}

}  // namespace

std::size_t declaration_end(const Tokens& tokens, std::size_t i, std::size_t end) {
  bool initialized = false, is_struct = false, named = false;
  for (std::size_t j = i; j < end; ++j) {
    const Token& token = tokens[j];
    if (token.is("template") && j + 1 < end && tokens[j + 1].is("<")) {
      j = past_angle(tokens, j + 1) - 1;
      continue;
    }
    if (token.is("=") || token.is("using") || token.is("typedef")) initialized = true;
    if (!named && (token.is("struct") || token.is("class") || token.is("enum") || token.is("union")))
      is_struct = true;
    if (token.is(";")) return j + 1;
    if (token.is("(") || token.is("[")) {
      named |= token.is("(");
      if (token.is("(")) is_struct = false;
      j = past_closing(tokens, j) - 1;
    } else if (token.is("{")) {
      j = past_closing(tokens, j) - 1;
      if (!initialized && !is_struct) return j + 1;
    }
  }
  throw SourceError(tokens[i], "a declaration has no end");
}

Head read_head(const Tokens& tokens, std::size_t i, std::size_t end) {
  Head head;
  std::size_t j = i;
  if (tokens[j].is("template")) {
    if (tokens[j + 1].is("<")) {
      head.is_template = true;
      const std::size_t next = past_angle(tokens, j + 1);
      head.template_parameters = {j + 2, next - 1};
      j = next;
    } else {
      head.is_instantiation = true;
      ++j;
    }
  }
  head.after_template = j;
  for (; j < end; ++j) {
    const Token& token = tokens[j];
    if (starts_attribute(tokens, j)) {
      head.attributes.push_back(j);
      head.is_kernel |= attribute_has(tokens, j, "kernel");
      j = past_closing(tokens, j) - 1;
      continue;
    }
    if (token.is("kernel")) head.is_kernel = true;
    if (token.is("vertex") || token.is("fragment")) throw SourceError(token, "only kernels are known here");
    if (token.is("struct") || token.is("class") || token.is("union") || token.is("enum")) {
      head.is_struct = true;
      if (j + 1 < end) head.name = tokens[j + 1].text;
    }
    if (token.is("decltype")) {
      j = past_closing(tokens, j + 1) - 1;
      continue;
    }
    if (token.is("<") && j > i && tokens[j - 1].is_identifier() && !tokens[j - 1].is("operator")) {
      if (!head.is_struct) head.name = tokens[j - 1].text;
      j = past_angle(tokens, j) - 1;
      if (head.is_instantiation) return head;
      continue;
    }
    if (token.is("(")) {
      head.parenthesis = j;
      if (!head.is_struct && tokens[j - 1].is_identifier()) head.name = tokens[j - 1].text;
      return head;
    }
    if (token.is("{") || token.is(";") || token.is("=")) return head;
  }
  return head;
}

void for_each_declaration(const Tokens& tokens, std::size_t begin, std::size_t end,
                          const std::function<void(const Head&, Range)>& visit) {
  for (std::size_t i = begin; i < end;) {
    if (tokens[i].kind == Kind::Directive || tokens[i].is(";")) {
      ++i;
      continue;
    }
    if (tokens[i].is("namespace")) {
      std::size_t brace = i;
      while (brace < end && !tokens[brace].is("{") && !tokens[brace].is(";")) ++brace;
      const std::size_t next = tokens[brace].is("{") ? past_closing(tokens, brace) : brace + 1;
      if (tokens[brace].is("{")) for_each_declaration(tokens, brace + 1, next - 1, visit);
      i = next;
      continue;
    }
    const std::size_t next = declaration_end(tokens, i, end);
    visit(read_head(tokens, i, next), {i, next});
    i = next;
  }
}

bool attribute_has(const Tokens& tokens, std::size_t attribute, std::string_view word) {
  const std::size_t end = past_closing(tokens, attribute);
  for (std::size_t i = attribute; i < end; ++i) {
    if (tokens[i].is(word)) return true;
  }
  return false;
}

std::optional<Range> attribute_argument(const Tokens& tokens, std::size_t attribute, std::string_view word) {
  const std::size_t end = past_closing(tokens, attribute);
  for (std::size_t i = attribute; i + 1 < end; ++i) {
    if (tokens[i].is(word) && tokens[i + 1].is("(")) return Range{i + 2, past_closing(tokens, i + 1) - 1};
  }
  return std::nullopt;
}

std::vector<Range> split_parameters(const Tokens& tokens, Range range) {
  std::vector<Range> out;
  std::size_t start = range.begin;
  int angle = 0;
  for (std::size_t i = range.begin; i < range.end; ++i) {
    const Token& token = tokens[i];
    if (token.is("(") || token.is("[") || token.is("{")) {
      i = past_closing(tokens, i) - 1;
    } else if (token.is("<")) {
      ++angle;
    } else if (token.is(">")) {
      --angle;
    } else if (token.is(",") && angle == 0) {
      out.push_back({start, i});
      start = i + 1;
    }
  }
  if (start < range.end) out.push_back({start, range.end});
  return out;
}

std::string joined(const Tokens& tokens, Range range) {
  std::string out;
  for (std::size_t i = range.begin; i < range.end; ++i) out += unquoted(tokens[i].text);
  return out;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace translate
