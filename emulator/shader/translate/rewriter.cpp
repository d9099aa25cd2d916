#include "rewriter.h"

#include <algorithm>
#include <array>

namespace translate {
namespace {

template <std::size_t N>
bool one_of(const Token& token, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), token.text) != words.end();
}

constexpr std::array<std::string_view, 7> kQualifiers = {"const",  "volatile", "constexpr", "static",
                                                         "inline", "extern",   "coherent"};
constexpr std::array<std::string_view, 4> kSpaces = {"device", "constant", "threadgroup", "thread"};
constexpr std::array<std::string_view, 9> kIntegerWords = {"unsigned", "signed", "short", "long", "int",
                                                           "char",     "float",  "bool",  "void"};

/// Floating literals are float unless they say otherwise; there is no double.
std::string literal(const Token& token) {
  const std::string text(token.text);
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  const bool floating =
      hexadecimal ? text.find_first_of("pP") != text.npos : text.find_first_of(".eE") != text.npos;
  const auto without = [&text](std::size_t n) { return text.substr(0, text.size() - n); };
  const auto as_float = [](const std::string& digits) {
    return digits.find_first_of(".eEpP") == digits.npos ? digits + ".0f" : digits + "f";
  };
  if (!hexadecimal && (text.ends_with("bf") || text.ends_with("BF")))
    throw SourceError(token, "bfloat needs Metal 3.1; shaders here are Metal 3.0");
  if (text.ends_with('h') || text.ends_with('H')) return "::metal::half(" + as_float(without(1)) + ")";
  if (!floating) return text;
  if (text.ends_with('f') || text.ends_with('F')) return text;
  if (text.ends_with('l') || text.ends_with('L'))
    throw SourceError(token, "there is no long double in Metal");
  return text + "f";
}

std::string directive(const Token& token) {
  const std::string text(token.text);
  if (text.starts_with("#pragma")) {
    if (text.find("METAL") != text.npos) return "";
    return text.starts_with("#pragma unroll") ? "#pragma unroll"
                                              : text;  // its count may be a macro, which is gone by now
  }
  // `# 12 "file" 2`: the flags are not part of #line.
  const std::size_t close = text.rfind('"');
  return "#line" + (close == text.npos ? text.substr(1) : text.substr(1, close));
}

const char* space_name(std::string_view space) {
  if (space == "device") return "::emulator::Space::Device";
  if (space == "constant") return "::emulator::Space::Constant";
  return "::emulator::Space::Threadgroup";
}

}  // namespace

/// A declaration with an address space, up to where its declarator starts.
struct Rewriter::Declaration {
  std::size_t first = 0;  // first token
  std::string_view space;
  bool is_const = false, is_constexpr = false, is_static = false;
  Range type;
  std::size_t declarator = 0;
};

bool is_address_space(const Token& token) {
  return token.is_identifier() && one_of(token, kSpaces);
}

bool starts_attribute(const Tokens& tokens, std::size_t i) {
  return tokens[i].is("[") && i + 1 < tokens.size() && tokens[i + 1].is("[") && tokens[i + 1].space.empty();
}

std::size_t past_closing(const Tokens& tokens, std::size_t i) {
  int depth = 0;
  for (std::size_t j = i; j < tokens.size(); ++j) {
    const Token& token = tokens[j];
    if (token.kind == Kind::End) break;
    if (token.kind != Kind::Punctuation) continue;
    if (token.is("(") || token.is("[") || token.is("{")) ++depth;
    if ((token.is(")") || token.is("]") || token.is("}")) && --depth == 0) return j + 1;
  }
  throw SourceError(tokens[i], "'" + std::string(tokens[i].text) + "' is never closed");
}

std::size_t past_angle(const Tokens& tokens, std::size_t i) {
  int depth = 0;
  for (std::size_t j = i; j < tokens.size(); ++j) {
    const Token& token = tokens[j];
    if (token.kind == Kind::End || token.is(";") || token.is("{")) break;
    if (token.is("(") || token.is("[")) {
      j = past_closing(tokens, j) - 1;
    } else if (token.is("<")) {
      ++depth;
    } else if (token.is(">") && --depth == 0) {
      return j + 1;
    }
  }
  throw SourceError(tokens[i], "'<' is never closed");
}

std::string plain_text(const Tokens& tokens, Range range) {
  std::string out;
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if (tokens[i].kind == Kind::Directive) continue;
    if (!out.empty() && !tokens[i].space.empty()) out += ' ';
    out += tokens[i].text;
  }
  return out;
}

void Rewriter::begin_kernel() {
  in_kernel_ = true;
  shared_.clear();
}

