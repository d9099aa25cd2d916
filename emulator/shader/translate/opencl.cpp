#include "opencl.h"

#include "declaration.h"
#include "dialect.h"

namespace translate {
namespace {

class OpenClWriter {
 public:
  explicit OpenClWriter(const Tokens& tokens) : tokens_(tokens) {}

  std::string run() {
    const std::size_t end = tokens_.size() - 1;
    for (std::size_t i = 0; i < end;) i = emit(i, end);
    return "#include \"opencl/metal_stdlib.h\"\n" + std::move(out_) + "\n";
  }

 private:
  std::size_t emit(std::size_t i, std::size_t end);
  std::size_t emit_shared(std::size_t i, std::size_t end);
  std::string text(std::size_t begin, std::size_t end) const {
    std::string out;
    for (std::size_t i = begin; i < end; ++i)
      out += std::string(tokens_[i].space) + std::string(tokens_[i].text);
    return out;
  }

  const Tokens& tokens_;
  std::string out_;
  int braces_ = 0;
};

std::size_t OpenClWriter::emit(std::size_t i, std::size_t end) {
  const Token& token = tokens_[i];
  if (starts_attribute(tokens_, i)) {
    // A function constant has no value that this compiler could know of.
    if (attribute_has(tokens_, i, "function_constant") && braces_ == 0 &&
        tokens_[past_closing(tokens_, i)].is(";"))
      out_ += " = {}";
    return past_closing(tokens_, i);
  }
  if (token.is("kernel")) return out_ += token.space, i + 1;
  if (token.is("{")) ++braces_;
  if (token.is("}")) --braces_;
  if (token.is("threadgroup") && braces_ > 0) {
    if (const std::size_t next = emit_shared(i, end); next != i) return next;
  }
  out_ += std::string(token.space) + std::string(token.text);
  return i + 1;
}

/// `threadgroup T a[N], b;`: only kernels may declare such memory there, and a template is none. As
/// references to objects in it; other declarations with that address space are left as they are.
std::size_t OpenClWriter::emit_shared(std::size_t i, std::size_t end) {
  std::size_t j = i + 1;
  const std::size_t type = j;
  while (j < end && (tokens_[j].is_identifier() || tokens_[j].is("::") || tokens_[j].is("<"))) {
    if (j > type && tokens_[j].is_identifier() &&
        (tokens_[j + 1].is("[") || tokens_[j + 1].is(";") || tokens_[j + 1].is(",")))
      break;
    j = tokens_[j].is("<") ? past_angle(tokens_, j) : j + 1;
  }
  if (j == type || j >= end || !tokens_[j].is_identifier()) return i;
  const std::string element = text(type, j);
  std::string declared;
  for (;;) {
    const std::string name(tokens_[j++].text);
    std::string sizes;
    while (tokens_[j].is("[")) {
      const std::size_t next = past_closing(tokens_, j);
      sizes += text(j, next);
      j = next;
    }
    declared += " threadgroup" + element + " (&" + name + ")" + sizes + " = threadgroup_memory<" + element +
                sizes + ">();";
    if (!tokens_[j].is(",")) break;
    ++j;
  }
  if (!tokens_[j].is(";")) return i;
  out_ += std::string(tokens_[i].space) + declared;
  return j + 1;
}

}  // namespace

std::string to_opencl(std::string_view preprocessed) {
  const Tokens tokens = lex(preprocessed);
  check_dialect(tokens);
  return OpenClWriter(tokens).run();
}

}  // namespace translate
