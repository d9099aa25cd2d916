#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "template/ast.h"
#include "template/engine.h"

namespace candela::jinja {

/// Variables of one scope. Names are the tree's or the caller's.
struct Frame {
  Frame* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables;
  bool captured = false;  // a macro refers to it

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

/// Runs a template once.
class Evaluator {
 public:
  Evaluator(const Limits& limits, std::optional<std::int64_t> now) : runtime_(limits, now) {}
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  Rendering run(const Body& body, const Variables& variables);

 private:
  enum class Flow { Next, Break, Continue };

  /// Where text goes, and what of it {% generation %} encloses. `whole`: it is the rendering itself, whose
  /// memory has a limit of its own.
  struct Output {
    std::string text;
    std::vector<Span> spans{};
    bool whole = false;
  };

  /// A text that a macro or a set block made, with spans of {% generation %} in it, until it is printed as it
  /// is.
  struct Held {
    Value text;
    std::vector<Span> spans;
    bool printed = false;
  };

  /// A scope inside `parent`, given back at the end unless a macro refers to it.
  class Scope {
   public:
    Scope(Evaluator& evaluator, Frame& parent);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    Frame& operator*() const { return *frame_; }
    Frame* operator->() const { return frame_; }

   private:
    Evaluator& evaluator_;
    Frame* frame_;
  };

  // Expressions.
  Value evaluate(const Expression& node, Frame& frame);
  Value evaluate_children(const Expression& node, Frame& frame);
  Value evaluate_compare(const Expression& node, Frame& frame);
  Value evaluate_call(const Expression& node, Frame& frame);
  Value evaluate_item(const Expression& node, Frame& frame);
  Value lookup(const std::string& name, const Frame& frame) const;
  Arguments arguments_of(const CallArguments* arguments, Frame& frame);
  /// The filters of a block on `input`.
  Value filtered(const Expression& filters, const Value& input, Frame& frame);

  // Statements.
  Flow execute(const Body& body, Frame& frame, Output& out);
  Flow execute(const Statement& node, Frame& frame, Output& out);
  void print(const Statement& node, Frame& frame, Output& out);
  Flow branch(const Statement& node, Frame& frame, Output& out);
  void loop(const Statement& node, const Value& items, std::int64_t depth0, Frame& frame, Output& out);
  void with(const Statement& node, Frame& frame, Output& out);
  void scope(const Statement& node, Frame& frame, Output& out);
  void generation(const Statement& node, Frame& frame, Output& out);
  void call_block(const Statement& node, Frame& frame, Output& out);
  void assign(const Expression& target, Value value, Frame& frame);
  Value capture(const Body& body, Frame& frame);
  Value macro(const Statement& node, Frame& frame, const std::string& name);
  Value call_macro(const Statement& node, Frame& frame, const std::string& name, Arguments arguments);
  void emit(std::string_view text, Output& out);
  /// As emit, with the spans of a text that hold() made.
  void emit_value(const Value& text, Output& out);
  Value hold(Output made);

  Runtime runtime_;
  std::vector<std::unique_ptr<Frame>> frames_;
  std::vector<Frame*> free_;
  Frame* root_ = nullptr;
  const Value* filter_input_ = nullptr;
  bool autoescape_ = false;
  /// by the place of the text's bytes
  std::map<const std::string*, Held> held_;
};

}  // namespace candela::jinja