std::vector<std::string> Rewriter::end_kernel() {
  in_kernel_ = false;
  return std::move(shared_);
}

std::string Rewriter::rewrite(Range range) {
  std::string out;
  for (std::size_t i = range.begin; i < range.end;) i = emit(i, range.end, out);
  return out;
}

std::size_t Rewriter::emit(std::size_t i, std::size_t end, std::string& out) {
  const Token& token = tokens_[i];
  if (starts_attribute(tokens_, i)) {
    const std::size_t next = past_closing(tokens_, i);
    if (next > end) throw SourceError(token, "an attribute is never closed");
    if (tokens_[i + 2].is("id") && tokens_[i + 3].is("("))
      throw SourceError(token, "argument buffers are not known here");
    return next;
  }
  switch (token.kind) {
    case Kind::Identifier:
      return emit_identifier(i, end, out);
    case Kind::Number:
      out += std::string(token.space) + literal(token);
      return i + 1;
    case Kind::Directive:
      out += std::string(token.space) + directive(token);
      return i + 1;
    case Kind::Punctuation:
      if (token.is("&") && address_of_is_unary(i)) return emit_address_of(i, end, out);
      break;
    default:
      break;
  }
  out += std::string(token.space) + std::string(token.text);
  return i + 1;
}

std::size_t Rewriter::emit_identifier(std::size_t i, std::size_t end, std::string& out) {
  const Token& token = tokens_[i];
  if (one_of(token, kQualifiers) || is_address_space(token)) {
    std::size_t j = i;
    while (j < end && one_of(tokens_[j], kQualifiers)) ++j;
    if (j < end && is_address_space(tokens_[j])) return emit_declaration(i, end, out);
  }
  const std::string space(token.space);
  const bool opens = i + 1 < end && tokens_[i + 1].is("(");
  if (token.is("restrict") || token.is("volatile")) {
    out += space;
    return i + 1;
  }
  if (token.is("reinterpret_cast") || token.is("const_cast")) {
    out += space + "::emulator::pointer_cast";
    return i + 1;
  }
  if (token.is("is_function_constant_defined") && opens) {
    const std::size_t next = past_closing(tokens_, i + 1);
    const std::string name = plain_text(tokens_, {i + 2, next - 1});
    if (!function_constants.contains(name)) throw SourceError(token, name + " is not a function constant");
    out += space + "emulated_" + name + "_is_defined";
    return next;
  }
  out += space + std::string(token.text);
  if (kernel_templates.contains(token.text) && i + 1 < end && tokens_[i + 1].is("<")) {
    out += "<::emulator::NoKernel" + std::string(i + 2 < end && tokens_[i + 2].is(">") ? "" : ", ");
    return i + 2;
  }
  return i + 1;
}

bool Rewriter::address_of_is_unary(std::size_t i) const {
  if (i == 0) return false;
  const Token& before = tokens_[i - 1];
  if (before.is(")")) return casts_.contains(i - 1);
  if (before.kind == Kind::Identifier) return before.is("return");
  constexpr std::array<std::string_view, 20> kBefore = {"(", ",",  "=",  "{",  "}",  ";",  "?",
                                                        ":", "&&", "||", "!",  "==", "!=", "+",
                                                        "-", "+=", "-=", "<=", ">=", "<"};
  return before.kind == Kind::Punctuation && one_of(before, kBefore);
}

/// `&a.b[i]` becomes element(a.b, i), which for a checked pointer is the pointer i further on. Other operands
/// stay.
std::size_t Rewriter::emit_address_of(std::size_t i, std::size_t end, std::string& out) {
  std::size_t j = i + 1, subscript = 0;
  const auto plain = [&] {
    out += std::string(tokens_[i].space) + "&";
    return i + 1;
  };
  if (j < end && tokens_[j].is("(")) {
    j = past_closing(tokens_, j);
  } else if (j < end && tokens_[j].is_identifier()) {
    ++j;
  } else {
    return plain();
  }
  while (j < end) {
    if (tokens_[j].is("[") && !starts_attribute(tokens_, j)) {
      subscript = j;
      j = past_closing(tokens_, j);
    } else if (tokens_[j].is("(")) {
      subscript = 0;
      j = past_closing(tokens_, j);
    } else if ((tokens_[j].is(".") || tokens_[j].is("->") || tokens_[j].is("::")) && j + 1 < end) {
      subscript = 0;
      j += 2;
    } else {
      break;
    }
  }
  if (subscript == 0) return plain();
  out += std::string(tokens_[i].space) + "::emulator::element(" + rewrite({i + 1, subscript}) + ", " +
         rewrite({subscript + 1, j - 1}) + ")";
  return j;
}

