#include "template/lexer.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "template/text.h"

namespace candela::jinja {
namespace {

bool digit(char c) {
  return c >= '0' && c <= '9';
}
bool hex_digit(char c) {
  return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool name_byte(char c) {
  return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

/// Line breaks as \n, and the last one taken away.
std::string normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), text_(source_) {}

  std::vector<Token> run() {
    while (position_ < text_.size()) root();
    add(TokenKind::End, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string message) const { throw SyntaxFailure{std::move(message), line_}; }
  bool at(std::string_view what) const { return text_.substr(position_).starts_with(what); }
  char peek(std::size_t ahead = 0) const {
    return position_ + ahead < text_.size() ? text_[position_ + ahead] : '\0';
  }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(std::size_t bytes) {
    const std::string_view taken = text_.substr(position_, bytes);
    line_ += static_cast<int>(std::count(taken.begin(), taken.end(), '\n'));
    position_ += taken.size();
    if (!taken.empty()) line_starting_ = taken.back() == '\n';
  }
  void skip_space() {
    while (position_ < text_.size()) {
      std::size_t next = position_;
      if (!is_space(next_code_point(text_, next))) return;
      advance(next - position_);
    }
  }

  void root();
  void data(std::string_view text, char sign, bool variable);
  bool raw();
  void comment();
  void tag(bool variable);
  bool tag_end(bool variable);
  void expression_token();
  void number();
  void quoted();
  std::string unescaped(std::string_view text) const;
  void operator_token();

  std::string source_;
  std::string_view text_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::string open_;  // closing brackets that are still to come
  std::vector<Token> tokens_;
};

/// Text up to a tag, without the white space that the tag's sign and lstrip_blocks take.
void Lexer::data(std::string_view text, char sign, bool variable) {
  std::string_view kept = text;
  if (sign == '-') {
    kept = strip(text, Side::Right);
  } else if (sign != '+' && !variable) {
    const std::size_t start = text.rfind('\n') + 1;
    if ((start > 0 || line_starting_) && strip(text.substr(start), Side::Left).empty())
      kept = text.substr(0, start);
  }
  if (!kept.empty()) add(TokenKind::Data, std::string(kept));
  advance(text.size());
}

void Lexer::root() {
  std::size_t tag = position_;
  for (;; ++tag) {
    tag = text_.find('{', tag);
    if (tag == std::string_view::npos || tag + 1 >= text_.size()) {
      add(TokenKind::Data, std::string(text_.substr(position_)));
      advance(text_.size() - position_);
      return;
    }
    const char next = text_[tag + 1];
    if (next == '%' || next == '{' || next == '#') break;
  }
  const char kind = text_[tag + 1];
  const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
  data(text_.substr(position_, tag - position_), sign, kind == '{');
  if (kind == '%' && raw()) return;
  advance(sign == '-' || sign == '+' ? 3 : 2);
  if (kind == '#') return comment();
  add(kind == '{' ? TokenKind::VariableBegin : TokenKind::BlockBegin, "");
  this->tag(kind == '{');
}

/// {% raw %} ... {% endraw %}: text, whatever tags it holds.
bool Lexer::raw() {
  const std::size_t begin = position_;
  const int line = line_;
  const bool starting = line_starting_;
  advance(2);
  if (peek() == '-' || peek() == '+') advance(1);
  skip_space();
  const bool is_raw = at("raw") && [&] {
    advance(3);
    skip_space();
    return at("%}") || at("-%}");
  }();
  if (!is_raw) {
    position_ = begin;
    line_ = line;
    line_starting_ = starting;
    return false;
  }
  if (at("-")) {
    advance(3);
    skip_space();
  } else {
    advance(2);
  }
  for (std::size_t end = position_; (end = text_.find("{%", end)) != std::string_view::npos; end += 2) {
    std::size_t after = end + 2;
    const char sign =
        after < text_.size() && (text_[after] == '-' || text_[after] == '+') ? text_[after] : '\0';
    if (sign) ++after;
    const auto space = [&] {
      while (after < text_.size() && is_space(static_cast<unsigned char>(text_[after]))) ++after;
    };
    space();
    if (!text_.substr(after).starts_with("endraw")) continue;
    after += 6;
    space();
    const std::string_view close = text_.substr(after);
    if (!close.starts_with("%}") && !close.starts_with("-%}") && !close.starts_with("+%}")) continue;
    data(text_.substr(position_, end - position_), sign, false);
    advance(after - end);
    tag_end(false);
    tokens_.pop_back();  // the end tag itself says nothing
    return true;
  }
  fail("Missing end of raw directive");
}

void Lexer::comment() {
  const std::size_t end = text_.find("#}", position_);
  if (end == std::string_view::npos) fail("Missing end of comment tag");
  const char sign = end > position_ ? text_[end - 1] : '\0';
  advance(end - position_ + 2);
  if (sign == '-')
    skip_space();
  else if (sign != '+' && peek() == '\n')
    advance(1);
}

/// The end of a tag, with the white space that it takes. False: it is not here.
bool Lexer::tag_end(bool variable) {
  const std::string_view close = variable ? "}}" : "%}";
  const TokenKind kind = variable ? TokenKind::VariableEnd : TokenKind::BlockEnd;
  if (at(close)) {
    add(kind, "");
    advance(2);
    if (!variable && peek() == '\n') advance(1);
    return true;
  }
  const bool minus = peek() == '-', plus = !variable && peek() == '+';
  if ((!minus && !plus) || text_.substr(position_ + 1, 2) != close) return false;
  add(kind, "");
  advance(3);
  if (minus) skip_space();
  return true;
}

void Lexer::tag(bool variable) {
  open_.clear();
  while (true) {
    skip_space();
    if (position_ >= text_.size())
      fail(variable ? "unexpected end of template, expected 'end of print statement'"
                    : "unexpected end of template, expected 'end of statement block'");
    if (open_.empty() && tag_end(variable)) return;
    expression_token();
  }
}

void Lexer::expression_token() {
  const char c = peek();
  if (digit(c) || (c == '.' && digit(peek(1)) && (position_ == 0 || text_[position_ - 1] != '.'))) {
    if (digit(c)) return number();
  }
  if (c == '"' || c == '\'') return quoted();
  if (name_byte(c)) {
    std::size_t end = position_;
    while (end < text_.size() && name_byte(text_[end])) ++end;
    const std::string_view name = text_.substr(position_, end - position_);
    if (!is_identifier(name)) fail("Invalid character in identifier");
    add(TokenKind::Name, std::string(name));
    return advance(name.size());
  }
  operator_token();
}

/// Decimal with a fraction or exponent is a float; 0x, 0o, 0b and plain decimals are integers. _ may separate
/// digits.
void Lexer::number() {
  const auto digits = [&](std::size_t from) {
    std::size_t i = from;
    while (i < text_.size() &&
           (digit(text_[i]) || (text_[i] == '_' && i + 1 < text_.size() && digit(text_[i + 1]))))
      ++i;
    return i;
  };
  std::size_t end = digits(position_);
  bool real = false;
  const bool after_dot = position_ > 0 && text_[position_ - 1] == '.';
  if (!after_dot) {
    if (end + 1 < text_.size() && text_[end] == '.' && digit(text_[end + 1])) {
      end = digits(end + 1);
      real = true;
    }
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      std::size_t exponent = end + 1;
      if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) ++exponent;
      if (exponent < text_.size() && digit(text_[exponent])) {
        end = digits(exponent);
        real = true;
      }
    }
  }
  if (!real && peek() == '0' && position_ + 1 < text_.size()) {
    const char base = static_cast<char>(text_[position_ + 1] | 0x20);
    if (base == 'x' || base == 'o' || base == 'b') {
      end = position_ + 2;
      while (end < text_.size() && (hex_digit(text_[end]) || text_[end] == '_')) ++end;
    }
  }
  std::string text(text_.substr(position_, end - position_));
  std::erase(text, '_');
  add(real ? TokenKind::Float : TokenKind::Integer, std::move(text));
  advance(end - position_);
}

void Lexer::quoted() {
  const char quote = peek();
  std::size_t end = position_ + 1;
  while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
  if (end >= text_.size()) fail(fmt::format("unexpected char '{}'", quote));
  add(TokenKind::String, unescaped(text_.substr(position_ + 1, end - position_ - 1)));
  advance(end + 1 - position_);
}

/// Escapes as in Python's string literals; an unknown one stays as it is.
std::string Lexer::unescaped(std::string_view text) const {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 >= text.size()) {
      out += text[i];
      continue;
    }
    const char c = text[++i];
    const auto code = [&](std::size_t count) {
      char32_t value = 0;
      for (std::size_t k = 0; k < count; ++k) {
        if (i + 1 >= text.size() || !hex_digit(text[i + 1])) fail(fmt::format("truncated \\{} escape", c));
        const char h = text[++i];
        value = value * 16 + static_cast<char32_t>(digit(h) ? h - '0' : (h | 0x20) - 'a' + 10);
      }
      if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        fail(fmt::format("illegal \\{} escape", c));
      append(out, value);
    };
    constexpr std::string_view kNames = "\\'\"abfnrtv", kStandFor = "\\'\"\a\b\f\n\r\t\v";
    if (const std::size_t known = kNames.find(c); known != std::string_view::npos) {
      out += kStandFor[known];
    } else if (c == '\n') {
      continue;
    } else if (c == 'x') {
      code(2);
    } else if (c == 'u') {
      code(4);
    } else if (c == 'U') {
      code(8);
    } else if (c >= '0' && c <= '7') {
      char32_t value = static_cast<char32_t>(c - '0');
      for (int k = 0; k < 2 && i + 1 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '7'; ++k)
        value = value * 8 + static_cast<char32_t>(text[++i] - '0');
      append(out, value);
    } else if (c == 'N') {
      fail("character names (\\N{...}) are not known here; write \\u and the code point");
    } else {
      out += '\\';
      out += c;
    }
  }
  return out;
}

void Lexer::operator_token() {
  static constexpr std::array<std::string_view, 26> kOperators = {
      "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
  for (const std::string_view op : kOperators) {
    if (!at(op)) continue;
    if (op == "(") open_ += ')';
    if (op == "[") open_ += ']';
    if (op == "{") open_ += '}';
    if (op == ")" || op == "]" || op == "}") {
      if (open_.empty()) fail(fmt::format("unexpected '{}'", op));
      if (open_.back() != op[0]) fail(fmt::format("unexpected '{}', expected '{}'", op, open_.back()));
      open_.pop_back();
    }
    add(TokenKind::Operator, std::string(op));
    return advance(op.size());
  }
  std::size_t next = position_;
  next_code_point(text_, next);
  fail(fmt::format("unexpected char {}", fmt::format("'{}'", text_.substr(position_, next - position_))));
}

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(normalized(source)).run();
}

}  // namespace candela::jinja
