#include "translator.h"

#include <algorithm>
#include <array>
#include <optional>

#include "library_names.h"

namespace translate {
namespace {

/// A kernel's parameter that the attribute names, and the Builtin that stands for it.
struct BuiltinName {
  std::string_view attribute, builtin;
};
constexpr std::array<BuiltinName, 15> kBuiltins = {{
    {"thread_position_in_grid", "kThreadPositionInGrid"},
    {"thread_position_in_threadgroup", "kThreadPositionInThreadgroup"},
    {"thread_index_in_threadgroup", "kThreadIndexInThreadgroup"},
    {"threadgroup_position_in_grid", "kThreadgroupPositionInGrid"},
    {"threads_per_threadgroup", "kThreadsPerThreadgroup"},
    {"dispatch_threads_per_threadgroup", "kDispatchThreadsPerThreadgroup"},
    {"threadgroups_per_grid", "kThreadgroupsPerGrid"},
    {"threads_per_grid", "kThreadsPerGrid"},
    {"simdgroup_index_in_threadgroup", "kSimdgroupIndexInThreadgroup"},
    {"thread_index_in_simdgroup", "kThreadIndexInSimdgroup"},
    {"simdgroups_per_threadgroup", "kSimdgroupsPerThreadgroup"},
    {"threads_per_simdgroup", "kThreadsPerSimdgroup"},
    {"quadgroup_index_in_threadgroup", "kQuadgroupIndexInThreadgroup"},
    {"thread_index_in_quadgroup", "kThreadIndexInQuadgroup"},
    {"thread_execution_width", "kThreadsPerSimdgroup"},
}};

struct Constant {
  std::string name, type, index;  // index is empty where the value is derived from other constants
  std::string initializer;
  Range tokens;  // of the initializer
};

struct Function {
  std::string name;  // "" for an explicit instantiation
  Range tokens;
};

struct KernelDefinition {
  std::string name;
  Range tokens;
  bool is_template = false, has_max_threads = false;
  std::vector<std::string> conditions;
  std::array<std::set<std::string>, 2> taken;  // indices of buffers and of threadgroup arguments
  std::string parameters;                      // the initializers of kParameters
  std::vector<std::string> shared_names;
  std::string host_name;
};

struct Instantiation {
  std::string kernel, host_name, arguments;
  Range tokens;
};

class Translator {
 public:
  Translator(const Tokens& tokens, const SourceInfo& info)
      : tokens_(tokens), info_(info), rewriter_(tokens) {}

  std::string run();

 private:
  struct Head;

  void survey(std::size_t begin, std::size_t end);
  std::size_t declaration_end(std::size_t i, std::size_t end) const;
  Head read_head(std::size_t i, std::size_t end) const;
  void emit_scope(std::size_t begin, std::size_t end);
  void emit_kernel(const Head& head, Range range);
  void emit_instantiation(const Head& head, Range range);
  bool emit_constant(const Head& head, Range range);
  std::string parameter(Range range, KernelDefinition& kernel);
  std::string builtin_or_binding(Range range, KernelDefinition& kernel, std::size_t attribute,
                                 const std::string& name) const;
  void emit_tail();
  void emit_entry(std::size_t number, const KernelDefinition& kernel, const std::string& host_name,
                  const std::string& arguments, Range extra);
  std::string constants_of(const KernelDefinition& kernel, Range extra) const;

