#include "declaration.h"
#include "kernel_definition.h"

namespace translate {
namespace {

class Entries {
 public:
  Entries(const Tokens& tokens, const SourceInfo& info, const Translation& translation,
          const Rewriter& rewriter)
      : tokens_(tokens), info_(info), translation_(translation), rewriter_(rewriter) {}

  std::string run();

 private:
  void emit_entry(std::size_t number, const KernelDefinition& kernel, const std::string& host_name,
                  const std::string& arguments, Range extra);
  std::string constants_of(const KernelDefinition& kernel, Range extra) const;

  const Tokens& tokens_;
  const SourceInfo& info_;
  const Translation& translation_;
  const Rewriter& rewriter_;
  std::string out_;
};

/// The function constants that a kernel can reach through the functions it names, as initializers.
std::string Entries::constants_of(const KernelDefinition& kernel, Range extra) const {
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
        for (const Function& function : translation_.functions) {
          if (function.name == name) open.push_back(function.tokens);
        }
        for (const Constant& constant : translation_.constants) {
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
  for (const Constant& constant : translation_.constants) {
    if (constant.index.empty() || (!used.contains(constant.name) && !guarded.contains(constant.name)))
      continue;
    out += std::string(out.empty() ? "" : ", ") + "{" + constant.index + ", " + quoted(constant.name) +
           ", ::emulator::scalar_type<" + constant.type + ">(), " +
           (used.contains(constant.name) ? "true" : "false") + "}";
  }
  return out;
}

void Entries::emit_entry(std::size_t number, const KernelDefinition& kernel, const std::string& host_name,
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

std::string Entries::run() {
  // As of a system header: the rules for the language of shaders are not for this.
  out_ += "\n# 1 \"" + info_.file + " (entries)\" 3\n";
  out_ +=
      "[[maybe_unused]] static void emulated_apply_constants([[maybe_unused]] const "
      "::emulator::FunctionConstants& emulated_values) {\n";
  for (const Constant& constant : translation_.constants) {
    if (constant.index.empty()) {
      out_ += "  " + constant.name + " = " + constant.type + "(" + constant.initializer + ");\n";
    } else {
      out_ += "  emulated_" + constant.name + "_is_defined = ::emulator::load_constant(emulated_values, " +
              constant.index + ", " + quoted(constant.name) + ", " + constant.name + ");\n";
    }
  }
  out_ += "}\n";
  for (const std::string& name : translation_.kernel_order) {
    const KernelDefinition& kernel = translation_.kernels.at(name);
    std::string shared = "\"\"";
    for (const std::string& variable : kernel.shared_names) shared += ", " + quoted(variable);
    out_ += "struct emulated_parameters_" + name +
            " {\n  static constexpr ::emulator::Parameter kParameters[] = {\n      " + kernel.parameters +
            "};\n  static constexpr const char* kAllNames[] = {" + shared +
            "};\n  static constexpr const char* const* kSharedNames = kAllNames + 1;\n};\n";
  }
  std::size_t number = 0;
  for (const std::string& name : translation_.kernel_order) {
    const KernelDefinition& kernel = translation_.kernels.at(name);
    if (!kernel.is_template)
      emit_entry(number++, kernel, kernel.host_name.empty() ? name : kernel.host_name, "", {});
  }
  for (const Instantiation& instantiation : translation_.instantiations) {
    emit_entry(number++, translation_.kernels.at(instantiation.kernel), instantiation.host_name,
               instantiation.arguments, instantiation.tokens);
  }
  out_ += "static const ::emulator::SourceEntry emulated_source(" + quoted(info_.file) + ", " +
          std::to_string(info_.hash) + "u, " + std::to_string(info_.flat_hash) + "u);\n";
  return std::move(out_);
}

}  // namespace

std::string entries(const Tokens& tokens, const SourceInfo& info, const Translation& translation,
                    const Rewriter& rewriter) {
  return Entries(tokens, info, translation, rewriter).run();
}

}  // namespace translate
