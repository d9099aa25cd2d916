#include "template/engine.h"

#include <algorithm>
#include <fmt/format.h>

#include "template/evaluator.h"
#include "template/lexer.h"
#include "template/parser.h"
#include "template/text.h"

namespace candela::jinja {
namespace {

bool generates(const Body& body) {
  return std::any_of(body.begin(), body.end(), [](const auto& node) {
    return node->kind == StatementKind::Generation ||
           std::any_of(node->bodies.begin(), node->bodies.end(), generates);
  });
}

}  // namespace

struct Template::Impl {
  std::string name;
  Body body;
  bool has_generation = false;
};

Template Template::parse(std::string_view source, std::string name) {
  require<TemplateError>(source.size() <= kMaxSource, "{}: a template must have at most {} bytes; got {}",
                         name, kMaxSource, source.size());
  require<TemplateError>(valid_utf8(source), "{}: a template must be valid UTF-8", name);
  auto impl = std::make_shared<Impl>();
  try {
    impl->body = jinja::parse(source);
  } catch (const SyntaxFailure& failure) {
    throw TemplateError(fmt::format("{}: line {}: {}", name, failure.line, failure.message));
  } catch (const Failure& failure) {
    throw TemplateError(fmt::format("{}: {}: {}", name, failure.type, failure.message));
  }
  impl->has_generation = generates(impl->body);
  impl->name = std::move(name);
  Template result;
  result.impl_ = std::move(impl);
  return result;
}

Rendering Template::render(const Variables& variables, std::optional<std::int64_t> now,
                           const Limits& limits) const {
  try {
    return Evaluator(limits, now).run(impl_->body, variables);
  } catch (const Failure& failure) {
    const std::string text =
        failure.message.size() > 500 ? failure.message.substr(0, 500) + "..." : failure.message;
    throw TemplateError(fmt::format("{}: line {}: {}: {}", impl_->name, failure.line, failure.type, text));
  }
}

bool Template::has_generation() const {
  return impl_->has_generation;
}
const std::string& Template::name() const {
  return impl_->name;
}

}  // namespace candela::jinja