  const Tokens& tokens_;
  const SourceInfo& info_;
  Rewriter rewriter_;
  std::string out_, stem_;
  std::vector<Constant> constants_;
  std::vector<Function> functions_;
  std::map<std::string, KernelDefinition, std::less<>> kernels_;
  std::vector<std::string> kernel_order_;
  std::vector<Instantiation> instantiations_;
};

/// What stands before the body or the end of a declaration at namespace scope.
struct Translator::Head {
  bool is_template = false, is_instantiation = false, is_kernel = false, is_struct = false;
  Range template_parameters;
  std::vector<std::size_t> attributes;  // where `[[` starts, before the parameters
  std::size_t after_template = 0;
  std::size_t parenthesis = 0;  // the first at depth 0; 0 if there is none
  std::string name;             // the identifier before it
};

bool attribute_has(const Tokens& tokens, std::size_t attribute, std::string_view word) {
  const std::size_t end = past_closing(tokens, attribute);
  for (std::size_t i = attribute; i < end; ++i) {
    if (tokens[i].is(word)) return true;
  }
  return false;
}

/// The text in the parentheses after `word` in an attribute.
std::optional<Range> attribute_argument(const Tokens& tokens, std::size_t attribute, std::string_view word) {
  const std::size_t end = past_closing(tokens, attribute);
  for (std::size_t i = attribute; i + 1 < end; ++i) {
    if (tokens[i].is(word) && tokens[i + 1].is("(")) return Range{i + 2, past_closing(tokens, i + 1) - 1};
  }
  return std::nullopt;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string unquoted(std::string_view text) {
  return text.size() < 2 ? "" : std::string(text.substr(1, text.size() - 2));
}

/// The string that neighbouring literals make.
std::string joined(const Tokens& tokens, Range range) {
  std::string out;
  for (std::size_t i = range.begin; i < range.end; ++i) out += unquoted(tokens[i].text);
  return out;
}

std::string Translator::run() {
  const std::size_t end = tokens_.size() - 1;
  survey(0, end);
  for (const char c : info_.file) stem_ += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  out_ = "// Written by translate_metal from " + info_.file +
         ".\n#include \"runtime/generated.h\"\nnamespace metal { namespace emulated_" + stem_ + " {\n";
  std::set<std::string_view> overloaded;
  for (const Function& function : functions_) {
    if (std::find(kLibraryNames.begin(), kLibraryNames.end(), function.name) != kLibraryNames.end())
      overloaded.insert(function.name);
  }
  for (const std::string_view name : overloaded) out_ += "using ::metal::" + std::string(name) + ";\n";
  emit_scope(0, end);
  out_ += tokens_[end].space;
  emit_tail();
  out_ += "} }\n";
  return std::move(out_);
}

/// Where the declaration that starts at i ends: after its `;` or after the body of a function.
std::size_t Translator::declaration_end(std::size_t i, std::size_t end) const {
  bool initialized = false, is_struct = false, named = false;
  for (std::size_t j = i; j < end; ++j) {
    const Token& token = tokens_[j];
    if (token.is("template") && j + 1 < end && tokens_[j + 1].is("<")) {
      j = past_angle(tokens_, j + 1) - 1;
      continue;
    }
    if (token.is("=") || token.is("using") || token.is("typedef")) initialized = true;
    if (!named && (token.is("struct") || token.is("class") || token.is("enum") || token.is("union")))
      is_struct = true;
    if (token.is(";")) return j + 1;
    if (token.is("(") || token.is("[")) {
      named |= token.is("(");
      if (token.is("(")) is_struct = false;
      j = past_closing(tokens_, j) - 1;
    } else if (token.is("{")) {
      j = past_closing(tokens_, j) - 1;
      if (!initialized && !is_struct) return j + 1;
    }
  }
  throw SourceError(tokens_[i], "a declaration has no end");
}

Translator::Head Translator::read_head(std::size_t i, std::size_t end) const {
  Head head;
  std::size_t j = i;
  if (tokens_[j].is("template")) {
    if (tokens_[j + 1].is("<")) {
      head.is_template = true;
      const std::size_t next = past_angle(tokens_, j + 1);
      head.template_parameters = {j + 2, next - 1};
      j = next;
    } else {
      head.is_instantiation = true;
      ++j;
    }
  }
  head.after_template = j;
  for (; j < end; ++j) {
    const Token& token = tokens_[j];
    if (starts_attribute(tokens_, j)) {
      head.attributes.push_back(j);
      head.is_kernel |= attribute_has(tokens_, j, "kernel");
      j = past_closing(tokens_, j) - 1;
      continue;
    }
    if (token.is("kernel")) head.is_kernel = true;
    if (token.is("vertex") || token.is("fragment")) throw SourceError(token, "only kernels are known here");
    if (token.is("struct") || token.is("class") || token.is("union") || token.is("enum")) {
      head.is_struct = true;
      if (j + 1 < end) head.name = tokens_[j + 1].text;
    }
    if (token.is("decltype")) {
      j = past_closing(tokens_, j + 1) - 1;
      continue;
    }
    if (token.is("<") && j > i && tokens_[j - 1].is_identifier() && !tokens_[j - 1].is("operator")) {
      if (!head.is_struct) head.name = tokens_[j - 1].text;
      j = past_angle(tokens_, j) - 1;
      if (head.is_instantiation) return head;
      continue;
    }
    if (token.is("(")) {
      head.parenthesis = j;
      if (!head.is_struct && tokens_[j - 1].is_identifier()) head.name = tokens_[j - 1].text;
      return head;
    }
    if (token.is("{") || token.is(";") || token.is("=")) return head;
  }
  return head;
}

/// Finds what must be known before anything is written: the names of kernel templates, function constants,
/// and what each function mentions.
void Translator::survey(std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end;) {
    if (tokens_[i].kind == Kind::kDirective || tokens_[i].is(";")) {
      ++i;
      continue;
    }
    if (tokens_[i].is("namespace")) {
      std::size_t brace = i;
      while (brace < end && !tokens_[brace].is("{") && !tokens_[brace].is(";")) ++brace;
      const std::size_t next = tokens_[brace].is("{") ? past_closing(tokens_, brace) : brace + 1;
      if (tokens_[brace].is("{")) survey(brace + 1, next - 1);
      i = next;
      continue;
    }
    const std::size_t next = declaration_end(i, end);
    const Head head = read_head(i, next);
    if (head.is_kernel && !head.is_instantiation && head.parenthesis != 0)
      rewriter_.kernel_templates.insert(head.name);
    if (!head.is_instantiation) functions_.push_back({head.name, {i, next}});
    for (const std::size_t attribute : head.attributes) {
      if (!attribute_argument(tokens_, attribute, "function_constant") || head.parenthesis != 0) continue;
      if (tokens_[attribute - 1].is_identifier())
        rewriter_.function_constants.insert(std::string(tokens_[attribute - 1].text));
    }
    i = next;
  }
}

void Translator::emit_scope(std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end;) {
    if (tokens_[i].kind == Kind::kDirective || tokens_[i].is(";")) {
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
    const std::size_t next = declaration_end(i, end);
    const Head head = read_head(i, next);
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
      return std::any_of(constants_.begin(), constants_.end(),
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
  constants_.push_back(std::move(constant));
  return true;
}

/// Splits at commas outside of brackets and template arguments.
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

std::string Translator::builtin_or_binding(Range range, KernelDefinition& kernel, std::size_t attribute,
                                           const std::string& name) const {
  for (const BuiltinName& builtin : kBuiltins) {
    if (attribute != range.end && attribute_has(tokens_, attribute, builtin.attribute))
      return "::emulator::Builtin::" + std::string(builtin.builtin);
  }
  std::string kind, type;
  for (std::size_t i = range.begin; i < attribute; ++i) {
    const Token& token = tokens_[i];
    if (is_address_space(token)) kind = token.text;
    if (token.is("[")) break;
    if (is_address_space(token) || token.is("const") || token.is("volatile") || token.is("*") ||
        token.is("&") || token.is(name))
      continue;
    type += (type.empty() || !token.is_identifier() ? "" : " ") + std::string(token.text);
  }
  const bool threadgroup = kind == "threadgroup";
  const bool bound = threadgroup || kind == "device" || kind == "constant";
  std::string index;
  if (const auto given =
          attribute == range.end
              ? std::nullopt
              : attribute_argument(tokens_, attribute, threadgroup ? "threadgroup" : "buffer")) {
    index = plain_text(tokens_, *given);
  } else if (bound && attribute == range.end) {
    // The compiler numbers what the source does not, in order and leaving out what the source names.
    std::set<std::string>& taken = kernel.taken[threadgroup ? 1 : 0];
    int free = 0;
    while (taken.contains(std::to_string(free))) ++free;
    index = std::to_string(free);
    taken.insert(index);
  }
  if (index.empty() || !bound) {
    throw SourceError(
        tokens_[range.begin],
        "parameter " + name + " of " + kernel.name +
            " must be a device or constant pointer with [[buffer(n)]], a threadgroup pointer with "
            "[[threadgroup(n)]], or a builtin known to the stand-in");
  }
  std::string condition;
  if (const auto constant = attribute == range.end
                                ? std::nullopt
                                : attribute_argument(tokens_, attribute, "function_constant")) {
    condition = plain_text(tokens_, *constant);
    kernel.conditions.push_back(condition);
  }
  const std::string space = threadgroup ? "kThreadgroup" : kind == "constant" ? "kConstant" : "kDevice";
  return "::emulator::Builtin::kNone, ::emulator::ArgumentKind::" + space + ", " + index + ", " +
         quoted(name) + ", " + quoted(type) + ", " + quoted(condition);
}

std::string Translator::parameter(Range range, KernelDefinition& kernel) {
  std::size_t attribute = range.begin;
  while (attribute < range.end && !starts_attribute(tokens_, attribute)) ++attribute;
  while (range.begin < attribute && tokens_[range.begin].kind == Kind::kDirective) ++range.begin;
  std::size_t name = attribute;  // one past it
  for (std::size_t i = range.begin; i < attribute; ++i) {
    if (tokens_[i].is("[")) name = std::min(name, i);
  }
  if (name == range.begin || !tokens_[name - 1].is_identifier()) {
    throw SourceError(tokens_[range.begin], "a parameter of " + kernel.name + " has no name");
  }
  return "{" + builtin_or_binding(range, kernel, attribute, std::string(tokens_[name - 1].text)) + "}";
}

void Translator::emit_kernel(const Head& head, Range range) {
  KernelDefinition kernel;
  kernel.name = head.name;
  kernel.tokens = range;
  kernel.is_template = head.is_template;
  const std::size_t close = past_closing(tokens_, head.parenthesis);
  for (std::size_t i = head.parenthesis; i < close; ++i) {
    if (!starts_attribute(tokens_, i)) continue;
    if (const auto index = attribute_argument(tokens_, i, "buffer"))
      kernel.taken[0].insert(plain_text(tokens_, *index));
    if (const auto index = attribute_argument(tokens_, i, "threadgroup"))
      kernel.taken[1].insert(plain_text(tokens_, *index));
  }
  for (const Range& part : split_parameters(tokens_, {head.parenthesis + 1, close - 1})) {
    kernel.parameters += (kernel.parameters.empty() ? "" : ",\n      ") + parameter(part, kernel);
  }
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
  kernel_order_.push_back(kernel.name);
  kernels_.emplace(kernel.name, std::move(kernel));
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
    if (tokens_[i].kind == Kind::kDirective) out_ += rewriter_.rewrite({i, i + 1});
  }
  instantiations_.push_back(std::move(instantiation));
}

/// The function constants that a kernel can reach through the functions it names, as initializers.
std::string Translator::constants_of(const KernelDefinition& kernel, Range extra) const {
  std::set<std::string_view> seen, guarded, used;
  std::vector<Range> open = {kernel.tokens, extra};
  const auto visit = [&](Range range) {
    std::set<std::string_view> guarded_here;
    for (std::size_t i = range.begin; i + 2 < range.end; ++i) {
      if (tokens_[i].is("is_function_constant_defined")) guarded_here.insert(tokens_[i + 2].text);
    }
    for (std::size_t i = range.begin; i < range.end; ++i) {
      const std::string_view name = tokens_[i].text;
      if (!tokens_[i].is_identifier()) continue;
      if (rewriter_.function_constants.contains(name)) {
        (guarded_here.contains(name) ? guarded : used).insert(name);
      } else if (seen.insert(name).second) {
        for (const Function& function : functions_) {
          if (function.name == name) open.push_back(function.tokens);
        }
        for (const Constant& constant : constants_) {
          if (constant.name == name) open.push_back(constant.tokens);
        }
      }
    }
  };
  seen.insert(kernel.name);
  while (!open.empty()) {
    const Range range = open.back();
    open.pop_back();
    visit(range);
  }
  for (const std::string& condition : kernel.conditions) used.erase(condition), guarded.insert(condition);
  std::string out;
  for (const Constant& constant : constants_) {
    if (constant.index.empty() || (!used.contains(constant.name) && !guarded.contains(constant.name)))
      continue;
    out += std::string(out.empty() ? "" : ", ") + "{" + constant.index + ", " + quoted(constant.name) +
           ", ::emulator::scalar_type<" + constant.type + ">(), " +
           (used.contains(constant.name) ? "true" : "false") + "}";
  }
  return out;
}

void Translator::emit_entry(std::size_t number, const KernelDefinition& kernel, const std::string& host_name,
                            const std::string& arguments, Range extra) {
  const std::string tag = "emulated_kernel_" + std::to_string(number);
  const std::string all = "<" + tag + (arguments.empty() ? "" : ", " + arguments) + ">";
  out_ += "struct " + tag + " : emulated_parameters_" + kernel.name + " {};\n";
  out_ += "static const ::emulator::KernelEntry<" + tag + ", &" + kernel.name + all + "> emulated_entry_" +
          std::to_string(number) + "(" + quoted(host_name) + ", " + quoted(info_.file) + ", " +
          (kernel.has_max_threads ? "emulated_max_threads_" + kernel.name + all
                                  : "::emulator::kMaxThreadsPerThreadgroup") +
          ", {" + constants_of(kernel, extra) + "}, &emulated_apply_constants);\n";
}

void Translator::emit_tail() {
  out_ += "\n#line 1 \"" + info_.file + " (entries)\"\n";
  out_ +=
      "[[maybe_unused]] static void emulated_apply_constants([[maybe_unused]] const "
      "::emulator::FunctionConstants& emulated_values) {\n";
  for (const Constant& constant : constants_) {
    if (constant.index.empty()) {
      out_ += "  " + constant.name + " = " + constant.type + "(" + constant.initializer + ");\n";
    } else {
      out_ += "  emulated_" + constant.name + "_is_defined = ::emulator::load_constant(emulated_values, " +
              constant.index + ", " + quoted(constant.name) + ", " + constant.name + ");\n";
    }
  }
  out_ += "}\n";
  for (const std::string& name : kernel_order_) {
    const KernelDefinition& kernel = kernels_.at(name);
    std::string shared = "\"\"";
    for (const std::string& variable : kernel.shared_names) shared += ", " + quoted(variable);
    out_ += "struct emulated_parameters_" + name +
            " {\n  static constexpr ::emulator::Parameter kParameters[] = {\n      " + kernel.parameters +
            "};\n  static constexpr const char* kAllNames[] = {" + shared +
            "};\n  static constexpr const char* const* kSharedNames = kAllNames + 1;\n};\n";
  }
  std::size_t number = 0;
  for (const std::string& name : kernel_order_) {
    const KernelDefinition& kernel = kernels_.at(name);
    if (!kernel.is_template)
      emit_entry(number++, kernel, kernel.host_name.empty() ? name : kernel.host_name, "", {});
  }
  for (const Instantiation& instantiation : instantiations_) {
    emit_entry(number++, kernels_.at(instantiation.kernel), instantiation.host_name, instantiation.arguments,
               instantiation.tokens);
  }
  out_ += "static const ::emulator::SourceEntry emulated_source(" + quoted(info_.file) + ", " +
          std::to_string(info_.hash) + "u, " + std::to_string(info_.flat_hash) + "u);\n";
}

}  // namespace

std::string translate(std::string_view preprocessed, const SourceInfo& info) {
  const Tokens tokens = lex(preprocessed);
  return Translator(tokens, info).run();
}

}  // namespace translate