std::size_t Rewriter::past_type(std::size_t i, std::size_t end) const {
  std::size_t j = i;
  while (j < end && (tokens_[j].is("typename") || tokens_[j].is("struct"))) ++j;
  if (j < end && one_of(tokens_[j], kIntegerWords)) {
    while (j < end && one_of(tokens_[j], kIntegerWords)) ++j;
    return j;
  }
  if (j < end && tokens_[j].is("decltype")) return past_closing(tokens_, j + 1);
  if (j < end && tokens_[j].is("::")) ++j;
  if (j >= end || !tokens_[j].is_identifier()) return i;
  for (;;) {
    ++j;
    if (j < end && tokens_[j].is("<")) j = past_angle(tokens_, j);
    if (j + 1 < end && tokens_[j].is("::")) {
      ++j;
      if (tokens_[j].is("template")) ++j;
      continue;
    }
    return j;
  }
}

std::size_t Rewriter::emit_declaration(std::size_t i, std::size_t end, std::string& out) {
  Declaration d;
  d.first = i;
  std::size_t j = i;
  const auto qualifiers = [&] {
    for (; j < end && (one_of(tokens_[j], kQualifiers) || is_address_space(tokens_[j])); ++j) {
      d.is_const |= tokens_[j].is("const");
      d.is_constexpr |= tokens_[j].is("constexpr");
      d.is_static |= tokens_[j].is("static");
      if (!is_address_space(tokens_[j])) continue;
      if (!d.space.empty() && d.space != tokens_[j].text) throw SourceError(tokens_[j], "two address spaces");
      d.space = tokens_[j].text;
    }
  };
  qualifiers();
  // After a parameter list it belongs to the object of a member function, which is a C++ object here.
  if (i > 0 && tokens_[i - 1].is(")") && !casts_.contains(i - 1) &&
      (j >= end || tokens_[j].is("{") || tokens_[j].is(";") || tokens_[j].is("->") || tokens_[j].is(":"))) {
    if (d.is_const) out += " const";
    return j;
  }
  d.type.begin = j;
  j = d.type.end = past_type(j, end);
  if (d.type.empty())
    throw SourceError(tokens_[i], "the type must follow the address space '" + std::string(d.space) + "'");
  qualifiers();
  while (j < end && tokens_[j].kind == Kind::Directive) ++j;
  d.declarator = j;
  if (const std::string type = plain_text(tokens_, d.type);
      d.space == "threadgroup" && (type == "atomic_float" || type == "atomic<float>"))
    throw SourceError(tokens_[i], "atomic_float is for device memory only");
  // `int constant n = 1`: what follows is the name, and the type stands before.
  if (i > 0 && is_address_space(tokens_[i]) && j == i + 2 && j < end &&
      (tokens_[j].is("=") || tokens_[j].is(";")) &&
      (tokens_[i - 1].is_identifier() || tokens_[i - 1].is(">")) && d.space == "constant") {
    return i + 1;
  }
  out += tokens_[i].space;
  if (j < end && tokens_[j].is("*")) return emit_pointer(d, out);
  if (j < end && (tokens_[j].is("&") || tokens_[j].is("&&"))) {
    out += (d.is_const || d.space == "constant" ? "const " : "") + type_text(d.type);
    return j;
  }
  if (j + 2 < end && tokens_[j].is("(") && (tokens_[j + 1].is("&") || tokens_[j + 1].is("*")))
    return emit_array_reference(d, end, out);
  return emit_object(d, end, out);
}

std::string Rewriter::type_text(Range range) {
  std::string type = rewrite(range);
  return type.erase(0, std::min(type.size(), type.find_first_not_of(" \n\t")));
}

std::size_t Rewriter::emit_pointer(const Declaration& d, std::string& out) {
  const bool is_const = d.is_const || d.space == "constant";
  std::string type = type_text(d.type);
  if (type == "void") type = "::emulator::Void";
  if (d.space == "thread") {
    out += (is_const ? "const " : "") + (type == "::emulator::Void" ? std::string("void") : type) + "*";
  } else if (type == "auto") {
    out += "auto";
  } else {
    out += std::string("::emulator::Pointer<") + space_name(d.space) + ", " + (is_const ? "const " : "") +
           type + ">";
  }
  std::size_t j = d.declarator + 1;
  while (tokens_[j].is("const") || tokens_[j].is("restrict") || tokens_[j].is("__restrict") ||
         tokens_[j].is("__restrict__") || tokens_[j].is("volatile")) {
    if (tokens_[j].is("const")) out += " const";
    ++j;
  }
  if (d.first > 0 && tokens_[d.first - 1].is("(") && tokens_[j].is(")")) casts_.insert(j);
  return j;
}

