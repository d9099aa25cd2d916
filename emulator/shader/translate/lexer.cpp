#include "lexer.h"

#include <array>
#include <cctype>
#include <charconv>

namespace translate {
namespace {

bool starts_name(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$';
}
bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}
bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    do {
      tokens.push_back(next());
    } while (tokens.back().kind != Kind::End);
    return tokens;
  }

 private:
  char at(std::size_t i) const { return i < text_.size() ? text_[i] : '\0'; }

  Token next() {
    const std::size_t start = position_;
    while (position_ < text_.size() && is_space(at(position_))) {
      if (at(position_) == '\n') {
        ++line_;
        line_start_ = true;
      }
      ++position_;
    }
    Token token;
    token.space = text_.substr(start, position_ - start);
    token.line = line_;
    token.file = file_;
    const std::size_t first = position_;
    if (first == text_.size()) return token;
    token.kind = scan();
    token.text = text_.substr(first, position_ - first);
    line_start_ = false;
    if (token.kind == Kind::Directive) note_line(token.text);
    return token;
  }

  Kind scan() {
    const char c = at(position_);
    if (c == '#' && line_start_) {
      while (position_ < text_.size() && at(position_) != '\n') ++position_;
      return Kind::Directive;
    }
    if (starts_name(c)) {
      while (starts_name(at(position_)) || is_digit(at(position_))) ++position_;
      return Kind::Identifier;
    }
    if (is_digit(c) || (c == '.' && is_digit(at(position_ + 1)))) return scan_number();
    if (c == '"' || c == '\'') return scan_quoted(c);
    constexpr std::array<std::string_view, 22> kLong = {
        "<<=", ">>=", "...", "->", "::", "&&", "||", "==", "!=", "<=", ">=",
        "+=",  "-=",  "*=",  "/=", "%=", "&=", "|=", "^=", "++", "--", "<<"};
    for (const std::string_view symbol : kLong) {
      if (text_.substr(position_).starts_with(symbol)) {
        position_ += symbol.size();
        return Kind::Punctuation;
      }
    }
    ++position_;  // `>>` stays two tokens: it may close two template argument lists
    return Kind::Punctuation;
  }

  Kind scan_number() {
    while (position_ < text_.size()) {
      const char c = at(position_);
      const bool exponent = c == 'e' || c == 'E' || c == 'p' || c == 'P';
      if (exponent && (at(position_ + 1) == '+' || at(position_ + 1) == '-')) {
        position_ += 2;
      } else if (starts_name(c) || is_digit(c) || c == '.') {
        ++position_;
      } else {
        break;
      }
    }
    return Kind::Number;
  }

  Kind scan_quoted(char quote) {
    ++position_;
    while (position_ < text_.size() && at(position_) != quote) position_ += at(position_) == '\\' ? 2 : 1;
    position_ = std::min(position_ + 1, text_.size());
    return quote == '"' ? Kind::String : Kind::Character;
  }

  /// `# 12 "file" flags`: the line after it is line 12 of that file.
  void note_line(std::string_view directive) {
    std::size_t i = 1;
    while (i < directive.size() && is_space(directive[i])) ++i;
    int number = 0;
    const auto [end, error] =
        std::from_chars(directive.data() + i, directive.data() + directive.size(), number);
    if (error != std::errc()) return;
    const std::string_view rest(end, static_cast<std::size_t>(directive.data() + directive.size() - end));
    const std::size_t open = rest.find('"'), close = rest.rfind('"');
    if (open != rest.npos && close > open) file_ = rest.substr(open + 1, close - open - 1);
    line_ = number - 1;
  }

  std::string_view text_;
  std::size_t position_ = 0;
  std::string_view file_;
  int line_ = 1;
  bool line_start_ = true;
};

}  // namespace

SourceError::SourceError(const Token& at, const std::string& what)
    : std::runtime_error(std::string(at.file) + ":" + std::to_string(at.line) + ": error: " + what) {}

std::vector<Token> lex(std::string_view text) {
  return Lexer(text).run();
}

}  // namespace translate
