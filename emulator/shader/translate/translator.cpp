#include "translator.h"

#include <algorithm>
#include <optional>

#include "declaration.h"
#include "dialect.h"
#include "kernel_definition.h"
#include "library_names.h"

namespace translate {
namespace {

class Translator {
 public:
  Translator(const Tokens& tokens, const SourceInfo& info)
      : tokens_(tokens), info_(info), rewriter_(tokens) {}

  std::string run();

 private:
  void survey();
  void emit_scope(std::size_t begin, std::size_t end);
  void emit_kernel(const Head& head, Range range);
  void emit_instantiation(const Head& head, Range range);
  bool emit_constant(const Head& head, Range range);

  const Tokens& tokens_;
  const SourceInfo& info_;
  Rewriter rewriter_;
  std::string out_, stem_;
  Translation found_;
};

std::string Translator::run() {
  const std::size_t end = tokens_.size() - 1;
  survey();
  for (const char c : info_.file) stem_ += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  out_ = "// Written by translate_metal from " + info_.file +
         ".\n#include \"runtime/generated.h\"\nnamespace metal { namespace emulated_" + stem_ + " {\n";
  std::set<std::string_view> overloaded;
  for (const Function& function : found_.functions) {
    if (std::find(kLibraryNames.begin(), kLibraryNames.end(), function.name) != kLibraryNames.end())
      overloaded.insert(function.name);
  }
  for (const std::string_view name : overloaded) out_ += "using ::metal::" + std::string(name) + ";\n";
  emit_scope(0, end);
  out_ += tokens_[end].space;
  out_ += entries(tokens_, info_, found_, rewriter_);
  out_ += "} }\n";
  return std::move(out_);
}

/// Finds what must be known before anything is written: the names of kernel templates, function constants,
/// and what each function mentions.
void Translator::survey() {
  for_each_declaration(tokens_, 0, tokens_.size() - 1, [this](const Head& head, Range range) {
    if (head.is_kernel && !head.is_instantiation && head.parenthesis != 0)
      rewriter_.kernel_templates.insert(head.name);
    if (!head.is_instantiation) found_.functions.push_back({head.name, range});
    for (const std::size_t attribute : head.attributes) {
      if (!attribute_argument(tokens_, attribute, "function_constant") || head.parenthesis != 0) continue;
      if (tokens_[attribute - 1].is_identifier())
        rewriter_.function_constants.insert(std::string(tokens_[attribute - 1].text));
    }
  });
}

void Translator::emit_scope(std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end;) {
    if (tokens_[i].kind == Kind::Directive || tokens_[i].is(";")) {
      out_ += rewriter_.rewrite({i, i + 1});
      ++i;
      continue;
    }
    if (tokens_[i].is("namespace")) {
      std::size_t brace = i;
      while (brace < end && !tokens_[brace].is("{") && !tokens_[brace].is(";")) ++brace;
      if (tokens_[brace].is("{")) {
        const std::size_t next = past_closing(tokens_, brace);
        // What a file adds to namespace metal goes there, and not into a namespace of that name in the file's
        // own.
        const bool library = tokens_[i + 1].is("metal") && brace == i + 2;
        out_ += library ? std::string(tokens_[i].space) + "} } namespace metal {"
                        : rewriter_.rewrite({i, brace + 1});
        emit_scope(brace + 1, next - 1);
        out_ += rewriter_.rewrite({next - 1, next});
        if (library) out_ += " namespace metal { namespace emulated_" + stem_ + " {";
        i = next;
        continue;
      }
    }
    const std::size_t next = declaration_end(tokens_, i, end);
    const Head head = read_head(tokens_, i, next);
    if (head.is_instantiation && (head.is_kernel || !head.attributes.empty())) {
      emit_instantiation(head, {i, next});
    } else if (head.is_kernel && head.parenthesis != 0) {
      emit_kernel(head, {i, next});
    } else if (!emit_constant(head, {i, next})) {
      out_ += rewriter_.rewrite({i, next});
    }
    i = next;
  }
}

/// Function constants and what is computed from them become variables of the OS thread, which a launch sets.
bool Translator::emit_constant(const Head& head, Range range) {
  if (head.is_template || head.is_struct || !tokens_[range.end - 1].is(";")) return false;
  std::size_t i = range.begin;
  while (tokens_[i].is("static") || tokens_[i].is("const")) ++i;
  if (!tokens_[i].is("constant")) return false;
  ++i;
  std::size_t name = i;
  while (name < range.end && !tokens_[name].is("=") && !tokens_[name].is(";") &&
         !starts_attribute(tokens_, name) && !tokens_[name].is("[") && !tokens_[name].is("{") &&
         !tokens_[name].is("(")) {
    ++name;
  }
  const std::size_t after = name--;
  if (!tokens_[name].is_identifier() || name == i) return false;
  Constant constant;
  constant.name = tokens_[name].text;
  Range type{i, name};
  if (tokens_[type.begin].is("const")) ++type.begin;
  constant.type = rewriter_.rewrite(type);
  if (starts_attribute(tokens_, after)) {
    const auto index = attribute_argument(tokens_, after, "function_constant");
    if (!index) return false;
    constant.index = rewriter_.rewrite(*index);
    out_ += std::string(tokens_[range.begin].space) + "static thread_local bool emulated_" + constant.name +
            "_is_defined; ";
  } else {
    constant.tokens = {after + 1, range.end - 1};
    const auto derived = [this](const Token& token) {
      return std::any_of(found_.constants.begin(), found_.constants.end(),
                         [&token](const Constant& c) { return token.is(c.name); });
    };
    if (!tokens_[after].is("=") ||
        std::none_of(tokens_.begin() + static_cast<std::ptrdiff_t>(after),
                     tokens_.begin() + static_cast<std::ptrdiff_t>(range.end), derived)) {
      return false;
    }
    constant.initializer = rewriter_.rewrite(constant.tokens);
    out_ += tokens_[range.begin].space;
  }
  out_ += "static thread_local " + constant.type + " " + constant.name + ";";
  found_.constants.push_back(std::move(constant));
  return true;
}

void Translator::emit_kernel(const Head& head, Range range) {
  KernelDefinition kernel;
  kernel.name = head.name;
  kernel.tokens = range;
  kernel.is_template = head.is_template;
  const std::size_t close = past_closing(tokens_, head.parenthesis);
  read_parameters(tokens_, {head.parenthesis + 1, close - 1}, kernel);
  std::vector<std::size_t> attributes = head.attributes;
  std::size_t body = close;
  for (; body < range.end && !tokens_[body].is("{"); ++body) {
    if (starts_attribute(tokens_, body)) {
      attributes.push_back(body);
      body = past_closing(tokens_, body) - 1;
    }
  }
  const std::string parameters = rewriter_.rewrite(head.template_parameters);
  out_ += tokens_[range.begin].space;
  for (const std::size_t attribute : attributes) {
    if (const auto name = attribute_argument(tokens_, attribute, "host_name"))
      kernel.host_name = joined(tokens_, *name);
    const auto limit = attribute_argument(tokens_, attribute, "max_total_threads_per_threadgroup");
    if (!limit) continue;
    kernel.has_max_threads = true;
    out_ += "template <class Emulated_kernel" + (parameters.empty() ? "" : ", " + parameters) +
            "> static constexpr ::std::size_t emulated_max_threads_" + kernel.name + " = " +
            rewriter_.rewrite(*limit) + "; ";
  }
  out_ += "template <class Emulated_kernel" + (parameters.empty() ? "" : ", " + parameters) + "> static ";
  rewriter_.begin_kernel();
  std::size_t type = head.after_template;
  while (type < head.parenthesis && (tokens_[type].is("kernel") || tokens_[type].is("static") ||
                                     tokens_[type].is("inline") || starts_attribute(tokens_, type))) {
    type = starts_attribute(tokens_, type) ? past_closing(tokens_, type) : type + 1;
  }
  if (!tokens_[type].is("void")) throw SourceError(tokens_[type], "a kernel returns void");
  for (std::size_t i = type; i < head.parenthesis; ++i)
    out_ += std::string(tokens_[i].space) + std::string(tokens_[i].text);
  out_ += rewriter_.rewrite({head.parenthesis, close}) +
          (body < range.end ? rewriter_.rewrite({body, range.end}) : ";");
  kernel.shared_names = rewriter_.end_kernel();
  found_.kernel_order.push_back(kernel.name);
  found_.kernels.emplace(kernel.name, std::move(kernel));
}

void Translator::emit_instantiation(const Head& head, Range range) {
  Instantiation instantiation;
  instantiation.tokens = range;
  for (const std::size_t attribute : head.attributes) {
    if (const auto name = attribute_argument(tokens_, attribute, "host_name"))
      instantiation.host_name = joined(tokens_, *name);
  }
  if (instantiation.host_name.empty())
    throw SourceError(tokens_[range.begin],
                      "an explicit instantiation of a kernel needs [[host_name(\"...\")]]");
  // The name is what stands before the parameters or the end; template arguments follow it.
  for (std::size_t i = head.after_template; i < range.end; ++i) {
    if (starts_attribute(tokens_, i)) {
      i = past_closing(tokens_, i) - 1;
    } else if (tokens_[i].is("decltype")) {
      i = past_closing(tokens_, i + 1) - 1;
    } else if (rewriter_.kernel_templates.contains(tokens_[i].text) && tokens_[i + 1].is("<")) {
      instantiation.kernel = tokens_[i].text;
      instantiation.arguments = rewriter_.rewrite({i + 2, past_angle(tokens_, i + 1) - 1});
      break;
    }
  }
  if (instantiation.kernel.empty())
    throw SourceError(tokens_[range.begin], "this instantiates no kernel template of the file");
  for (std::size_t i = range.begin; i < range.end; ++i) {
    for (const char c : tokens_[i].space) out_ += c == '\n' ? "\n" : "";
    if (tokens_[i].kind == Kind::Directive) out_ += rewriter_.rewrite({i, i + 1});
  }
  found_.instantiations.push_back(std::move(instantiation));
}

}  // namespace

std::string translate(std::string_view preprocessed, const SourceInfo& info) {
  const Tokens tokens = lex(preprocessed);
  check_dialect(tokens);
  return Translator(tokens, info).run();
}

}  // namespace translate