/// `threadgroup T (&tile)[N][M]`
std::size_t Rewriter::emit_array_reference(const Declaration& d, std::size_t end, std::string& out) {
  const Token& at = tokens_[d.declarator];
  const bool is_const = d.is_const || d.space == "constant";
  if (d.space == "thread") {
    out += (is_const ? "const " : "") + type_text(d.type);
    return d.declarator;
  }
  const std::size_t close = past_closing(tokens_, d.declarator);
  if (!tokens_[d.declarator + 1].is("&"))
    throw SourceError(at, "pointers to arrays are not known here; use a pointer to the elements");
  if (d.space != "threadgroup") {
    out += (is_const ? "const " : "") + type_text(d.type);
    return d.declarator;
  }
  std::string sizes;
  std::size_t j = close;
  while (j < end && tokens_[j].is("[") && !starts_attribute(tokens_, j)) {
    const std::size_t next = past_closing(tokens_, j);
    sizes += ", " + rewrite({j + 1, next - 1});
    j = next;
  }
  out += "const ::emulator::SharedArray<" + type_text(d.type) + sizes + ">& " +
         rewrite({d.declarator + 2, close - 1});
  return j;
}

/// A parameter such as `constant int* shape` in the spelling `constant int shape[3]`; 0 if it is none.
std::size_t Rewriter::emit_array_parameter(const Declaration& d, std::size_t end, std::string& out) {
  std::size_t j = d.declarator + 1;
  if (d.space == "thread" || j >= end || !tokens_[d.declarator].is_identifier() || !tokens_[j].is("[") ||
      starts_attribute(tokens_, j))
    return 0;
  const std::size_t next = past_closing(tokens_, j);
  const bool parameter = next >= tokens_.size() || tokens_[next].is(",") || tokens_[next].is(")") ||
                         starts_attribute(tokens_, next);
  const Token& before = tokens_[d.first == 0 ? 0 : d.first - 1];
  if (!parameter || (!before.is("(") && !before.is(","))) return 0;
  out += std::string("::emulator::Pointer<") + space_name(d.space) + ", " +
         (d.is_const || d.space == "constant" ? "const " : "") + type_text(d.type) + ">" +
         std::string(tokens_[d.declarator].space) + std::string(tokens_[d.declarator].text);
  return next;
}

std::size_t Rewriter::emit_object(const Declaration& d, std::size_t end, std::string& out) {
  if (const std::size_t next = emit_array_parameter(d, end, out); next != 0) return next;
  if (d.space == "threadgroup") return emit_shared(d, end, out);
  if (d.space == "device")
    throw SourceError(tokens_[d.first], "an object cannot be declared in device memory");
  const bool declares = d.declarator < end && tokens_[d.declarator].is_identifier();
  if (d.space == "constant" && declares) {
    out += d.is_constexpr ? "static constexpr " : "static const ";
  } else {
    if (d.is_static) out += "static ";
    if (d.is_constexpr) out += "constexpr ";
    if (d.is_const && !d.is_constexpr) out += "const ";
  }
  out += type_text(d.type);
  return d.declarator;
}

/// `threadgroup T a[N][M], b;` in a kernel: memory that the group shares.
std::size_t Rewriter::emit_shared(const Declaration& d, std::size_t end, std::string& out) {
  if (!in_kernel_)
    throw SourceError(tokens_[d.first], "threadgroup variables can be declared in kernels only");
  std::string type = type_text(d.type);
  std::size_t j = d.declarator;
  for (;;) {
    if (j >= end || !tokens_[j].is_identifier())
      throw SourceError(tokens_[d.first], "a threadgroup variable needs a name");
    const std::string name(tokens_[j++].text);
    const std::string number = std::to_string(shared_.size());
    shared_.push_back(name);
    std::string sizes;
    while (j < end && tokens_[j].is("[")) {
      const std::size_t next = past_closing(tokens_, j);
      if (!starts_attribute(tokens_, j)) sizes += ", " + rewrite({j + 1, next - 1});
      j = next;
    }
    if (sizes.empty()) {
      out += type + "& " + name + " = ::emulator::shared_variable<Emulated_kernel, " + number + ", " + type +
             ">();";
    } else {
      out += "const ::emulator::SharedArray<" + type + sizes + "> " + name +
             " = ::emulator::shared_array<Emulated_kernel, " + number + ", " + type + sizes + ">();";
    }
    if (j < end && tokens_[j].is(",")) {
      ++j;
      continue;
    }
    if (j >= end || !tokens_[j].is(";"))
      throw SourceError(tokens_[d.first], "a threadgroup variable cannot have an initial value");
    return j + 1;
  }
}

}  // namespace translate
